//! The binary, run as a user would.
//!
//! What needs BPF or the module says so and is skipped where there is none.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

fn pidlist(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args(args)
        .output()
        .expect("pidlist runs")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in: {text}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn has_bpf() -> bool {
    static REFUSED: LazyLock<Option<String>> = LazyLock::new(|| {
        let output = pidlist(&["ps", "--source", "bpf", "--for", "1ms", "--json"]);
        (!output.status.success()).then(|| stderr(&output))
    });
    if let Some(refused) = &*REFUSED {
        println!("skipped, no BPF here: {refused}");
    }
    REFUSED.is_none()
}

fn has_module() -> bool {
    std::fs::exists("/dev/pidlist").unwrap_or(false)
}

#[test]
fn ps_shows_this_process_from_either_source() {
    for source in ["auto", "proc"] {
        let output = pidlist(&["ps", "--json", "--source", source]);
        assert!(output.status.success(), "{}", stderr(&output));
        let document = json(&output);
        let own = document["processes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|process| process["pid"] == std::process::id())
            .expect("this process is shown");
        assert_eq!(own["state"], "alive");
        assert_eq!(own["parent"]["pid"], std::os::unix::process::parent_id());
        assert!(
            own["args"].as_array().is_some_and(|args| !args.is_empty()),
            "{own}"
        );
        assert!(document["summary"]["source"].is_string());
        assert!(document["summary"]["missing"].is_array());
    }
}

#[test]
fn threads_are_not_processes() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        }
        let id = std::process::id().to_string();
        for source in ["auto", "proc"] {
            let shown = json(&pidlist(&[
                "ps", "--json", "--source", source, "--pid", &id,
            ]));
            assert_eq!(shown["processes"].as_array().unwrap().len(), 1);
            assert!(
                shown["processes"][0]["threads"].as_u64() >= Some(4),
                "{shown}"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn every_short_life_is_seen() {
    if !has_bpf() {
        return;
    }
    let script = "for i in $(seq 500); do /bin/true arg$i; done; exit 3";
    let output = pidlist(&[
        "ps",
        "--json",
        "--of-command",
        "--exited",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document = json(&output);
    let mut seen: Vec<&str> = document["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|process| process["path"] == "/bin/true")
        .map(|process| {
            assert_eq!(process["exit"]["code"], 0, "{process}");
            assert_eq!(process["args_from"], "exec");
            assert_eq!(
                process["parent_at_fork"]["pid"],
                document["summary"]["command"]["pid"]
            );
            process["args"][1].as_str().unwrap()
        })
        .collect();
    seen.sort_unstable();
    let mut started: Vec<String> = (1..=500).map(|number| format!("arg{number}")).collect();
    started.sort_unstable();
    assert_eq!(seen, started);
    assert_eq!(document["summary"]["lost"]["exits"], 0);
    assert_eq!(document["summary"]["command"]["code"], 3);
}

#[test]
fn arguments_that_are_empty_or_not_utf8_are_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    if !has_bpf() {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args(["ps", "--json", "--of-command", "--", "/bin/true", "", "b"])
        .arg(std::ffi::OsStr::from_bytes(b"\xff"))
        .arg("")
        .output()
        .unwrap();
    let args = &json(&output)["processes"][0]["args"];
    assert_eq!(*args, serde_json::json!(["/bin/true", "", "b", [255], ""]));
}

#[test]
fn a_killed_process_shows_its_signal() {
    if !has_bpf() {
        return;
    }
    let output = pidlist(&["ps", "--of-command", "--", "sh", "-c", "kill -9 $$"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SIGKILL"), "{text}");
    assert!(text.contains("command killed by signal 9"), "{text}");
}

#[test]
fn tree_draws_children_below_their_parents() {
    if !has_bpf() {
        return;
    }
    let script = "(/bin/true inner; exit 4); /bin/true last";
    let output = pidlist(&["tree", "--of-command", "--", "sh", "-c", script]);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |wanted: &str| text.lines().position(|line| line.contains(wanted)).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("│  └─ ") && line.contains("inner")),
        "{text}"
    );
    assert!(
        line("inner") < line("└─ ") || line("inner") == line("└─ "),
        "{text}"
    );
    assert!(text.contains("✝ 4"), "{text}");
}

#[test]
fn watch_prints_a_json_object_a_line() {
    if !has_bpf() {
        return;
    }
    let output = pidlist(&["watch", "--json", "--", "/bin/true", "watched"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<&str> = lines
        .iter()
        .filter(|line| line["process"]["args"][1] == "watched")
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["exec", "exit"]);
    assert_eq!(lines.last().unwrap()["event"], "end");
}

#[test]
fn a_timeline_draws_every_process_of_a_command() {
    if !has_bpf() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 0.2 & (exec sh -c 'kill -9 $$'); sh -c 'sleep 0.1; exit 3'; wait";
    let draw = |name: &str| {
        let path = dir.path().join(name);
        let output = pidlist(&[
            "timeline",
            "-o",
            path.to_str().unwrap(),
            "--",
            "sh",
            "-c",
            script,
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(summary.starts_with("5 processes in "), "{summary}");
        assert!(summary.contains("command exited with 0"), "{summary}");
        std::fs::read_to_string(path).unwrap()
    };
    let svg = draw("build.svg");
    for bar in [
        "bar ok",
        "bar failed",
        "bar killed",
        "killed by SIGKILL",
        "exit 3 after",
    ] {
        assert!(svg.contains(bar), "{bar} in {svg}");
    }
    let trace: Value = serde_json::from_str(&draw("build.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(slices.len(), 5);
    let sleeps = |event: &&&Value| event["name"] == "sleep";
    assert_eq!(slices.iter().filter(sleeps).count(), 2);
    for sleep in slices.iter().filter(sleeps) {
        assert!(sleep["dur"].as_f64() > Some(0.1e6), "{sleep}");
        assert_eq!(sleep["pid"], slices[0]["args"]["pid"]);
    }
    let codes: Vec<_> = slices
        .iter()
        .filter_map(|event| event["args"]["exit_code"].as_u64())
        .collect();
    assert_eq!(
        codes.iter().filter(|code| **code == 3).count(),
        1,
        "{codes:?}"
    );
}

#[test]
fn a_timeline_that_fails_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("build.svg");
    let link = dir.path().join("link.svg");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let draw = |command: &str| {
        let to = link.to_str().unwrap();
        pidlist(&["timeline", "--source", "proc", "-o", to, "--", command])
    };
    std::fs::write(&file, "old").unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(draw("/no/such/program").status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(files(), 2, "nothing is left beside it");
    assert!(draw("true").status.success());
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("<svg"));
    assert!(link.is_symlink());
    assert_eq!(files(), 2);
}

#[test]
fn a_timeline_goes_to_a_pipe_and_the_rest_to_stderr() {
    let output = pidlist(&["timeline", "--source", "proc", "--", "echo", "hello"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.starts_with(b"<svg"));
    assert!(output.stdout.ends_with(b"</svg>\n"));
    let text = stderr(&output);
    assert!(
        text.contains("hello") && text.contains("alive on average"),
        "{text}"
    );
}

#[test]
fn a_timeline_says_what_its_destination_lacks_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    for (to, hint) in [
        ("build.png", "--format"),
        ("/no/such/dir/build.svg", "/no/such/dir/build.svg"),
    ] {
        let output = pidlist(&[
            "timeline",
            "-o",
            to,
            "--",
            "touch",
            started.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(hint), "{}", stderr(&output));
        assert!(!started.exists());
    }
}

#[test]
fn top_without_a_terminal_says_what_else_there_is() {
    for args in [&["top"][..], &["top", "--json"]] {
        let output = pidlist(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("pidlist watch --json"),
            "{}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
    let output = pidlist(&["top", "--interval", "5ms"]);
    assert!(
        stderr(&output).contains("100ms is the shortest"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_commands_output_does_not_spoil_the_document() {
    let output = pidlist(&["ps", "--json", "--source", "proc", "--", "echo", "hello"]);
    assert!(json(&output)["processes"].is_array());
    assert!(stderr(&output).contains("hello"));
}

#[test]
fn polling_finds_what_lives_long_enough() {
    let output = pidlist(&[
        "ps", "--json", "--source", "proc", "--exited", "--", "sleep", "0.3",
    ]);
    let document = json(&output);
    let pid = &document["summary"]["command"]["pid"];
    let found = document["processes"].as_array().unwrap();
    assert!(
        found.iter().any(|process| process["pid"] == *pid),
        "{document}"
    );
    assert_eq!(document["summary"]["source"], "proc");
}

#[test]
fn without_bpf_proc_is_used_and_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args(["ps", "--for", "1ms", "--json"])
        .env("PIDLIST_BPF_OBJECT", "/no/such/object")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("/no/such/object"),
        "{}",
        stderr(&output)
    );
    let summary = &json(&output)["summary"];
    assert_eq!(summary["source"], "proc");
    assert_eq!(summary["missing"][0]["what"], "bpf");
}

#[test]
fn a_command_that_is_not_there_is_an_error() {
    let output = pidlist(&["ps", "--source", "proc", "--", "/no/such/command"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("starting /no/such/command"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn waiting_for_a_process_that_is_gone_is_an_error() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let id = child.id().to_string();
    let output = pidlist(&["ps", "--source", "proc", "--until-exit", &id]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains(&format!("process {id}")));
}

#[test]
fn bad_pids_are_refused_before_anything_is_done() {
    for bad in ["x", "0", "-1", "4194305", "99999999999999999999"] {
        for command in ["add", "rm", "has"] {
            let output = pidlist(&[command, bad]);
            assert_eq!(output.status.code(), Some(2), "{command} {bad}");
            assert!(stderr(&output).contains(bad), "{}", stderr(&output));
        }
    }
    for bad in [
        "5-4",
        "0-4",
        "4-",
        "1-2-3",
        "1-4194305",
        "1..5",
        "1,5",
        "5 6",
    ] {
        for (command, word) in [
            ("add", bad.to_owned()),
            ("add", format!("!{bad}")),
            ("rm", bad.into()),
        ] {
            let output = pidlist(&[command, "1", &word]);
            assert_eq!(output.status.code(), Some(2), "{command} {word}");
            assert!(stderr(&output).contains(&word), "{}", stderr(&output));
        }
    }
    let output = pidlist(&["rm", "!5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("leave out"), "{}", stderr(&output));
}

#[test]
fn a_bad_name_is_refused_with_its_reason() {
    let long = "a".repeat(64);
    for (bad, why) in [
        ("", "it is empty"),
        (long.as_str(), "64 characters"),
        (".x", "begins with '.'"),
        ("a/b", "contains '/'"),
        ("a b", "contains ' '"),
        ("é", "contains 'é'"),
        ("a\n", "contains '\\n'"),
    ] {
        for args in [
            vec!["create", bad],
            vec!["delete", "good", bad],
            vec!["rules", bad],
            vec!["list", "--list", bad],
            vec!["add", "-l", bad, "1"],
            vec!["rm", "-l", bad, "1"],
            vec!["has", "-l", bad, "1"],
            vec!["clear", "-l", bad],
            vec!["follow", "-l", bad],
            vec!["stats", "-l", bad],
            vec!["events", "-l", bad],
            vec!["ps", &format!("--tracked={bad}")],
        ] {
            let output = pidlist(&args);
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            let text = stderr(&output);
            // Clap itself says so of an empty value.
            let told = text.contains(why) || bad.is_empty() && text.contains("a value is required");
            assert!(told, "{args:?}: {text}");
        }
    }
}

#[test]
fn a_bad_bound_is_refused() {
    for bad in ["", "0", "31K", "1.5M", "1X", "99999999999G"] {
        for args in [
            ["create", "web", "--max-bytes", bad],
            ["rules", "web", "--max-bytes", bad],
        ] {
            let output = pidlist(&args);
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            assert!(
                stderr(&output).contains("--max-bytes"),
                "{}",
                stderr(&output)
            );
        }
    }
}

#[test]
fn a_tree_takes_single_pids_only() {
    for (args, word) in [
        (["add", "--tree", "1", "2-3"], "2-3"),
        (["add", "--tree", "1", "!2"], "!2"),
        (["rm", "--tree", "1", "2-3"], "2-3"),
    ] {
        let output = pidlist(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(
            text.contains(&format!("--tree with {word}")) && text.contains("hint: "),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn without_the_module_it_says_what_to_do() {
    if has_module() {
        println!("skipped, the module is loaded here");
        return;
    }
    let id = std::process::id().to_string();
    for args in [
        vec!["add", &id],
        vec!["rm", &id],
        vec!["has", &id],
        vec!["list"],
        vec!["clear"],
        vec!["follow"],
        vec!["follow", "on"],
        vec!["stats", "-l", "default"],
        vec!["stats", "--all"],
        vec!["lists"],
        vec!["create", "web"],
        vec!["delete", "web", "db"],
        vec!["rules", "default"],
        vec!["rules", "web", "--exclude", "on", "--max-bytes", "256K"],
        vec!["add", "--list", "web", "--tree", &id],
        vec!["add", "!5", "7-9", &id],
        vec!["list", "--union"],
        vec!["has", "--union", &id],
        vec!["events"],
        vec!["events", "--json", "--from", "5", "--count", "1"],
        vec!["ps", "--tracked"],
        vec!["ps", "--tracked=web"],
    ] {
        let output = pidlist(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(
            text.starts_with("pidlist: ") && text.contains("make load"),
            "{args:?}: {text}"
        );
        assert_eq!(text.lines().count(), 2, "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn slabs_name_their_source() {
    let output = pidlist(&["slabs", "--json", "--top", "5"]);
    if output.status.code() == Some(2) {
        println!("skipped, no slab caches to be read: {}", stderr(&output));
        return;
    }
    let document = json(&output);
    assert_eq!(document["caches"].as_array().unwrap().len(), 5);
    assert!(["bpf", "slabinfo"].contains(&document["source"].as_str().unwrap()));
}

#[test]
fn audit_agrees_on_a_quiet_machine() {
    let output = pidlist(&["audit", "--json", "--for", "200ms"]);
    let document = json(&output);
    if document["source"] == "bpf" {
        assert_eq!(output.status.code(), Some(0), "{document}");
    } else {
        println!("polling: others' processes may come and go between two looks");
        assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

#[test]
fn doctor_has_a_hint_for_everything_missing() {
    let output = pidlist(&["doctor", "--json"]);
    let document = json(&output);
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.len() > 10);
    for check in checks.iter().filter(|check| check["state"] != "ok") {
        assert!(check["hint"].is_string(), "{check}");
    }
    assert_eq!(
        output.status.code(),
        Some(if document["ok"] == true { 0 } else { 1 })
    );
}

#[test]
fn a_broken_pipe_is_no_error() {
    for args in [vec!["ps"], vec!["ps", "--json"], vec!["tree"], vec!["man"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pidlist"))
            .args(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            !stderr(&output).contains("pipe"),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn watch_ends_with_its_reader_and_takes_its_command_along() {
    if !has_bpf() {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args(["watch", "--", "sh", "-c", "while :; do /bin/true; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(lines);
    for _ in 0..200 {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("it goes on without a reader");
}

/// Sends `signal` once to a watch that has shown something: it must end, with its summary.
fn ends_cleanly_by(signal: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args(["watch", "--json", "--source", "proc"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let seen = AtomicBool::new(false);
    let mut text = String::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !seen.load(Ordering::Relaxed) {
                Command::new("sleep").arg("0.2").status().unwrap();
            }
        });
        stdout.read_line(&mut text).unwrap();
        seen.store(true, Ordering::Relaxed);
    });
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    for _ in 0..400 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // If it goes on, it is ended here, and shows no summary.
    let _ = child.kill();
    let status = child.wait().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(status.code(), Some(0), "after {signal}: {text}");
    assert!(
        text.lines().last().unwrap().contains(r#""event":"end""#),
        "after {signal}: {text}"
    );
}

#[test]
fn a_signal_ends_a_watch_cleanly() {
    ends_cleanly_by("-INT");
    ends_cleanly_by("-TERM");
}

#[test]
fn what_goes_with_a_command_needs_one() {
    for arguments in [
        &["ps", "--of-command"][..],
        &["ps", "--of-command", "--for", "1s"],
    ] {
        assert_eq!(pidlist(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_negative_pid_is_told_as_such() {
    for option in ["--pid", "--under", "--until-exit"] {
        let ran = pidlist(&["ps", option, "-1"]);
        assert_eq!(ran.status.code(), Some(2));
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(text.contains("never negative"), "{option}: {text}");
    }
}

#[test]
fn man_page_and_completions_are_made() {
    let page = pidlist(&["man"]);
    assert!(page.status.success());
    let text = String::from_utf8_lossy(&page.stdout);
    assert!(
        text.contains(".TH pidlist") && text.contains("max\\-age"),
        "{text}"
    );
    assert!(text.contains("PIDLIST EVENTS") && text.contains("max\\-bytes"));
    for shell in ["bash", "zsh", "fish"] {
        let script = pidlist(&["completions", shell]);
        let script = String::from_utf8_lossy(&script.stdout);
        for word in ["doctor", "lists", "exclude", "union"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [
        vec!["nonsense"],
        vec!["ps", "--alive", "--exited"],
        vec!["ps", "--for", "5"],
        vec!["ps", "--for", "1s", "--", "true"],
        vec!["add"],
        vec!["delete"],
        vec!["rules"],
        vec!["list", "--union", "--list", "web"],
        vec!["has", "--union", "-l", "web", "1"],
        vec!["stats", "--all", "--list", "web"],
        vec!["add", "--union", "1"],
        vec!["clear", "--union"],
        vec!["follow", "maybe"],
        vec!["rules", "web", "--follow"],
        vec!["rules", "web", "--threads"],
        vec!["events", "--from", "0"],
        vec!["events", "--count", "0"],
        vec!["ps", "--tracked", "web"],
        vec![],
    ] {
        assert_eq!(pidlist(&args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn config_says_what_is_wrong_and_shows_what_holds() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.toml");
    let bad = directory.path().join("bad.toml");
    std::fs::write(&good, "poll-interval = '2s'\n").unwrap();
    std::fs::write(&bad, "poll_interval = '2s'\nmode = 1\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());

    let output = pidlist(&["config", "check", good]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = pidlist(&["config", "check", bad]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let place = format!("{bad}:1:1: found \"poll_interval");
    assert!(said.starts_with(&place), "{said}");
    assert!(said.contains("did you mean poll-interval?"), "{said}");
    assert!(
        said.contains(":2:8: mode: found 1, expected both, events or poll"),
        "{said}"
    );
    let wrong = json(&pidlist(&["config", "check", "--json", bad]))["wrong"].clone();
    assert_eq!(wrong[1]["origin"]["line"], 2);
    assert_eq!(wrong[1]["key"], "mode");
    let output = pidlist(&["config", "check", "/nowhere"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "that is not wrong, but unknown"
    );

    let output = Command::new(env!("CARGO_BIN_EXE_pidlist"))
        .args([
            "config",
            "show",
            "--json",
            "--config",
            good,
            "--keep-exited",
            "3s",
            "--mode",
            "poll",
        ])
        .env("PIDLIST_MODE", "events")
        .output()
        .unwrap();
    let shown = json(&output);
    let setting = |key: &str| {
        let mut settings = shown.as_array().unwrap().iter();
        settings
            .find(|setting| setting["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(setting("poll-interval")["value"], "2s");
    assert_eq!(setting("poll-interval")["from"]["path"], good);
    assert_eq!(
        setting("keep-exited")["from"],
        serde_json::json!({"kind": "flag", "name": "keep-exited"})
    );
    assert_eq!(setting("mode")["value"], "events");
    assert_eq!(setting("mode")["from"]["name"], "PIDLIST_MODE");
    assert_eq!(setting("socket")["from"]["kind"], "default");

    // What is shown is a file of settings.
    let output = pidlist(&["config", "show", "--config", good]);
    std::fs::write(bad, output.stdout).unwrap();
    assert!(pidlist(&["config", "check", bad]).status.success());
}
