//! What is told of processes, by a daemon and without one: `ps`, `tree`, `get`, `ancestors`, `history`,
//! `watch`, `stats`.
//!
//! What needs BPF says so and is skipped where there is none.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A daemon on a socket of its own.
struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
}

impl Daemon {
    /// `None` where that source is not to be had.
    fn start(source: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pidlist"))
            .args([
                "daemon",
                "--poll-interval-alone",
                "20ms",
                "--source",
                source,
            ])
            .args(["--keep-short-lived", "60s", "--socket"])
            .arg(directory.path().join("s"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serves = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("serving"));
        let daemon = Self { child, directory };
        if !serves && source == "bpf" {
            println!("skipped, no BPF here");
            return None;
        }
        assert!(serves, "the daemon serves");
        std::thread::spawn(move || lines.for_each(drop));
        Some(daemon)
    }

    /// One for each source there is.
    fn each() -> impl Iterator<Item = (&'static str, Self)> {
        let start = |source| Some((source, Self::start(source)?));
        ["proc", "bpf"].into_iter().filter_map(start)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// A command that would find it by the settings.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = alone(args);
        command.env("PIDLIST_SOCKET", self.socket());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that finds no daemon.
fn alone(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pidlist"));
    command
        .args(args)
        .env("PIDLIST_SOCKET", "/no/such/socket")
        .env_remove("COLUMNS");
    command
}

fn run_alone(args: &[&str]) -> Output {
    alone(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

fn pids(document: &Value) -> Vec<u64> {
    let processes = document["processes"].as_array().unwrap();
    let pid = |process: &Value| process["pid"].as_u64().unwrap();
    processes.iter().map(pid).collect()
}

/// A process that sleeps under a name of its own until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(name: &str) -> Self {
        let child = Command::new("sleep").arg0(name).arg("300").spawn().unwrap();
        let sleeper = Self(child);
        assert!(within(|| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.pid()));
            stat.unwrap().contains(") S ")
        }));
        sleeper
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Runs a command until what it prints satisfies: a daemon that polls is a little behind.
fn eventually(daemon: &Daemon, args: &[&str], is_so: impl Fn(&Output) -> bool) -> Output {
    let mut last = None;
    within(|| is_so(last.insert(daemon.run(args))));
    let last = last.unwrap();
    assert!(is_so(&last), "{args:?}: {}{}", stdout(&last), stderr(&last));
    last
}

#[test]
fn the_daemon_is_asked_when_it_runs() {
    for (source, daemon) in Daemon::each() {
        let own = std::process::id().to_string();
        for command in ["ps", "tree"] {
            let document = json(&daemon.run(&[command, "--json", "--pid", &own]));
            assert_eq!(pids(&document), [u64::from(std::process::id())]);
            let summary = &document["summary"];
            assert_eq!(summary["daemon"], daemon.socket().to_str().unwrap());
            assert_eq!(summary["source"], source);
            let text = stdout(&daemon.run(&[command, "--pid", &own]));
            assert!(
                text.contains(&format!("source: daemon ({source})")),
                "{text}"
            );
        }
        let socket = daemon.socket();
        let mut named = alone(&["ps", "--json", "--daemon", "--socket"]);
        named.arg(&socket).env_remove("PIDLIST_SOCKET");
        let document = json(&named.output().unwrap());
        assert_eq!(document["summary"]["daemon"], socket.to_str().unwrap());
        for flag in ["--no-daemon", "--source=proc"] {
            let document = json(&daemon.run(&["ps", "--json", flag]));
            assert_eq!(document["summary"]["daemon"], Value::Null, "{flag}");
            assert!(pids(&document).contains(&u64::from(std::process::id())));
        }
        let both = daemon.run(&["ps", "--daemon", "--source", "proc"]);
        assert_eq!(both.status.code(), Some(2));
    }
}

#[test]
fn without_a_daemon_there_is_a_way_or_a_word() {
    let output = run_alone(&["ps", "--source", "auto", "--json"]);
    assert!(output.status.success());
    assert!(!stderr(&output).contains("daemon"), "{}", stderr(&output));

    for args in [
        &["ps", "--daemon"][..],
        &["get", "--daemon", "1"],
        &["watch", "--daemon", "--for", "1ms"],
        &["stats", "--daemon"],
        &["history", "--since", "5s"],
    ] {
        let output = run_alone(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(text.contains("/no/such/socket"), "{text}");
        assert!(text.contains("hint: `pidlist daemon`"), "{text}");
        assert!(output.stdout.is_empty());
    }
    let text = stderr(&run_alone(&["history", "--since", "5s"]));
    assert!(text.contains("--for"), "{text}");
}

#[test]
fn a_socket_that_nobody_serves_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let output = alone(&["ps"])
        .env("PIDLIST_SOCKET", &socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("; source: "));

    // Somebody else does: that is worth a word.
    std::fs::remove_file(&socket).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let serving = std::thread::spawn(move || {
        use std::io::Write as _;
        listener
            .accept()
            .unwrap()
            .0
            .write_all(b"HTTP/1.1 400 \r\n\r\n")
            .unwrap();
    });
    let output = alone(&["ps"])
        .env("PIDLIST_SOCKET", &socket)
        .output()
        .unwrap();
    serving.join().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the daemon is not asked"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn bad_settings_do_not_stop_a_look() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, "socket = 5\n").unwrap();
    let ps = |args: &[&str]| {
        let mut command = alone(args);
        command
            .env_remove("PIDLIST_SOCKET")
            .env("PIDLIST_CONFIG", &file);
        command.output().unwrap()
    };
    let output = ps(&["ps"]);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("bad.toml:1:"),
        "{}",
        stderr(&output)
    );
    assert_eq!(ps(&["ps", "--daemon"]).status.code(), Some(2));
    assert_eq!(stderr(&ps(&["ps", "--no-daemon"])), "");
}

#[test]
fn columns_are_chosen() {
    let sleeper = Sleeper::start("column-test");
    let pid = sleeper.pid();
    let output = run_alone(&[
        "ps",
        "--pid",
        &pid,
        "-o",
        "pid,ppid,s,uid,threads,exe,cwd,execs,exit,command",
    ]);
    let text = stdout(&output);
    let mut lines = text.lines();
    let words = |line: Option<&str>| -> Vec<String> {
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        words(lines.next()),
        [
            "PID", "PPID", "S", "UID", "THR", "EXE", "CWD", "EXECS", "EXIT", "COMMAND"
        ]
    );
    let row = words(lines.next());
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let cwd = std::env::current_dir().unwrap();
    let own = std::process::id().to_string();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    let uid = uid.split_whitespace().next().unwrap();
    assert_eq!(row[..5], [&pid, &own, "S", uid, "1"], "{text}");
    assert_eq!(Path::new(&row[5]), exe);
    assert_eq!(Path::new(&row[6]), cwd);
    assert_eq!(row[7..], ["0", "column-test", "300"], "{text}");

    let help = stdout(&run_alone(&["ps", "-o", "help"]));
    for column in ["container", "nspid", "caps", "cgroup", "tty", "maxrss"] {
        assert!(
            help.lines().any(|line| line.starts_with(column)),
            "{column} in {help}"
        );
    }
    for bad in [["-o", "pid,colour"], ["--sort", "colour"], ["-o", ""]] {
        let output = run_alone(&[&["ps"], &bad[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(stderr(&output).contains("-o help"), "{}", stderr(&output));
    }
}

#[test]
fn every_column_can_be_shown() {
    for (_, daemon) in Daemon::each() {
        let help = stdout(&daemon.run(&["ps", "-o", "help"]));
        let names: Vec<&str> = help
            .lines()
            .filter(|line| !line.starts_with("unless"))
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert!(names.len() > 25, "{names:?}");
        let output = daemon.run(&["ps", "-o", &names.join(","), "--sort", "-pcpu"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).lines().count() > 2);
    }
}

#[test]
fn rows_are_sorted() {
    let _sleepers = [Sleeper::start("sort-test"), Sleeper::start("sort-test")];
    let sorted = |by: &str| pids(&json(&run_alone(&["ps", "--json", "--sort", by])));
    let up = sorted("pid");
    assert!(up.len() > 2 && up.is_sorted(), "{up:?}");
    let down = sorted("-pid");
    assert!(down.is_sorted_by(|own, next| own >= next), "{down:?}");
    let output = run_alone(&["ps", "--json", "--sort=-age", "--name", "sort-test"]);
    let ages: Vec<u64> = json(&output)["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["lifetime_ns"].as_u64().unwrap())
        .collect();
    assert!(ages.len() == 2 && ages[0] >= ages[1], "{ages:?}");
}

#[test]
fn filters_select() {
    for (_, daemon) in Daemon::each() {
        let sleeper = Sleeper::start("filter-test");
        let pid = sleeper.pid();
        let number = u64::from(sleeper.0.id());
        eventually(
            &daemon,
            &["ps", "--pid", &pid, "--name", "filter-test"],
            |output| output.status.success(),
        );
        let user = stdout(&Command::new("id").arg("-un").output().unwrap());
        let user = user.trim();
        // Of a process that is watched by nobody, the state is as old as the last walk.
        for (filter, selects) in [
            (&["--name", "filter-test"][..], true),
            (&["--name", "filter-no"], false),
            (&["--user", user], true),
            (&["--user", "65533"], false),
            (&["--user", "65533", "--user", user], true),
            (&["--alive"], true),
            (&["--exited"], false),
            (&["--max-age", "1h"], true),
            (&["--max-age", "1ns"], false),
            (&["--min-age", "1ns"], true),
            (&["--min-age", "1h"], false),
            (&["--state", "RSD"], true),
            (&["--state", "T"], false),
            (&["--kthreads=hide"], true),
            (&["--kthreads=only"], false),
            (&["--cgroup", "/no/such"], false),
            (&["--under", &std::process::id().to_string()], true),
            (
                &[
                    "--under",
                    &std::process::id().to_string(),
                    "--name",
                    "no such",
                ],
                false,
            ),
        ] {
            let shown = pids(&json(&daemon.run(&[&["ps", "--json"], filter].concat())));
            assert_eq!(shown.contains(&number), selects, "{filter:?}");
        }
        // The cgroup, as the kernel tells it.
        let all = json(&daemon.run(&["ps", "--json", "--pid", &pid]));
        if let Some(cgroup) = all["processes"][0]["cgroup"].as_str() {
            for pattern in [cgroup, "/", "/*"] {
                let shown = pids(&json(&daemon.run(&["ps", "--json", "--cgroup", pattern])));
                assert!(shown.contains(&number), "{pattern}");
            }
        }
        drop(sleeper);
        eventually(&daemon, &["ps", "--pid", &pid, "--exited"], |output| {
            stdout(output).contains("filter-test")
        });
    }
    for bad in [
        ["--user", "no such user"],
        ["--state", "Q"],
        ["--min-age", "5"],
    ] {
        let output = run_alone(&[&["ps"], &bad[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(stderr(&output).contains(bad[1]), "{}", stderr(&output));
    }
}

#[test]
fn tables_hide_kernel_threads_and_documents_do_not() {
    if !Path::new("/proc/2/comm").exists()
        || !std::fs::read_to_string("/proc/2/comm")
            .unwrap()
            .contains("kthreadd")
    {
        println!("skipped, no kernel threads to be seen");
        return;
    }
    let is_kernel = |line: &str| line.contains("[kthreadd]");
    let table = |args: &[&str]| stdout(&run_alone(args)).lines().any(is_kernel);
    assert!(!table(&["ps"]) && !table(&["tree"]));
    assert!(table(&["ps", "--kthreads"]) && table(&["ps", "--pid", "2"]));
    assert!(table(&["tree", "--under", "2"]));
    assert!(stdout(&run_alone(&["ps"])).contains("kernel threads hidden"));
    assert!(pids(&json(&run_alone(&["ps", "--json"]))).contains(&2));
    assert!(!pids(&json(&run_alone(&["ps", "--json", "--kthreads=hide"]))).contains(&2));
}

#[test]
fn nobody_there_is_a_no() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let pid = child.id().to_string();
    for command in [
        &["ps", "--pid"][..],
        &["tree", "--pid"],
        &["get"],
        &["ancestors"],
    ] {
        let output = run_alone(&[command, &[pid.as_str()]].concat());
        assert_eq!(
            output.status.code(),
            Some(1),
            "{command:?}: {}",
            stderr(&output)
        );
    }
    for command in ["get", "ancestors"] {
        let output = run_alone(&[command, &pid]);
        assert!(
            stderr(&output).contains(&format!("no process {pid}")),
            "{}",
            stderr(&output)
        );
        let output = run_alone(&[command, "--json", &pid]);
        assert_eq!(output.status.code(), Some(1));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = document.get("processes").or(document.get("line"));
        assert_eq!(*found.unwrap(), Value::Array(vec![]));
    }
}

#[test]
fn get_tells_all_of_a_process() {
    for (_, daemon) in Daemon::each() {
        let mut sleeper = Sleeper::start("get-test");
        let pid = sleeper.pid();
        let output = eventually(&daemon, &["get", &pid], |output| {
            stdout(output).contains("get-test")
        });
        let text = stdout(&output);
        assert!(text.starts_with(&format!("{pid} get-test 300\n")), "{text}");
        let parent = format!("parent     {} ", std::process::id());
        for part in [
            &parent,
            "alive for",
            "directory",
            "300",
            "user",
            "threads    1",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        let args = ["get", "--json", &pid];
        let output = eventually(&daemon, &args, |output| {
            output.status.success() && json(output)["processes"][0]["exit"].is_object()
        });
        let document = json(&output);
        let own = &document["processes"][0];
        assert_eq!(own["args"], serde_json::json!(["get-test", "300"]), "{own}");
        if document["summary"]["source"] == "bpf" {
            assert_eq!(own["exit"]["signal_name"], "SIGKILL");
            let text = stdout(&daemon.run(&["get", &pid]));
            assert!(text.contains("killed by SIGKILL at "), "{text}");
        }
    }
}

#[test]
fn ancestors_lead_up_to_init() {
    let sleeper = Sleeper::start("line-test");
    let document = json(&run_alone(&["ancestors", "--json", &sleeper.pid()]));
    let line: Vec<u64> = document["line"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(line[0], u64::from(sleeper.0.id()));
    assert_eq!(line[1], u64::from(std::process::id()));
    assert_eq!(line[2], u64::from(std::os::unix::process::parent_id()));
    // It ends with init, be that known or not.
    assert!(
        line.last() == Some(&1) || document["unknown"]["pid"] == 1,
        "{document}"
    );
    let text = stdout(&run_alone(&["ancestors", &sleeper.pid()]));
    assert!(
        text.starts_with(&format!("{} line-test 300\n", sleeper.pid())),
        "{text}"
    );
    assert!(
        text.lines().rev().nth(1).unwrap().starts_with("1 "),
        "{text}"
    );
}

#[test]
fn an_ancestor_that_has_exited_is_shown_as_such() {
    let Some(daemon) = Daemon::start("bpf") else {
        return;
    };
    // The inner shell exits 5 and leaves its child to somebody else.
    let script = "sh -c 'sleep 300 >&- 2>&- & echo $!; exit 5'; true";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let pid = stdout(&output).trim().to_owned();
    let output = eventually(&daemon, &["ancestors", &pid], |output| {
        let text = stdout(output);
        text.starts_with(&format!("{pid} sleep 300")) && text.contains("✝ 5 ")
    });
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("{pid} sleep 300")), "{text}");
    assert!(lines[1].contains("✝ 5"), "{text}");
    assert!(
        text.contains(&format!("\n{} ", std::process::id())),
        "{text}"
    );
    let document = json(&daemon.run(&["ancestors", "--json", &pid]));
    assert_eq!(document["line"][1]["exit"]["code"], 5);
    let killed = Command::new("kill").arg(&pid).status().unwrap();
    assert!(killed.success());
}

#[test]
fn history_has_those_who_are_gone() {
    for (source, daemon) in Daemon::each() {
        // It lives until it has been seen.
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7", "history-test"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let alive = ["ps", "--pid", &pid.to_string()];
        eventually(&daemon, &alive, |output| {
            stdout(output).contains("history-test")
        });
        drop(child.stdin.take());
        child.wait().unwrap();
        let filter = ["--json", "--pid", &pid.to_string()];
        let since = [&["history", "--since", "1m"], &filter[..]].concat();
        let output = eventually(&daemon, &since, |output| {
            output.status.success() && json(output)["processes"][0]["exit"].is_object()
        });
        let document = json(&output);
        assert_eq!(pids(&document), [u64::from(pid)]);
        assert_eq!(document["summary"]["source"], source);
        let own = &document["processes"][0];
        assert_eq!(own["args"][3], "history-test", "{own}");
        if source == "bpf" {
            assert_eq!(own["exit"]["code"], 7, "{own}");
        }
        let table =
            stdout(&daemon.run(&["history", "--since", "1m", "--exited", "-o", "pid,command"]));
        assert!(table.contains("history-test"), "{table}");
        // It was not there yet a minute ago, nor is it there any more now.
        for window in [&["--since", "2m", "--until", "1m"][..], &["--since", "1ns"]] {
            let output = daemon.run(&[&["history"], window, &filter[..]].concat());
            assert_eq!(
                output.status.code(),
                Some(1),
                "{window:?}: {}",
                stdout(&output)
            );
        }
        let output = daemon.run(&["history", "--since", "1h"]);
        assert!(
            stderr(&output).contains("the daemon runs for"),
            "{}",
            stderr(&output)
        );
        let output = daemon.run(&["history", "--since", "1s", "--until", "2s"]);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn stats_show_the_cache_the_slabs_and_the_module() {
    let mut answers = vec![run_alone(&["stats", "--json"])];
    let daemons: Vec<_> = Daemon::each().collect();
    answers.extend(
        daemons
            .iter()
            .map(|(_, daemon)| daemon.run(&["stats", "--json"])),
    );
    for (answer, at) in answers.iter().zip(0..) {
        let document = json(answer);
        let cache = &document["cache"];
        assert_eq!(cache["daemon"].is_string(), at > 0);
        assert_eq!(cache["service"].is_object(), at > 0);
        assert!(cache["alive"].as_u64() > Some(1), "{cache}");
        assert!(cache["bytes"].as_u64() > Some(100), "{cache}");
        let slabs: Vec<&str> = document["bounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bound| bound["slab"].as_str().unwrap())
            .collect();
        assert_eq!(slabs, ["signal_cache", "task_struct", "pid"]);
        assert!(document["bounds"][0]["known"].as_u64() > Some(1));
        assert_ne!(
            document["module"].is_null(),
            document["module_missing"].is_null()
        );
    }
    for (source, daemon) in &daemons {
        let text = stdout(&daemon.run(&["stats"]));
        for part in [
            &format!("({source})"),
            "task_struct",
            "The module",
            "subscribers",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}

#[test]
fn watch_follows_the_daemon() {
    for (source, daemon) in Daemon::each() {
        // Long enough to be found by walks, too.
        let script = match source {
            "bpf" => "sleep 0.1; exit 9",
            _ => "sleep 3; exit 9",
        };
        let output = daemon.run(&[
            "watch",
            "--daemon",
            "--json",
            "--of-command",
            "--",
            "sh",
            "-c",
            script,
            "watched",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (end, changes) = lines.split_last().unwrap();
        assert_eq!(end["event"], "end");
        assert_eq!(end["summary"]["daemon"], daemon.socket().to_str().unwrap());
        assert_eq!(end["summary"]["source"], source);
        assert_eq!(end["summary"]["command"]["code"], 9);
        assert_eq!(end["summary"]["missed"], 0);
        let of = |event: &str| {
            let is_wanted = |line: &&Value| line["event"] == event;
            changes.iter().filter(is_wanted).collect::<Vec<_>>()
        };
        if source == "bpf" {
            // The shell and sleep, and nobody else.
            assert_eq!((of("fork").len(), of("exec").len()), (2, 2), "{text}");
            assert_eq!(of("exit").len(), 2, "{text}");
            assert_eq!(of("exit")[1]["process"]["exit"]["code"], 9, "{text}");
            assert_eq!(changes.len(), 6, "{text}");
        } else {
            // Its end may come before the daemon's next look.
            assert!(!of("found").is_empty(), "{text}");
        }
        let none = daemon.run(&["watch", "--daemon", "--name", "no such", "--", "true"]);
        assert_eq!(stdout(&none).lines().count(), 1, "{}", stdout(&none));
    }
}

#[test]
fn watch_filters_without_a_daemon_too() {
    let output = run_alone(&[
        "watch",
        "--json",
        "--source",
        "proc",
        "--of-command",
        "--",
        "sleep",
        "3",
    ]);
    let text = stdout(&output);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (end, changes) = lines.split_last().unwrap();
    let pid = &end["summary"]["command"]["pid"];
    assert_eq!(changes.len(), 2, "{text}");
    assert!(
        changes.iter().all(|line| line["process"]["pid"] == *pid),
        "{text}"
    );
}

#[test]
fn every_short_life_is_seen_through_the_daemon() {
    let Some(daemon) = Daemon::start("bpf") else {
        return;
    };
    let script = "for i in $(seq 300); do /bin/true arg$i; done; exit 3";
    let output = daemon.run(&[
        "ps",
        "--json",
        "--of-command",
        "--exited",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let document = json(&output);
    let seen = document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|process| process["path"] == "/bin/true");
    let mut seen: Vec<&str> = seen
        .map(|process| {
            assert_eq!(process["exit"]["code"], 0, "{process}");
            process["args"][1].as_str().unwrap()
        })
        .collect();
    seen.sort_unstable();
    let mut started: Vec<String> = (1..=300).map(|number| format!("arg{number}")).collect();
    started.sort_unstable();
    assert_eq!(seen, started);
    let summary = &document["summary"];
    assert_eq!(summary["daemon"], daemon.socket().to_str().unwrap());
    assert_eq!(summary["command"]["code"], 3);
    assert!(summary["seen"]["exits"].as_u64() >= Some(301), "{summary}");
}

#[test]
fn a_watch_that_is_too_slow_is_told_so() {
    let Some(daemon) = Daemon::start("bpf") else {
        return;
    };
    // The daemon keeps changes of 16 MiB: nobody reads while twice as much happens, and for less than
    // the ten seconds after which it would hang up.
    let mut watch = daemon
        .command(&["watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = watch.stdout.take().unwrap();
    // It watches once it prints something.
    Command::new("true").status().unwrap();
    let mut first = [0];
    let is_watching = std::thread::spawn(move || {
        stdout.read_exact(&mut first).unwrap();
        stdout
    });
    while !is_watching.is_finished() {
        Command::new("true").status().unwrap();
    }
    let mut stdout = is_watching.join().unwrap();
    let large = "x".repeat(100 << 10);
    for _ in 0..120 {
        Command::new("true").arg(&large).status().unwrap();
    }
    let killed = Command::new("kill")
        .args(["-INT", &watch.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(watch.wait().unwrap().success());
    let lines: Vec<Value> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lost = lines.iter().filter(|line| line["event"] == "lost");
    let lost: u64 = lost.map(|line| line["changes"].as_u64().unwrap()).sum();
    assert!(lost > 0, "{} lines", lines.len());
    let end = lines.last().unwrap();
    assert_eq!(end["event"], "end");
    assert_eq!(end["summary"]["missed"], lost);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let own = std::process::id().to_string();
    for (_, daemon) in Daemon::each() {
        for args in [
            &["ps"][..],
            &["tree"],
            &["get", &own],
            &["ancestors", &own],
            &["history", "--since", "1m"],
            &["stats"],
            &["ps", "-o", "help"],
        ] {
            let mut child = daemon
                .command(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(0),
                "{args:?}: {}",
                stderr(&output)
            );
        }
    }
}
