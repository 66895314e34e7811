//! Settings as they are given, and what is said about bad ones.

use std::ffi::OsString;
use std::time::Duration;

use pidlist_config::{Config, Error, Mode, Origin, SETTINGS, Setting, Size, Sources};

struct Given {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn given(file: impl AsRef<[u8]>, flags: &[(&str, &str)], environment: &[(&str, &str)]) -> Given {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pidlist.toml");
    std::fs::write(&path, file).unwrap();
    let sources = Sources {
        file: Some(path),
        flags: flags
            .iter()
            .map(|(key, value)| (Setting::find(key).unwrap(), OsString::from(value)))
            .collect(),
        environment: environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    };
    Given { directory, sources }
}

impl Given {
    /// What is wrong, without the directory of the file.
    fn complaints(&self) -> Vec<String> {
        let Err(Error::Bad(complaints)) = self.sources.load() else {
            panic!("it is taken: {:?}", self.sources);
        };
        let directory = format!("{}/", self.directory.path().display());
        complaints
            .iter()
            .map(|complaint| complaint.to_string().replace(&directory, ""))
            .collect()
    }
}

fn origin<'a>(config: &'a Config, key: &str) -> &'a Origin {
    config
        .iter()
        .find(|(setting, ..)| setting.key == key)
        .map(|(_, _, origin)| origin)
        .unwrap()
}

#[test]
fn file_flags_and_environment_overrule_each_other_in_that_order() {
    let given = given(
        "mode = 'events'\npoll-interval = '2s'\n  keep-exited = '1m'\nmax-bytes = '1M'\n",
        &[("poll-interval", "3s"), ("keep-exited", "2m")],
        &[("PIDLIST_KEEP_EXITED", "3m"), ("PATH", "/bin")],
    );
    let config = given.sources.load().unwrap();
    assert_eq!(config.settings.mode, Mode::Events);
    assert_eq!(config.settings.poll_interval, Duration::from_secs(3));
    assert_eq!(config.settings.keep_exited, Duration::from_secs(180));
    assert_eq!(config.settings.max_bytes, Size(1 << 20));
    assert!(config.notes.is_empty());
    assert_eq!(config.file, given.sources.file);

    let file = given.sources.path().display();
    assert_eq!(origin(&config, "mode").to_string(), format!("{file}:1:8"));
    assert_eq!(
        origin(&config, "max-bytes").to_string(),
        format!("{file}:4:13")
    );
    assert_eq!(
        origin(&config, "poll-interval").to_string(),
        "--poll-interval"
    );
    assert_eq!(
        origin(&config, "keep-exited").to_string(),
        "PIDLIST_KEEP_EXITED"
    );
    assert_eq!(*origin(&config, "socket"), Origin::Default);
}

#[test]
fn the_environment_names_the_file_with_more_force_than_a_flag() {
    let one = given("mode = 'poll'", &[], &[]);
    let mut other = given("mode = 'events'", &[], &[]);
    let path = one.sources.path().into();
    other
        .sources
        .environment
        .push(("PIDLIST_CONFIG".into(), path));
    assert_eq!(other.sources.load().unwrap().settings.mode, Mode::Poll);
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let given = given("", &[], &[]);
    std::fs::remove_file(given.sources.path()).unwrap();
    let error = given.sources.load().unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    assert!(error.to_string().contains("pidlist.toml"), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (file, expected) in [
        (
            "\npoll-interval = '5'\n",
            "pidlist.toml:2:17: poll-interval: found \"5\", expected a duration like 5s, 200ms or \"1m 30s\", \
             from 10ms to 1day",
        ),
        (
            "poll-interval = 5",
            "pidlist.toml:1:17: poll-interval: found 5, expected a duration like 5s",
        ),
        (
            "poll-interval = '1ms'",
            "pidlist.toml:1:17: poll-interval: found \"1ms\", expected a duration like 5s",
        ),
        (
            "# ü\nkeep_exited = '5s'",
            "pidlist.toml:2:1: found \"keep_exited\", expected a setting (`pidlist config show` lists them); \
             did you mean keep-exited?",
        ),
        (
            "[daemon]\nsocket = '/s'",
            "pidlist.toml:1:2: found \"daemon\", expected a setting (`pidlist config show` lists them)",
        ),
        (
            "mode = 'always'",
            "pidlist.toml:1:8: mode: found \"always\", expected both, events or poll",
        ),
        (
            "collect-env = 'true'",
            "pidlist.toml:1:15: collect-env: found \"true\", expected true or false",
        ),
        (
            "max-processes = -1",
            "pidlist.toml:1:17: max-processes: found an integer below 0 or beyond 64 bits, expected an integer",
        ),
        (
            "max-processes = 1.5",
            "pidlist.toml:1:17: max-processes: found a fraction, expected an integer, from 1 to 67108864",
        ),
        (
            "max-bytes = '5 apples'",
            "pidlist.toml:1:13: max-bytes: found \"5 apples\", expected a size like 65536, 64K or 1M, from 64KiB",
        ),
        (
            "max-args = '256K'",
            "pidlist.toml:1:12: max-args: found \"256K\", expected a size like 65536, 64K or 1M, from 0 to 128KiB",
        ),
        (
            "ring-size = '3M'",
            "pidlist.toml:1:13: ring-size: found \"3M\", expected a power of two",
        ),
        (
            "socket = 'pidlist.sock'",
            "pidlist.toml:1:10: socket: found \"pidlist.sock\", expected a path from the root",
        ),
        (
            "redact-env = '*'",
            "pidlist.toml:1:14: redact-env: found \"*\", expected a list of names",
        ),
        (
            "allow-users = ['root', 'nobody-of-that-name']",
            "pidlist.toml:1:15: allow-users: found [\"root\", \"nobody-of-that-name\"], expected a list of users",
        ),
        (
            "allow-groups = [4294967296]",
            "pidlist.toml:1:16: allow-groups: found [4294967296], expected a list of groups",
        ),
        (
            "metrics = 9750",
            "pidlist.toml:1:11: metrics: found 9750, expected an address and port like 127.0.0.1:9750, or off",
        ),
        (
            "log-level = { all = true }",
            "pidlist.toml:1:13: log-level: found a table, expected error, warn, info, debug or trace",
        ),
        (
            "mode 'both'",
            "pidlist.toml:1:6: found \"'both'\", expected TOML (key with no value, expected `=`)",
        ),
        (
            "mode = 'both",
            "pidlist.toml:1:13: found the end of a line, expected TOML (invalid literal string",
        ),
        (
            "mode = 'both'\nmode = 'poll'",
            "pidlist.toml:2:1: found \"mode = 'poll'\", expected TOML (duplicate key)",
        ),
    ] {
        let complaints = given(file, &[], &[]).complaints();
        assert!(
            complaints[0].starts_with(expected),
            "{file}: {complaints:#?}"
        );
    }
}

#[test]
fn a_file_that_is_no_text_is_wrong_where_it_ceases_to_be_one() {
    let complaints = given(b"mode = 'both'\n# \xff", &[], &[]).complaints();
    assert_eq!(
        complaints,
        ["pidlist.toml:2:3: found bytes that are not UTF-8, expected text"]
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let given = given(
        "mode = 'x'\nwhat = 1\n",
        &[("poll-interval", "soon")],
        &[("PIDLIST_RING_SIZE", "100"), ("PIDLIST_SOCKET", "")],
    );
    let complaints = given.complaints();
    assert_eq!(complaints.len(), 5, "{complaints:#?}");
    assert!(complaints[2].starts_with("--poll-interval: poll-interval: found \"soon\""));
    assert!(
        complaints[3]
            .starts_with("PIDLIST_RING_SIZE: ring-size: found \"100\", expected a power of two")
    );
    assert!(complaints[4].starts_with("PIDLIST_SOCKET: socket: found \"\""));
}

#[test]
fn a_value_that_is_not_utf8_is_no_value() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut given = given("", &[], &[]);
    let value = OsString::from_vec(b"/run/\xff".to_vec());
    given
        .sources
        .flags
        .push((Setting::find("socket").unwrap(), value));
    assert_eq!(
        given.complaints(),
        ["--socket: socket: found text that is not UTF-8, expected a path from the root"]
    );
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_noted() {
    let given = given(
        "",
        &[],
        &[
            ("PIDLIST_POLLINTERVAL", "1s"),
            ("PIDLIST_BPF_OBJECT", "/x"),
            ("PIDLIST_CONFIGS", "/x"),
        ],
    );
    let notes = given.sources.load().unwrap().notes;
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert_eq!(notes[0].meant, Some("PIDLIST_POLL_INTERVAL"));
}

#[test]
fn what_is_shown_is_a_file_that_says_the_same() {
    let words = [
        ("max-bytes", "12345678"),
        ("allow-users", "root,12345"),
        ("redact-env", ""),
        ("metrics", "[::1]:80"),
        ("collect-env", "true"),
        ("keep-exited", "1m 30s"),
    ];
    let config = given("", &words, &[]).sources.load().unwrap();
    let shown: String = config
        .iter()
        .map(|(setting, value, _)| format!("{} = {value}\n", setting.key))
        .collect();
    let again = given(&shown, &[], &[]).sources.load().unwrap();
    for setting in SETTINGS {
        let is_account = setting.key == "allow-users";
        assert!(
            is_account || (setting.same)(&config.settings, &again.settings),
            "{setting:?} in {shown}"
        );
    }
    let ids = |config: &Config| {
        config
            .settings
            .allow_users
            .iter()
            .map(|user| user.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&again), [0, 12345]);
}

#[test]
fn names_follow_from_each_other() {
    for setting in SETTINGS {
        let variable = format!("PIDLIST_{}", setting.key.replace('-', "_").to_uppercase());
        assert_eq!(setting.variable, variable);
        assert!(!setting.help.is_empty() && !(setting.expected)().is_empty());
    }
}

#[test]
fn a_running_daemon_takes_what_it_can() {
    let first = given("keep-exited = '1m'\nring-size = '1M'", &[], &[]);
    let mut config = first.sources.load().unwrap();
    let new = given(
        "\nkeep-exited = '2m'\nring-size = '2M'\nmode = 'both'",
        &[],
        &[],
    );
    let new = new.sources.load().unwrap();
    let (changed, waiting) = config.adopt(&new);
    let keys = |settings: Vec<&Setting>| {
        settings
            .iter()
            .map(|setting| setting.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(changed), ["keep-exited"]);
    assert_eq!(keys(waiting), ["ring-size"]);
    assert_eq!(config.settings.keep_exited, Duration::from_secs(120));
    assert_eq!(
        config.settings.ring_size,
        first.sources.load().unwrap().settings.ring_size
    );
    assert!(matches!(
        origin(&config, "keep-exited"),
        Origin::File { line: 2, .. }
    ));
    assert!(matches!(
        origin(&config, "ring-size"),
        Origin::File {
            line: 2,
            column: 13,
            ..
        }
    ));
    assert!(matches!(
        origin(&config, "mode"),
        Origin::File { line: 4, .. }
    ));
}
