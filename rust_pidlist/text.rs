//! The text that `/dev/pidlist` takes: white-space separated words, each `PID` or `FIRST-LAST` to add,
//! or one of these behind a `!` to remove.
//!
//! Plain `core` Rust: the tests run it on the host.

/// A word that is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPid;

/// What a word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `PID`
    Add(u32),
    /// `!PID`
    Remove(u32),
    /// `FIRST-LAST`, in this order
    AddRange(u32, u32),
    /// `!FIRST-LAST`
    RemoveRange(u32, u32),
}

/// The words of `text`, with pids of `1..=last`.
pub fn words(text: &[u8], last: u32) -> impl Iterator<Item = Result<Word, NotAPid>> + '_ {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(move |word| match word.strip_prefix(b"!") {
            Some(pids) => parse(pids, last, Word::Remove, Word::RemoveRange),
            None => parse(word, last, Word::Add, Word::AddRange),
        })
}

/// Whether `text` may end in the middle of a word.
pub fn is_cut(text: &[u8]) -> bool {
    text.last().is_some_and(|byte| !byte.is_ascii_whitespace())
}

fn parse(
    pids: &[u8],
    last: u32,
    one: fn(u32) -> Word,
    range: fn(u32, u32) -> Word,
) -> Result<Word, NotAPid> {
    let Some(dash) = pids.iter().position(|&b| b == b'-') else {
        return pid(pids, last).map(one);
    };
    let (from, to) = (pid(&pids[..dash], last)?, pid(&pids[dash + 1..], last)?);
    if from > to {
        return Err(NotAPid);
    }
    Ok(range(from, to))
}

fn pid(digits: &[u8], last: u32) -> Result<u32, NotAPid> {
    // `u32::from_str` would take a sign.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotAPid);
    }
    let pid = digits
        .iter()
        .try_fold(0u32, |n, d| {
            n.checked_mul(10)?.checked_add(u32::from(d - b'0'))
        })
        .ok_or(NotAPid)?;
    if (1..=last).contains(&pid) {
        Ok(pid)
    } else {
        Err(NotAPid)
    }
}
