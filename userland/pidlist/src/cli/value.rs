//! Values as they are typed.

use std::time::Duration;

pub use pidlist_config::{parse_duration as duration, parse_size as size};
use pidlist_pidset::{Pids, Word, check_name};

/// The largest pid that any Linux gives: `PID_MAX_LIMIT` of `include/linux/threads.h`.
const PID_MAX_LIMIT: u32 = 4 << 20;

/// A process id.
pub fn pid(text: &str) -> Result<u32, String> {
    let number: i64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match u32::try_from(number) {
        Ok(0) => Err("0 is no process".into()),
        Err(_) if number < 0 => Err("a process id is never negative".into()),
        Ok(pid) if pid <= PID_MAX_LIMIT => Ok(pid),
        _ => Err(format!(
            "beyond {PID_MAX_LIMIT}, the largest process id there is"
        )),
    }
}

/// `PID` or `FIRST-LAST`.
pub fn pids(text: &str) -> Result<Pids, String> {
    let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        return pid(text).map(Pids::One);
    };
    let end = |text: &str| pid(text).map_err(|error| format!("{text:?}: {error}"));
    let (first, last) = (end(first)?, end(last)?);
    if first > last {
        return Err("the range ends before it begins".into());
    }
    Ok(Pids::Range(first, last))
}

/// [`pids`], with a `!` before those to remove.
pub fn word(text: &str) -> Result<Word, String> {
    match text.strip_prefix('!') {
        Some(text) => pids(text).map(Word::Remove),
        None => pids(text).map(Word::Add),
    }
}

/// The name of a list.
pub fn list_name(text: &str) -> Result<String, String> {
    match check_name(text) {
        Ok(()) => Ok(text.into()),
        Err(error) => Err(error.to_string()),
    }
}

/// [`duration`], not so short that looking is all that is done.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_millis(100) => Err("100ms is the shortest".into()),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_checked() {
        assert_eq!(pid("4194304"), Ok(4_194_304));
        for bad in [
            "",
            "x",
            "0",
            "-1",
            "4194305",
            "99999999999999999999",
            "1.5",
            "0x10",
        ] {
            assert!(pid(bad).is_err(), "{bad}");
            assert!(word(bad).is_err(), "{bad}");
            assert!(word(&format!("!{bad}")).is_err(), "!{bad}");
        }
    }

    #[test]
    fn words_add_and_remove() {
        assert_eq!(word("12"), Ok(Word::Add(Pids::One(12))));
        assert_eq!(word("!12"), Ok(Word::Remove(Pids::One(12))));
        assert_eq!(word("12-15"), Ok(Word::Add(Pids::Range(12, 15))));
        assert_eq!(word("!7-7"), Ok(Word::Remove(Pids::Range(7, 7))));
        assert_eq!(word("1-4194304"), Ok(Word::Add(Pids::Range(1, 4_194_304))));
        for bad in [
            "!",
            "!!5",
            "5!",
            "5-",
            "-5",
            "5-4",
            "0-4",
            "5-x",
            "1-2-3",
            "5--6",
            "-5-6",
            "1-4194305",
            " 5",
            "5 6",
            "5,6",
            "5..6",
        ] {
            assert!(word(bad).is_err(), "{bad}");
        }
        assert_eq!(pids("5-4").unwrap_err(), "the range ends before it begins");
        assert!(pids("-5").unwrap_err().contains("never negative"));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert!(duration("5").unwrap_err().contains("like 5s"));
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [
            ("32768", 32_768),
            ("256K", 256 << 10),
            ("256k", 256 << 10),
            ("1MiB", 1 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "-1", "1.5M", "1X", "1KB", "1 M", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
