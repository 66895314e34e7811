//! Lives to test with.

use proptest::prelude::*;

use crate::{End, How, Life};

pub fn life(pid: u32, parent: Option<usize>, start_ns: u64, end_ns: u64) -> Life {
    Life {
        pid,
        parent,
        start_ns,
        end: Some(End {
            at_ns: end_ns,
            how: How::Code(0),
        }),
        execs: Vec::new(),
        name: format!("p{pid}"),
        command: format!("p{pid} --now"),
        uid: 0,
        cpu_ns: 0,
    }
}

/// Any lives at all: parents that are none, lives that end before they start, cycles.
pub fn lives() -> impl Strategy<Value = Vec<Life>> {
    let end = prop_oneof![
        Just(None),
        (0..1200_u64, 0..3_u32).prop_map(|(at_ns, code)| Some(End {
            at_ns,
            how: How::Code(code),
        })),
        (0..1200_u64).prop_map(|at_ns| Some(End {
            at_ns,
            how: How::Signal("SIGKILL".into()),
        })),
    ];
    let one = (any::<u8>(), prop::option::of(0..80_usize), 0..1100_u64, end);
    prop::collection::vec(one, 0..80).prop_map(|lives| {
        let life = |(pid, parent, start_ns, end)| Life {
            end,
            ..life(u32::from(pid) + 1, parent, start_ns, 0)
        };
        lives.into_iter().map(life).collect()
    })
}
