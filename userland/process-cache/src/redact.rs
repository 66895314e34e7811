//! Keeping secrets out of what is stored.

use wildmatch::WildMatch;

/// Which variables of an environment have values that nobody is to see.
#[derive(Clone, Debug, Default)]
pub struct Redact {
    patterns: Vec<WildMatch>,
}

impl Redact {
    /// Names, in upper or lower case, in which `*` stands for any text and `?` for any character.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Self {
        let patterns = patterns.into_iter();
        Self {
            patterns: patterns
                .map(|pattern| WildMatch::new_case_insensitive(pattern.as_ref()))
                .collect(),
        }
    }

    /// The block of `NAME=value` with a NUL behind each, in which `***` stands for the values of the
    /// variables that match. Names, order and what is no variable stay.
    #[must_use]
    pub fn apply(&self, block: &[u8]) -> Vec<u8> {
        let mut redacted = Vec::with_capacity(block.len());
        for entry in block.split_inclusive(|byte| *byte == 0) {
            match entry.iter().position(|byte| *byte == b'=') {
                Some(equals) if self.matches(&entry[..equals]) => {
                    redacted.extend_from_slice(&entry[..=equals]);
                    redacted.extend_from_slice(b"***");
                    redacted.extend(entry.last().filter(|byte| **byte == 0));
                }
                _ => redacted.extend_from_slice(entry),
            }
        }
        redacted
    }

    fn matches(&self, name: &[u8]) -> bool {
        let name = String::from_utf8_lossy(name);
        self.patterns.iter().any(|pattern| pattern.matches(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_matching_names_are_hidden() {
        let redact = Redact::new(["*TOKEN*", "AWS_*", "PIN"]);
        assert_eq!(
            redact.apply(b"A=1\0GH_TOKEN=x=y\0aws_key=\0PINE=2\0PIN=\xff\n3\0TOKEN\0=TOKEN\0\0"),
            b"A=1\0GH_TOKEN=***\0aws_key=***\0PINE=2\0PIN=***\0TOKEN\0=TOKEN\0\0"
        );
    }

    #[test]
    fn a_cut_value_is_hidden_too() {
        let redact = Redact::new(["*"]);
        assert_eq!(redact.apply(b"A=1\0B=sec"), b"A=***\0B=***");
        assert_eq!(redact.apply(b""), b"");
    }

    #[test]
    fn a_name_that_is_no_text_is_matched() {
        assert_eq!(
            Redact::new(["*KEY"]).apply(b"\xff_KEY=1\0"),
            b"\xff_KEY=***\0"
        );
    }

    #[test]
    fn without_names_all_is_shown() {
        assert_eq!(Redact::default().apply(b"TOKEN=1\0"), b"TOKEN=1\0");
    }
}
