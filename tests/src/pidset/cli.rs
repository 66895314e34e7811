//! The default list through the CLI.

use anyhow::{Result, ensure};

use super::{gone, has_members, start};
use crate::Test;
use crate::run::pidlist;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "cli: it adds, asks, lists, removes and clears",
        the_cli_does_it_all,
    ),
    (
        "cli: it refuses what is no process",
        the_cli_refuses_what_is_no_process,
    ),
];

fn the_cli_does_it_all() -> Result<()> {
    let device = start()?;
    let (a, b) = (Idle::new()?, Idle::new()?);
    let (a, b) = (a.pid().to_string(), b.pid().to_string());
    pidlist(["has", &a])?.expect(1)?;
    pidlist(["add", &a, &b])?.expect(0)?;
    pidlist(["has", &a])?.expect(0)?;
    let listed = pidlist(["list"])?.expect(0)?;
    ensure!(
        listed.stdout.contains(&a) && listed.stdout.contains(&b),
        "{listed:?}"
    );
    pidlist(["rm", &a])?.expect(0)?;
    pidlist(["has", &a])?.expect(1)?;
    pidlist(["has", &b])?.expect(0)?;
    let json: serde_json::Value =
        serde_json::from_str(&pidlist(["list", "--json"])?.expect(0)?.stdout)?;
    ensure!(json.to_string().contains(&b), "{json}");
    pidlist(["clear"])?.expect(0)?;
    has_members(&device, [])
}

fn the_cli_refuses_what_is_no_process() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let (pid, gone) = (process.pid().to_string(), gone()?.to_string());
    for wrong in [
        "x",
        "0",
        "-1",
        "1.5",
        "",
        "1073741824",
        "99999999999",
        &gone,
    ] {
        for command in ["add", "rm", "has"] {
            if wrong == gone && command != "add" {
                continue;
            }
            let ran = pidlist([command, wrong])?.expect(2)?;
            ensure!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
        }
        pidlist(["add", &pid, wrong])?.expect(2)?;
        has_members(&device, [])?;
    }
    let refused = pidlist(["add", &gone])?;
    ensure!(
        refused.stderr.contains(&gone),
        "the error does not name the pid: {refused:?}"
    );
    Ok(())
}
