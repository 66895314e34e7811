//! What programs were given: all of it, or it is said what is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json as value};

use super::{Watching, exited, nothing_lost, of_pid};
use crate::Test;
use crate::helper::Helper;

pub const TESTS: &[(&str, Test)] = &[
    ("lives: 8, arguments: 100 KiB are whole", large),
    (
        "lives: 8, arguments: more than 128 KiB are cut, and that is said",
        too_large,
    ),
    ("lives: 8, arguments: a thousand of them", a_thousand),
    ("lives: 8, arguments: empty ones are kept", empty),
    (
        "lives: 8, arguments: bytes that are no text are kept",
        no_text,
    ),
    (
        "lives: 8, arguments: of a script, and its interpreter",
        a_script,
    ),
    (
        "lives: 8, arguments: execveat of a file without a name",
        without_a_name,
    ),
];

/// Runs `/bin/true` with each of these lists of arguments; returns what is shown of it.
fn shown(lists: &[Vec<String>]) -> Result<Vec<Value>> {
    let watching = Watching::start(&["ps"])?;
    let mut pids = Vec::new();
    for arguments in lists {
        let mut child = Command::new("/bin/true").args(arguments).spawn()?;
        pids.push(child.id());
        child.wait()?;
    }
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let mut shown = Vec::new();
    for pid in pids {
        let process = of_pid(&document, pid)?;
        ensure!(
            process["execs"] == 1 && process["args_from"] == "exec",
            "{process:#}"
        );
        exited(process, 0)?;
        shown.push(process.clone());
    }
    Ok(shown)
}

fn whole(lists: &[Vec<String>]) -> Result<()> {
    for (arguments, mut process) in lists.iter().zip(shown(lists)?) {
        let args = process["args"].take();
        ensure!(process["args_missing"].is_null(), "{process:#}");
        let args = args.as_array().context("no arguments")?;
        ensure!(
            args.len() == arguments.len() + 1,
            "{} arguments",
            args.len()
        );
        let expected = std::iter::once("/bin/true").chain(arguments.iter().map(String::as_str));
        for (number, (shown, given)) in args.iter().zip(expected).enumerate() {
            ensure!(
                shown == given,
                "argument {number} is {shown}, not {given:?}"
            );
        }
    }
    Ok(())
}

/// So many arguments, all different, of so many bytes each.
fn many(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|i| format!("{i:0bytes$}")).collect()
}

fn large() -> Result<()> {
    whole(&[many(10, 10 << 10)])
}

fn too_large() -> Result<()> {
    const LIMIT: usize = 128 << 10;
    let given = many(30, 10 << 10);
    let process = &shown(std::slice::from_ref(&given))?[0];
    ensure!(
        process["args_missing"] == "cut",
        "{}",
        process["args_missing"]
    );
    let mut args = process["args"].as_array().context("no arguments")?.iter();
    ensure!(args.next() == Some(&value!("/bin/true")));
    let mut bytes = "/bin/true".len() + 1;
    for (shown, given) in args.zip(&given) {
        let shown = shown.as_str().context("no text")?;
        bytes += shown.len() + 1;
        // The last one is cut short.
        ensure!(
            shown == given || (given.starts_with(shown) && bytes >= LIMIT - 1),
            "after {bytes} bytes: {shown:?}"
        );
    }
    ensure!(
        (LIMIT - 1..=LIMIT + 1).contains(&bytes),
        "{bytes} bytes are there"
    );
    Ok(())
}

fn a_thousand() -> Result<()> {
    whole(&[many(1000, 5)])
}

fn empty() -> Result<()> {
    let lists: [&[&str]; 4] = [&["", "a", "", "", "b", ""], &[""], &["", ""], &[]];
    whole(&lists.map(|texts| texts.iter().map(|&text| text.to_owned()).collect()))
}

fn no_text() -> Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let watching = Watching::start(&["ps"])?;
    let mut child = Command::new("/bin/true")
        .args([OsStr::from_bytes(b"a\xff"), OsStr::new("\n\t\u{1b}[31m\"")])
        .spawn()?;
    let pid = child.id();
    child.wait()?;
    let document = watching.finish()?;
    let args = &of_pid(&document, pid)?["args"];
    let expected = value!(["/bin/true", [97, 255], "\n\t\u{1b}[31m\""]);
    ensure!(*args == expected, "{args}");
    Ok(())
}

fn a_script() -> Result<()> {
    const PATH: &str = "/tmp/pidlist-script";
    fs::write(PATH, "#!/bin/sh -e\nexit 5\n")?;
    fs::set_permissions(PATH, fs::Permissions::from_mode(0o755))?;
    let watching = Watching::start(&["ps"])?;
    let mut child = Command::new(PATH).args(["a b", ""]).spawn()?;
    let pid = child.id();
    child.wait()?;
    fs::remove_file(PATH)?;
    let document = watching.finish()?;
    let process = of_pid(&document, pid)?;
    exited(process, 5)?;
    // As the kernel puts them together: what /proc shows, too.
    ensure!(
        process["args"] == value!(["/bin/sh", "-e", PATH, "a b", ""])
            && process["path"] == PATH
            && process["comm"] == "pidlist-script",
        "{process:#}"
    );
    Ok(())
}

fn without_a_name() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let nameless = Helper::start(&["exec-memfd", "true", "a", ""])?;
    let pid = nameless.pid();
    nameless.finish()?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let process = of_pid(&document, pid)?;
    exited(process, 0)?;
    ensure!(
        process["execs"] == 2
            && process["args_from"] == "exec"
            && process["args"] == value!(["true", "a", ""]),
        "{process:#}"
    );
    Ok(())
}
