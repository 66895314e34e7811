//! The parser of what is written to `/dev/pidlist`, as the module compiles it.

#[path = "../text.rs"]
mod text;

use proptest::prelude::*;
use text::{is_cut, words, NotAPid, Word};

const LAST: u32 = 1 << 22;

fn parse(text: &str) -> Result<Vec<Word>, NotAPid> {
    words(text.as_bytes(), LAST).collect()
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
    ] {
        assert_eq!(parse(text), Err(NotAPid), "{text:?}");
    }
}

#[test]
fn a_text_that_ends_within_a_word_may_be_cut() {
    assert!(is_cut(b"1") && is_cut(b"1 !"));
    assert!(!is_cut(b"") && !is_cut(b"1\n") && !is_cut(b"1 "));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_pids_in_range(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for word in words(&bytes, LAST).flatten() {
            let (Word::Add(pid) | Word::Remove(pid)) = word;
            prop_assert!((1..=LAST).contains(&pid));
        }
    }

    #[test]
    fn what_is_printed_is_read(pids in prop::collection::vec((1..=LAST, any::<bool>()), 0..50)) {
        let text: String =
            pids.iter().map(|(pid, add)| format!("{}{pid}\n", if *add { "" } else { "!" })).collect();
        let read: Vec<Word> = pids
            .iter()
            .map(|&(pid, add)| if add { Word::Add(pid) } else { Word::Remove(pid) })
            .collect();
        prop_assert_eq!(parse(&text), Ok(read));
    }
}
