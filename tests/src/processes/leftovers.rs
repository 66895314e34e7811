//! What is left of a `pidlist` that is gone.

use anyhow::{Result, ensure};

use super::Watching;
use crate::Test;
use crate::run::until;
use crate::sys::bpf::Count;
use crate::sys::task::brief_child;

pub const TESTS: &[(&str, Test)] = &[(
    "lives: kill -9 of one that watches leaves nothing in the kernel",
    killed,
)];

fn killed() -> Result<()> {
    // Those of earlier tests may still be on their way out.
    let mut before = Count::now()?;
    until("the kernel has freed what was left before", || {
        let earlier = std::mem::replace(&mut before, Count::now()?);
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(earlier == before)
    })?;
    for command in ["ps", "watch"] {
        let watching = Watching::start(&[command])?;
        let during = Count::now()?;
        ensure!(
            during.links >= before.links + 3
                && during.programs > before.programs
                && during.maps > before.maps,
            "{command} has attached to nothing: {during:?}, before {before:?}"
        );
        brief_child()?;
        // Its drop is a SIGKILL.
        drop(watching);
        let mut now = during;
        until("nothing is left", || {
            now = Count::now()?;
            Ok(now == before)
        })?;
    }
    Ok(())
}
