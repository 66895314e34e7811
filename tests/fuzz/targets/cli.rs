//! Values as they are typed: what the CLI makes of a word, the module reads back.

#![no_main]

#[path = "../../../userland/pidlist/src/cli/value.rs"]
mod value;

use libfuzzer_sys::fuzz_target;
use pidlist_pidset::{Pids, Word};
use reference::Meaning;

/// The largest pid that the CLI takes.
const LIMIT: u32 = 4 << 20;

fn meant(word: Word) -> Meaning {
    let (first, last) = match word.pids() {
        Pids::One(pid) => (pid, None),
        Pids::Range(first, last) => (first, Some(last)),
    };
    Meaning {
        remove: matches!(word, Word::Remove(_)),
        first,
        last,
    }
}

fuzz_target!(|text: &str| {
    let by_module = reference::meaning(text.as_bytes(), LIMIT);
    match value::word(text) {
        Ok(word) => {
            let printed = reference::meaning(word.to_string().as_bytes(), LIMIT);
            assert_eq!(printed, Some(meant(word)));
            // A plus is the one thing that is read here and not there.
            assert!(by_module == printed || text.contains('+'), "{text:?}");
        }
        Err(_) => assert_eq!(by_module, None, "{text:?}"),
    }
    assert_eq!(
        value::list_name(text).is_ok(),
        reference::is_a_name(text.as_bytes())
    );
    if let Ok(size) = value::size(text) {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number: u64 = digits.parse().expect("a size has digits");
        assert!(size == 0 || size.is_multiple_of(number), "{text:?}: {size}");
    }
    let _ = value::duration(text);
});
