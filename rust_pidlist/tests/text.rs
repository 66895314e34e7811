//! The parser of what is written to `/dev/pidlist`, as the module compiles it.

#[path = "../../tests/fuzz/reference.rs"]
#[expect(dead_code, reason = "names are the fuzzer's")]
mod reference;
#[path = "../text.rs"]
mod text;

use proptest::prelude::*;
use reference::Meaning;
use text::{is_cut, words, NotAPid, Word};

const LAST: u32 = 1 << 22;

fn parse(text: &str) -> Result<Vec<Word>, NotAPid> {
    words(text.as_bytes(), LAST).collect()
}

/// Every word of a text, those that are none included.
fn meanings(text: &[u8]) -> Vec<Option<Meaning>> {
    let meaning = |word| {
        let (remove, first, last) = match word {
            Word::Add(pid) => (false, pid, None),
            Word::Remove(pid) => (true, pid, None),
            Word::AddRange(first, last) => (false, first, Some(last)),
            Word::RemoveRange(first, last) => (true, first, Some(last)),
        };
        Meaning {
            remove,
            first,
            last,
        }
    };
    words(text, LAST)
        .map(|word| word.ok().map(meaning))
        .collect()
}

#[test]
fn words_and_their_order() {
    assert_eq!(parse(""), Ok(vec![]));
    assert_eq!(parse(" \n\t "), Ok(vec![]));
    assert_eq!(
        parse("12\n!13 012"),
        Ok(vec![Word::Add(12), Word::Remove(13), Word::Add(12)])
    );
    assert_eq!(parse("4194304"), Ok(vec![Word::Add(LAST)]));
}

#[test]
fn ranges_and_their_ends() {
    assert_eq!(
        parse("1-4194304 !7-7\r\n5-010"),
        Ok(vec![
            Word::AddRange(1, LAST),
            Word::RemoveRange(7, 7),
            Word::AddRange(5, 10)
        ])
    );
}

#[test]
fn what_is_no_pid() {
    for text in [
        "0",
        "!0",
        "!",
        "!!1",
        "-1",
        "+1",
        "1x",
        "x",
        "1,2",
        "4194305",
        "4294967297",
        "\u{b2}",
        "18446744073709551617",
        "1!",
        "1\0",
        "\u{b}1",
    ] {
        assert_eq!(parse(text), Err(NotAPid), "{text:?}");
    }
}

#[test]
fn what_is_no_range() {
    for text in [
        "-",
        "!-",
        "1-",
        "!1-",
        "-1",
        "!-1",
        "0-1",
        "2-1",
        "!2-1",
        "1--2",
        "1-2-3",
        "1-!2",
        "1-+2",
        "!1-!2",
        "1-x",
        "x-1",
        "1-4194305",
        "1-4294967297",
        "4194305-4194306",
        "1..2",
    ] {
        assert_eq!(parse(text), Err(NotAPid), "{text:?}");
    }
}

#[test]
fn a_text_that_ends_within_a_word_may_be_cut() {
    assert!(is_cut(b"1") && is_cut(b"1 !") && is_cut(b"1-"));
    assert!(!is_cut(b"") && !is_cut(b"1\n") && !is_cut(b"1 ") && !is_cut(b"1-2\t"));
}

/// Bytes of which words are made, more or less.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"0123456789".to_vec()),
        4 => prop::sample::select(b"! \n-\t".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_mean_what_the_reference_says(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(meanings(&bytes), reference::words(&bytes, LAST));
    }

    #[test]
    fn likely_bytes_mean_what_the_reference_says(bytes in likely_bytes()) {
        prop_assert_eq!(meanings(&bytes), reference::words(&bytes, LAST));
    }

    #[test]
    fn two_pieces_mean_the_same_as_one(bytes in likely_bytes(), at in any::<prop::sample::Index>()) {
        let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
        if !is_cut(head) {
            prop_assert_eq!(meanings(&bytes), [meanings(head), meanings(tail)].concat());
        }
    }

    #[test]
    fn what_is_printed_is_read(
        changes in prop::collection::vec((1..=LAST, 1..=LAST, any::<bool>(), any::<bool>()), 0..50)
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (a, b, add, range) in changes {
            let (first, last) = (a.min(b), a.max(b));
            let mark = if add { "" } else { "!" };
            if range {
                text += &format!("{mark}{first}-{last}\n");
            } else {
                text += &format!("{mark}{first}\n");
            }
            expected.push(match (add, range) {
                (true, true) => Word::AddRange(first, last),
                (false, true) => Word::RemoveRange(first, last),
                (true, false) => Word::Add(first),
                (false, false) => Word::Remove(first),
            });
        }
        prop_assert_eq!(parse(&text), Ok(expected));
    }
}
