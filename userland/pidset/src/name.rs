//! Names of lists.

use pidlist_abi::pidset as abi;

use crate::Error;

/// Why no list can be called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot be a list's name: {why}; a name is 1 to {max} of A-Z a-z 0-9 . _ - : @ +, \
     the first a letter or digit", max = abi::NAME_LEN - 1
)]
pub struct BadName {
    /// The name given.
    pub name: String,
    /// What is wrong with it.
    pub why: WhyBadName,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyBadName {
    /// It has no characters.
    #[error("it is empty")]
    Empty,
    /// It has so many bytes.
    #[error("it has {0} characters")]
    TooLong(usize),
    /// It begins with this one.
    #[error("it begins with {0:?}")]
    Begins(char),
    /// It contains this one.
    #[error("it contains {0:?}")]
    Contains(char),
}

/// Says why no list can be called `name`, if so.
///
/// # Errors
///
/// [`BadName`].
pub fn check_name(name: &str) -> Result<(), BadName> {
    if abi::name_is_valid(name.as_bytes()) {
        return Ok(());
    }
    let strange = |c: &char| !c.is_ascii_alphanumeric() && !"._-:@+".contains(*c);
    let why = match name.chars().next() {
        None => WhyBadName::Empty,
        Some(first) => match name.chars().find(strange) {
            Some(strange) => WhyBadName::Contains(strange),
            None if name.len() >= abi::NAME_LEN => WhyBadName::TooLong(name.len()),
            None => WhyBadName::Begins(first),
        },
    };
    Err(BadName {
        name: name.into(),
        why,
    })
}

/// As the kernel takes it.
pub(crate) fn pack(name: &str) -> Result<abi::Name, Error> {
    check_name(name)?;
    let mut packed = [0; abi::NAME_LEN];
    packed[..name.len()].copy_from_slice(name.as_bytes());
    Ok(packed)
}

/// As the kernel gave it.
pub(crate) fn unpack(name: &abi::Name) -> String {
    let end = name.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_told_why() {
        let long = "a".repeat(64);
        for (name, why) in [
            ("", WhyBadName::Empty),
            (&long, WhyBadName::TooLong(64)),
            (".web", WhyBadName::Begins('.')),
            ("-web", WhyBadName::Begins('-')),
            ("we b", WhyBadName::Contains(' ')),
            ("wéb", WhyBadName::Contains('é')),
            ("a/b", WhyBadName::Contains('/')),
            ("a\nb", WhyBadName::Contains('\n')),
            ("a\0", WhyBadName::Contains('\0')),
        ] {
            assert_eq!(check_name(name).unwrap_err().why, why, "{name:?}");
        }
        let text = check_name("a\nb").unwrap_err().to_string();
        assert!(text.starts_with(r#""a\nb" cannot be a list's name: it contains '\n'; "#));
    }

    #[test]
    fn a_good_name_comes_back() {
        let long = "a".repeat(63);
        for name in ["a", "0", "web-1.x:y@z+_", &long, "default"] {
            assert_eq!(unpack(&pack(name).unwrap()), name);
        }
        assert_eq!(unpack(&[b'a'; abi::NAME_LEN]).len(), abi::NAME_LEN);
    }
}
