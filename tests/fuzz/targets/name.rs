//! Names of lists, as the module and the library take them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let is_a_name = reference::is_a_name(input);
    assert_eq!(pidlist_abi::pidset::name_is_valid(input), is_a_name);
    if let Ok(text) = std::str::from_utf8(input) {
        match pidlist_pidset::check_name(text) {
            Ok(()) => assert!(is_a_name),
            Err(error) => {
                assert!(!is_a_name);
                // It can be printed on a terminal, whatever was typed.
                assert!(!error.to_string().contains(|c: char| c.is_control()));
            }
        }
    }
});
