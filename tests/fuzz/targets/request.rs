//! Requests to the daemon, as any client may send them.

#![no_main]

#[path = "../../../userland/daemon/src/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;
use request::{MAX_REQUEST, Request};

fuzz_target!(|frame: &[u8]| {
    assert!(frame.len() <= MAX_REQUEST);
    match Request::parse(frame) {
        Ok(request) => {
            // What was understood is said again in a way that means the same.
            let again = serde_json::to_vec(&request).expect("a request is JSON");
            assert_eq!(Request::parse(&again).expect("a request is read"), request);
        }
        Err(error) => {
            // It can be told to the client in one frame, whatever was sent.
            let told = serde_json::to_vec(&error.to_string()).expect("text is JSON");
            assert!(told.len() <= 8 * MAX_REQUEST);
        }
    }
});
