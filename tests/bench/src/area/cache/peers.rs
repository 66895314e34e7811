//! What others see of processes that live briefly.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::load::{Life, Spawners};

/// How many of a load's processes were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// By any event, or in any scan.
    pub(super) seen: usize,
    /// With its argument.
    pub(super) with_argv: usize,
}

impl Sight {
    fn of(lives: &[Life], commands: &HashMap<u32, HashSet<String>>) -> Self {
        let mut sight = Self::default();
        for life in lives {
            if let Some(commands) = commands.get(&life.pid) {
                sight.seen += 1;
                let has = |command: &String| command.ends_with(&life.argument);
                sight.with_argv += usize::from(commands.iter().any(has));
            }
        }
        sight
    }
}

/// The kernel's process connector, as forkstat reads it.
pub(super) fn forkstat(load: impl Fn() -> anyhow::Result<Spawners>) -> anyhow::Result<Sight> {
    // Its duration is but a bound for what is left behind if this process is killed.
    let mut forkstat = Command::new("forkstat")
        .args(["-l", "-e", "fork,exec,exit", "-D", "600"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start forkstat (a package of that name has it)")?;
    let output = forkstat.stdout.take().context("no pipe")?;
    let mut lines = BufReader::new(output).lines();
    let head = lines.next();
    if !matches!(head, Some(Ok(_))) {
        let output = forkstat.wait_with_output()?;
        anyhow::bail!(
            "forkstat: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let reader = std::thread::spawn(move || {
        let mut commands: HashMap<u32, HashSet<String>> = HashMap::new();
        for line in lines.map_while(Result::ok) {
            if let Some((pid, command)) = event(&line) {
                commands.entry(pid).or_default().insert(command.to_owned());
            }
        }
        commands
    });
    let lives = load().and_then(Spawners::join);
    // What it has not read yet.
    std::thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&forkstat);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    forkstat.wait()?;
    let commands = reader
        .join()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    ensure!(!commands.is_empty(), "forkstat saw nothing at all");
    Ok(Sight::of(&lives?, &commands))
}

/// `TIME EVENT PID INFO… COMMAND`: the pid, and all that follows it.
fn event(line: &str) -> Option<(u32, &str)> {
    let mut words = line.split_ascii_whitespace();
    let pid = words.nth(2)?;
    let (_, rest) = line.split_once(&format!(" {pid} "))?;
    Some((pid.parse().ok()?, rest.trim()))
}

/// Scans of `/proc` that are 1 s and 100 ms apart.
pub(super) fn polling(load: impl Fn() -> anyhow::Result<Spawners>) -> anyhow::Result<[Sight; 2]> {
    let stop = AtomicBool::new(false);
    let intervals = [Duration::from_secs(1), Duration::from_millis(100)];
    std::thread::scope(|scope| {
        let pollers = intervals.map(|interval| {
            let stop = &stop;
            scope.spawn(move || poll(interval, stop))
        });
        let lives = load().and_then(Spawners::join);
        stop.store(true, Ordering::Relaxed);
        let [slow, fast] = pollers.map(|poller| poller.join().expect("it does not panic"));
        let (lives, slow, fast) = (lives?, slow?, fast?);
        Ok([Sight::of(&lives, &slow), Sight::of(&lives, &fast)])
    })
}

fn poll(interval: Duration, stop: &AtomicBool) -> anyhow::Result<HashMap<u32, HashSet<String>>> {
    let mut commands: HashMap<u32, HashSet<String>> = HashMap::new();
    let mut last = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let processes = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let now: HashSet<u32> = processes.collect();
        for pid in now.difference(&last) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            let command = command.trim_end_matches('\0').to_owned();
            commands.entry(*pid).or_default().insert(command);
        }
        last = now;
        std::thread::sleep(interval);
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_forkstat_is_taken_apart() {
        let line = "03:01:25 exec  22674                 /bin/echo a b ";
        assert_eq!(event(line), Some((22674, "/bin/echo a b")));
        let (pid, _) = event("03:01:25 fork  22661 parent          bash").unwrap();
        assert_eq!(pid, 22661);
        assert_eq!(event("Time     Event   PID Info   Duration Process"), None);
    }

    #[test]
    fn who_was_seen_need_not_have_been_seen_with_arguments() {
        let life = |pid, argument: &str| Life {
            pid,
            parent: 1,
            argument: argument.into(),
            code: 0,
        };
        let seen = |command: &str| HashSet::from([command.to_owned()]);
        let lives = [life(2, "!t-2"), life(3, "!t-3"), life(4, "!t-4")];
        let commands = HashMap::from([(2, seen("p !t-2")), (3, seen("p"))]);
        let wanted = Sight {
            seen: 2,
            with_argv: 1,
        };
        assert_eq!(Sight::of(&lives, &commands), wanted);
    }
}
