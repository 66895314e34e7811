//! What a client asks.

use serde::{Deserialize, Serialize};

/// Most bytes of a request.
pub const MAX_REQUEST: usize = 64 << 10;

/// Most users and processes in a filter, and most bytes of a name in it.
pub const MAX_FILTER: usize = 1024;

/// A request, see the [protocol](crate::protocol).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The first one: who speaks, and which version.
    Hello {
        /// Version of the protocol.
        protocol: u32,
        /// Name and version of the program, for the log.
        client: String,
    },
    /// Every process, the exited ones included.
    Snapshot {
        /// Those alone that live.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        alive: bool,
    },
    /// The newest process of this pid.
    Get {
        /// In the initial pid namespace.
        pid: u32,
    },
    /// The newest process of this pid, its parent, and so on.
    Ancestors {
        /// In the initial pid namespace.
        pid: u32,
    },
    /// Processes that lived at some time since then.
    History {
        /// Nanoseconds of `CLOCK_BOOTTIME`.
        since_ns: u64,
    },
    /// Counters.
    Stats {},
    /// Every change from now on.
    Subscribe {
        /// Which of them.
        #[serde(default)]
        filter: Filter,
    },
    /// Take in this process now, if the cache does not have it.
    Preload {
        /// In the initial pid namespace.
        pid: u32,
    },
    /// Settings, and where they come from.
    Config {},
}

/// Which changes a subscriber wants: all conditions must hold, an empty one always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Filter {
    /// Of these processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// Of processes of these real users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<u32>,
    /// Of processes whose name or path contains this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<Kind>,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was made.
    Fork,
    /// It runs a new program.
    Exec,
    /// It has exited.
    Exit,
    /// A walk found it; no event had told of it.
    Found,
    /// A walk did not find it any more; no event had told of its exit.
    Gone,
    /// A walk found it though it had been taken for dead.
    Revived,
}

impl Request {
    /// Reads the JSON of a frame.
    ///
    /// # Errors
    ///
    /// It is no request; the error says where and why.
    pub fn parse(frame: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_written_as_the_protocol_says() {
        for (text, request) in [
            (
                r#"{"hello":{"protocol":1,"client":"x 1"}}"#,
                Request::Hello {
                    protocol: 1,
                    client: "x 1".into(),
                },
            ),
            (r#"{"snapshot":{}}"#, Request::Snapshot { alive: false }),
            (
                r#"{"snapshot":{"alive":true}}"#,
                Request::Snapshot { alive: true },
            ),
            (r#"{"get":{"pid":7}}"#, Request::Get { pid: 7 }),
            (
                r#"{"history":{"since_ns":5}}"#,
                Request::History { since_ns: 5 },
            ),
            (
                r#"{"subscribe":{"filter":{"uids":[0],"what":["exec"]}}}"#,
                Request::Subscribe {
                    filter: Filter {
                        uids: vec![0],
                        what: vec![Kind::Exec],
                        ..Filter::default()
                    },
                },
            ),
        ] {
            assert_eq!(Request::parse(text.as_bytes()).unwrap(), request);
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
        assert_eq!(
            Request::parse(br#"{"subscribe":{}}"#).unwrap(),
            Request::Subscribe {
                filter: Filter::default()
            }
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            "\"stats\"",
            r#"{"stats":{}}x"#,
            r#"{"stats":{"more":1}}"#,
            r#"{"get":{}}"#,
            r#"{"get":{"pid":-1}}"#,
            r#"{"get":{"pid":4294967296}}"#,
            r#"{"get":{"pid":1,"pid":2}}"#,
            r#"{"get":{"pid":1},"stats":{}}"#,
            r#"{"subscribe":{"filter":{"users":[]}}}"#,
            r#"{"forget":{"pid":1}}"#,
            "\u{feff}{}",
        ] {
            assert!(Request::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = [b"[".repeat(60_000), b"]".repeat(60_000)].concat();
        assert!(Request::parse(&deep).is_err());
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let kinds = proptest::sample::subsequence(
            vec![
                Kind::Fork,
                Kind::Exec,
                Kind::Exit,
                Kind::Found,
                Kind::Gone,
                Kind::Revived,
            ],
            0..=6,
        );
        let filter = (any::<Vec<u32>>(), any::<Vec<u32>>(), any::<String>(), kinds).prop_map(
            |(pids, uids, name, what)| Filter {
                pids,
                uids,
                name,
                what,
            },
        );
        prop_oneof![
            (any::<u32>(), any::<String>())
                .prop_map(|(protocol, client)| Request::Hello { protocol, client }),
            any::<bool>().prop_map(|alive| Request::Snapshot { alive }),
            any::<u32>().prop_map(|pid| Request::Get { pid }),
            any::<u32>().prop_map(|pid| Request::Ancestors { pid }),
            any::<u64>().prop_map(|since_ns| Request::History { since_ns }),
            Just(Request::Stats {}),
            filter.prop_map(|filter| Request::Subscribe { filter }),
            any::<u32>().prop_map(|pid| Request::Preload { pid }),
            Just(Request::Config {}),
        ]
    }

    proptest! {
        #[test]
        fn every_request_survives_the_wire(request in any_request()) {
            let text = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(Request::parse(&text).unwrap(), request);
        }

        #[test]
        fn garbage_is_refused_in_peace(garbage in any::<Vec<u8>>(), request in any_request(), at in any::<prop::sample::Index>()) {
            let _ = Request::parse(&garbage);
            // A request cut short is none.
            let text = serde_json::to_vec(&request).unwrap();
            prop_assert!(Request::parse(&text[..at.index(text.len())]).is_err());
        }
    }
}
