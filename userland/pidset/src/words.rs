//! What to add and to remove in one step.

use std::fmt;
use std::ops::RangeInclusive;

/// Pids that a [`Word`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pids {
    /// This one, which must live to be added.
    One(u32),
    /// Those from the first to the last that live (to add) or are members (to remove), none perhaps.
    Range(u32, u32),
}

impl From<u32> for Pids {
    fn from(pid: u32) -> Self {
        Self::One(pid)
    }
}

impl From<RangeInclusive<u32>> for Pids {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self::Range(*range.start(), *range.end())
    }
}

/// One change of those that [`PidSet::apply`](crate::PidSet::apply) makes in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `PID`, `FIRST-LAST`.
    Add(Pids),
    /// `!PID`, `!FIRST-LAST`.
    Remove(Pids),
}

impl Word {
    /// Those that it means.
    #[must_use]
    pub fn pids(self) -> Pids {
        match self {
            Self::Add(pids) | Self::Remove(pids) => pids,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Remove(_) = self {
            f.write_str("!")?;
        }
        match self.pids() {
            Pids::One(pid) => write!(f, "{pid}"),
            Pids::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// The words as the device takes them: with a blank behind each, so that none seems cut off.
pub(crate) fn text(words: &[Word]) -> String {
    words.iter().map(|word| format!("{word}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_device() {
        let words = [
            Word::Add(7.into()),
            Word::Remove(8.into()),
            Word::Add((1..=9).into()),
            Word::Remove((2..=2).into()),
        ];
        assert_eq!(text(&words), "7\n!8\n1-9\n!2-2\n");
    }

    #[test]
    fn the_most_words_fit_into_one_write() {
        let longest = Word::Remove((1_073_741_822..=1_073_741_823).into());
        let most = vec![longest; pidlist_abi::pidset::BATCH_MAX as usize];
        assert!(text(&most).len() <= 128 << 10);
    }
}
