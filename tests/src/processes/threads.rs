//! Threads are no processes, and may do to a process what they like.

use anyhow::{Context, Result, ensure};

use super::{
    Watching, exited, json, list, nobody_twice, nothing_lost, number, of_pid, true_picture,
};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: 9, a first thread that exits first ends nothing",
        a_leader_that_exits_first,
    ),
    (
        "lives: 9, another thread's exec is the process's",
        exec_of_another_thread,
    ),
    (
        "lives: 9, execs by one thread after another",
        a_chain_of_execs,
    ),
    ("lives: 10, threads are no processes", no_processes),
];

fn a_leader_that_exits_first() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let mut helpers = Vec::new();
    for _ in 0..2 {
        let mut helper = Helper::start(&["leader-exits"])?;
        helper.number()?;
        helper.tell("go")?;
        until("the first thread has exited", || {
            Ok(proc::state(helper.pid()) == Some('Z'))
        })?;
        helpers.push(helper);
    }
    let [mut lives, ends]: [Helper; 2] = helpers.try_into().ok().context("two")?;
    lives.tell("fork")?;
    let child = lives.number()?;
    for source in ["bpf", "proc"] {
        let document = json(&["ps", "--source", source])?;
        let process = of_pid(&document, lives.pid())?;
        ensure!(
            process["state"] == "leader-exited" && process["exit"].is_null(),
            "by {source}: {process:#}"
        );
        ensure!(of_pid(&document, child)?["parent"]["pid"] == lives.pid());
    }
    let ended = ends.pid();
    ends.finish()?;
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    let process = of_pid(&document, lives.pid())?;
    ensure!(
        process["exit"].is_null() && process["state"] != "exited",
        "{process:#}"
    );
    let child = of_pid(&document, child)?;
    ensure!(child["parent_at_fork"]["pid"] == lives.pid(), "{child:#}");
    exited(of_pid(&document, ended)?, 0)
}

fn exec_of_another_thread() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let mut helper = Helper::start(&["exec-from-thread"])?;
    let tid = helper.number()?;
    let pid = helper.pid();
    ensure!(helper.ask("exec")? == "ready");
    ensure!(helper.ask("fork once")? == "done");
    helper.finish()?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    nobody_twice(&document)?;
    let process = of_pid(&document, pid)?;
    exited(process, 0)?;
    ensure!(
        process["execs"] == 2 && process["args"][2] == "forks",
        "{process:#}"
    );
    let processes = list(&document, "processes")?;
    ensure!(processes.iter().all(|process| process["pid"] != tid));
    Ok(())
}

fn a_chain_of_execs() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let mut helper = Helper::start(&["exec-chain", "10"])?;
    helper.line()?;
    ensure!(helper.ask("go")? == "done");
    let pid = helper.pid();
    helper.finish()?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let process = of_pid(&document, pid)?;
    exited(process, 0)?;
    ensure!(process["execs"] == 11, "{process:#}");
    Ok(())
}

fn no_processes() -> Result<()> {
    let old = Helper::start(&["threads", "20"])?;
    let watching = Watching::start(&["ps"])?;
    let new = Helper::start(&["threads", "20"])?;
    let mut tids = Vec::new();
    for mut helper in [old, new] {
        let pid = helper.pid();
        for _ in 0..20 {
            tids.push(helper.number()?);
        }
        // One that a thread makes, and one that ends.
        tids.push(helper.ask("spawn 1")?.parse()?);
        helper.ask("end 2")?;
        for source in ["bpf", "proc"] {
            let document = json(&["ps", "--source", source, "--pid", &pid.to_string()])?;
            let process = of_pid(&document, pid)?;
            // The one that ends has said so before.
            let threads = number(&process["threads"])?;
            ensure!((21..=22).contains(&threads), "by {source}: {process:#}");
        }
        helper.finish()?;
    }
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    for process in list(&document, "processes")? {
        let pid = u32::try_from(number(&process["pid"])?)?;
        ensure!(!tids.contains(&pid), "a thread: {process:#}");
    }
    Ok(())
}
