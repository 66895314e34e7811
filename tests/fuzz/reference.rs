//! What a text for `/dev/pidlist` and a list's name mean, spelled out letter by letter: what the
//! parsers are held against.

/// What a word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub remove: bool,
    pub first: u32,
    /// Of a range.
    pub last: Option<u32>,
}

/// The words of a text, with pids up to `limit`: what each means, or none.
pub fn words(text: &[u8], limit: u32) -> Vec<Option<Meaning>> {
    let mut words = Vec::new();
    let mut word = Vec::new();
    for &byte in text.iter().chain(b" ") {
        match byte {
            b'\t' | b'\n' | 0x0c | b'\r' | b' ' => {
                if !word.is_empty() {
                    words.push(meaning(&word, limit));
                    word.clear();
                }
            }
            _ => word.push(byte),
        }
    }
    words
}

/// What one word means.
pub fn meaning(word: &[u8], limit: u32) -> Option<Meaning> {
    #[derive(PartialEq)]
    enum At {
        Start,
        Mark,
        First,
        Dash,
        Last,
    }

    let mut at = At::Start;
    let (mut remove, mut first, mut last) = (false, 0u64, 0u64);
    let append = |number: &mut u64, digit: u8| {
        *number = number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
    };
    for &byte in word {
        at = match (at, byte) {
            (At::Start, b'!') => {
                remove = true;
                At::Mark
            }
            (At::Start | At::Mark | At::First, b'0'..=b'9') => {
                append(&mut first, byte);
                At::First
            }
            (At::First, b'-') => At::Dash,
            (At::Dash | At::Last, b'0'..=b'9') => {
                append(&mut last, byte);
                At::Last
            }
            _ => return None,
        };
    }
    let is_range = match at {
        At::First => false,
        At::Last => true,
        _ => return None,
    };
    let fits = |pid: u64| {
        u32::try_from(pid)
            .ok()
            .filter(|pid| *pid >= 1 && *pid <= limit)
    };
    let first = fits(first)?;
    let last = if is_range {
        Some(fits(last).filter(|last| *last >= first)?)
    } else {
        None
    };
    Some(Meaning {
        remove,
        first,
        last,
    })
}

/// Whether a list may be called so.
pub fn is_a_name(name: &[u8]) -> bool {
    for (i, &byte) in name.iter().enumerate() {
        let good = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => true,
            b'.' | b'_' | b'-' | b':' | b'@' | b'+' => i > 0,
            _ => false,
        };
        if !good {
            return false;
        }
    }
    !name.is_empty() && name.len() <= 63
}
