//! The text that the module takes.

#![no_main]

#[path = "../../../rust_pidlist/text.rs"]
mod text;

use libfuzzer_sys::fuzz_target;
use reference::Meaning;
use text::{NotAPid, Word, is_cut, words};

fn meant(word: Result<Word, NotAPid>) -> Option<Meaning> {
    let (remove, first, last) = match word.ok()? {
        Word::Add(pid) => (false, pid, None),
        Word::Remove(pid) => (true, pid, None),
        Word::AddRange(first, last) => (false, first, Some(last)),
        Word::RemoveRange(first, last) => (true, first, Some(last)),
    };
    Some(Meaning {
        remove,
        first,
        last,
    })
}

fn parsed(text: &[u8], limit: u32) -> Vec<Option<Meaning>> {
    words(text, limit).map(meant).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    // The module's own, one that a text can easily be beyond, and the edges.
    let limit = [(1 << 30) - 1, 300, 1, u32::MAX][usize::from(choice % 4)];
    let all = parsed(text, limit);
    assert_eq!(all, reference::words(text, limit));
    // A text that is not cut within a word means the same in two pieces.
    let (head, tail) = text.split_at(usize::from(choice / 4).min(text.len()));
    if !is_cut(head) {
        assert_eq!(all, [parsed(head, limit), parsed(tail, limit)].concat());
    }
    // A word is never cut at its end by more blanks.
    assert!(!is_cut(&[text, b"\n"].concat()));
});
