//! `pidlist daemon`, run as systemd would, and asked by clients of all kinds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pidlist_daemon::protocol::{MAX_ANSWER, MAX_REQUEST, read_frame, write_frame};
use pidlist_daemon::{Client, ClientError, Filter, Kind, Told};
use pidlist_process_cache::What;
use serde_json::{Value, json};

/// For what has to happen.
const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_534;
/// Tells this program, run as another user, which socket to connect to.
const ROLE: &str = "PIDLIST_TEST_ROLE";
/// And to ask on and on, or to listen.
const STAY: &str = "PIDLIST_TEST_STAY";

struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
    notices: UnixDatagram,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// Starts one that polls fast, and waits until it says that it serves. Loading BPF takes a debug
    /// build seconds, so who does not need it does without.
    fn start_in(directory: tempfile::TempDir, args: &[&str]) -> Self {
        let notify = directory.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let notices = UnixDatagram::bind(&notify).unwrap();
        notices.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut child = command(&directory.path().join("pidlist.sock"), args)
            .env("NOTIFY_SOCKET", &notify)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let daemon = Self {
            child,
            directory,
            notices,
            lines,
        };
        let notice = daemon.notice();
        assert!(notice.starts_with("READY=1\nSTATUS=Following "), "{notice}");
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("pidlist.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket(), "test").unwrap()
    }

    /// A connection that says what it likes.
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn greeted(&self) -> UnixStream {
        let mut stream = self.raw();
        let hello = json!({"hello": {"protocol": 1, "client": "test"}});
        say(&mut stream, &hello);
        assert_eq!(hear(&mut stream)["hello"]["pid"], self.child.id());
        stream
    }

    /// The next thing that systemd would be told.
    fn notice(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self
            .notices
            .recv(&mut buffer)
            .expect("systemd is told something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits for a line of the log.
    fn logged(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("nothing was logged of {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Stops it, and gives its directory back.
    fn stop(mut self) -> tempfile::TempDir {
        self.signal("TERM");
        let mut notices = String::new();
        while !notices.contains("STOPPING=1") {
            notices = self.notice();
        }
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket().exists());
        let directory = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.directory, directory)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pidlist"));
    command
        .args(["daemon", "--poll-interval-alone", "20ms"])
        .arg("--socket")
        .arg(socket)
        .args(if args.contains(&"--source") {
            &[]
        } else {
            &["--source", "proc"][..]
        })
        .args(args)
        .stdin(Stdio::null());
    command
}

fn say(stream: &mut UnixStream, value: &Value) {
    write_frame(stream, value.to_string().as_bytes()).unwrap();
}

fn hear(stream: &mut UnixStream) -> Value {
    let frame = read_frame(stream, MAX_ANSWER).expect("an answer");
    serde_json::from_slice(&frame).expect("an answer is JSON")
}

fn is_closed(stream: &mut UnixStream) -> bool {
    // Reset, where something that was sent will never be read.
    !stream.read(&mut [0]).is_ok_and(|length| length != 0)
}

fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn processes_are_served_from_either_source() {
    for source in ["proc", "auto"] {
        let daemon = Daemon::start(&["--source", source]);
        let mut client = daemon.client();
        let own = std::process::id();

        let snapshot = client.snapshot().unwrap();
        let process = snapshot.by_pid(own).expect("this process is in it");
        assert_eq!(
            snapshot.parent(process).unwrap().tgid,
            std::os::unix::process::parent_id()
        );
        let args: Vec<_> = process
            .image
            .as_ref()
            .unwrap()
            .args()
            .map(<[u8]>::to_vec)
            .collect();
        let own_args: Vec<_> = std::env::args_os()
            .map(std::ffi::OsString::into_encoded_bytes)
            .collect();
        assert_eq!(args, own_args);
        assert!(snapshot.alive() > 1 && snapshot.counters().walks > 0 && snapshot.taken_ns() > 0);

        assert_eq!(client.get(own).unwrap().unwrap().key(), process.key());
        assert!(client.get(u32::MAX).unwrap().is_none());
        let line = client.ancestors(daemon.child.id()).unwrap().unwrap();
        assert_eq!(line[0].pid(), daemon.child.id());
        assert_eq!(line[1].pid(), own);
        assert!(client.ancestors(u32::MAX).unwrap().is_none());
        assert!(client.preload(own).unwrap());
        assert!(!client.preload(u32::MAX).unwrap());

        let stats = client.stats().unwrap();
        assert!(stats.source == "proc" || source == "auto", "{stats:?}");
        assert_eq!((stats.clients, stats.subscribers), (1, 0));
        assert!(stats.alive > 1 && stats.bytes > 0 && stats.stepped_ns >= stats.started_ns);
        daemon.stop();
    }
}

#[test]
fn history_has_those_that_lived_since() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleep.id();
    // Walks may be far apart on a busy machine.
    assert!(within(PATIENCE, || client.get(pid).unwrap().is_some()));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let mut exited_ns = 0;
    assert!(within(PATIENCE, || {
        let seen = client.get(pid).unwrap();
        exited_ns = seen
            .and_then(|process| process.exit)
            .map_or(0, |exit| exit.noticed_ns);
        exited_ns > 0
    }));
    assert!(client.history(exited_ns).unwrap().by_pid(pid).is_some());
    let since = client.history(exited_ns + 1).unwrap();
    assert!(since.by_pid(pid).is_none());
    assert!(since.by_pid(std::process::id()).is_some(), "it lives");
}

#[test]
fn a_subscriber_is_told_what_it_wants_to_know() {
    let daemon = Daemon::start(&["--source", "auto"]);
    let has_events = daemon.client().stats().unwrap().has_events;
    let filter = Filter {
        name: "sleep".into(),
        ..Filter::default()
    };
    let mut changes = daemon.client().subscribe(filter).unwrap();
    let mut exits = daemon
        .client()
        .subscribe(Filter {
            what: vec![Kind::Exit, Kind::Gone],
            ..Filter::default()
        })
        .unwrap();
    assert!(within(PATIENCE, || daemon
        .client()
        .stats()
        .unwrap()
        .subscribers
        == 2));
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleep.id();
    let mut of_sleep = |wanted: &[What]| {
        let told = changes.find_map(|told| match told.unwrap() {
            Told::Change(change, process) if process.pid() == pid => Some((change.what, process)),
            Told::Change(_, process) => {
                // A filter by name lets other programs of that name pass, and no others.
                assert!(
                    format!("{process:?}").contains("sleep")
                        || process.comm().starts_with(b"sleep")
                );
                None
            }
            Told::Lost(_) => None,
        });
        let (what, process) = told.unwrap();
        assert!(wanted.contains(&what), "{what:?}");
        process
    };
    of_sleep(&[What::Executed, What::Found]);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let last = of_sleep(&[What::Exited, What::Gone]);
    assert!(!last.is_alive());
    if has_events {
        assert_eq!(last.exit.unwrap().signal(), Some(9));
    }
    let exit = exits.find_map(|told| match told.unwrap() {
        Told::Change(change, process) => {
            assert!(matches!(change.what, What::Exited | What::Gone));
            (process.pid() == pid).then_some(())
        }
        Told::Lost(_) => None,
    });
    assert!(exit.is_some());

    // The stream ends with the daemon, and that is no error.
    daemon.stop();
    assert!(exits.all(|told| told.is_ok()));
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_holds_up_nobody() {
    let daemon = Daemon::start(&[]);
    let mut stalled = daemon.greeted();
    // So many that the answers do not fit into the socket.
    for _ in 0..100 {
        say(&mut stalled, &json!({"snapshot": {}}));
    }
    let begun = Instant::now();
    let mut client = daemon.client();
    let first = client.snapshot().unwrap();
    assert_eq!(client.stats().unwrap().clients, 2);
    assert!(
        within(PATIENCE, || {
            client.snapshot().unwrap().taken_ns() > first.taken_ns()
        }),
        "the cache goes on"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(within(PATIENCE, || client.stats().unwrap().clients == 1));
    assert_eq!(client.stats().unwrap().clients_refused, 1);
}

#[test]
fn slow_readers_keep_few_snapshots_from_being_freed() {
    let daemon = Daemon::start(&[]);
    let stalled: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = daemon.greeted();
            for _ in 0..100 {
                say(&mut stream, &json!({"snapshot": {}}));
            }
            stream
        })
        .collect();
    let own = std::process::id();
    let is_refused = || {
        let mut client = daemon.client();
        assert!(client.get(own).unwrap().is_some(), "small answers go on");
        let said = client.snapshot().err().and_then(|error| error.code());
        said.is_some_and(|code| format!("{code:?}") == "Busy")
    };
    assert!(within(PATIENCE, is_refused));
    drop(stalled);
    assert!(within(PATIENCE, || daemon.client().snapshot().is_ok()));
}

#[test]
fn requests_are_answered_in_order() {
    let daemon = Daemon::start(&[]);
    let mut stream = daemon.greeted();
    let requests: Vec<u8> = ["{\"config\":{}}", "{\"stats\":{}}", "{\"get\":{\"pid\":1}}"]
        .iter()
        .flat_map(|json| {
            [
                &u32::try_from(json.len()).unwrap().to_be_bytes(),
                json.as_bytes(),
            ]
            .concat()
        })
        .collect();
    // However they are cut.
    for byte in requests {
        stream.write_all(&[byte]).unwrap();
    }
    let config = hear(&mut stream);
    let socket = config["config"]["settings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|setting| setting["key"] == "socket");
    assert_eq!(
        socket.unwrap()["from"],
        json!({"kind": "flag", "name": "socket"})
    );
    assert!(hear(&mut stream)["stats"].is_object());
    assert_eq!(
        hear(&mut stream)["processes"]["processes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(hear(&mut stream)["done"]["counters"].is_object());
}

#[test]
fn what_is_no_request_is_told_and_ends_the_conversation() {
    let daemon = Daemon::start(&[]);
    let too_long = u32::try_from(MAX_REQUEST + 1).unwrap().to_be_bytes();
    for (sent, said) in [
        (b"\0\0\0\x05hello".as_slice(), "expected value at line 1"),
        (b"\0\0\0\0", "EOF while parsing"),
        (b"\0\0\0\x10{\"get\":{\"pid\":1}", "EOF while parsing"),
        (b"\0\0\0\x0d{\"forget\":{}}", "unknown variant"),
        (&too_long, "more than 65536 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "more than 65536 bytes"),
    ] {
        let mut stream = daemon.greeted();
        stream.write_all(sent).unwrap();
        let answer = hear(&mut stream);
        assert_eq!(answer["error"]["code"], "garbled", "{answer}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(said),
            "{answer}"
        );
        assert!(is_closed(&mut stream));
    }
    for first in [
        json!({"hello": {"protocol": 2, "client": "of tomorrow"}}),
        json!({"stats": {}}),
    ] {
        let mut stream = daemon.raw();
        say(&mut stream, &first);
        let answer = hear(&mut stream);
        assert_eq!(answer["error"]["code"], "version", "{answer}");
        assert!(is_closed(&mut stream));
    }
    let mut stream = daemon.greeted();
    let pids: Vec<u32> = (0..2000).collect();
    say(
        &mut stream,
        &json!({"subscribe": {"filter": {"pids": pids}}}),
    );
    assert_eq!(hear(&mut stream)["error"]["code"], "garbled");
    assert!(is_closed(&mut stream));
    // A subscriber that speaks, and one that leaves in the middle of a frame.
    let mut stream = daemon.greeted();
    say(&mut stream, &json!({"subscribe": {}}));
    assert!(hear(&mut stream)["subscribed"].is_object());
    say(&mut stream, &json!({"stats": {}}));
    let mut answer = hear(&mut stream);
    while answer["change"].is_object() {
        answer = hear(&mut stream);
    }
    assert_eq!(answer["error"]["code"], "garbled", "{answer}");
    daemon.greeted().write_all(b"\0\0\0\x10{").unwrap();
    let mut client = daemon.client();
    assert!(within(PATIENCE, || client.stats().unwrap().clients == 1));
}

#[test]
fn clients_beyond_the_bound_are_turned_away() {
    let daemon = Daemon::start(&[]);
    let held: Vec<Client> = (0..64).map(|_| daemon.client()).collect();
    let error = Client::connect(&daemon.socket(), "test").unwrap_err();
    assert_eq!(format!("{:?}", error.code()), "Some(Busy)", "{error}");
    drop(held);
    assert!(within(PATIENCE, || Client::connect(
        &daemon.socket(),
        "test"
    )
    .is_ok()));
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_socket_is_served_by_one() {
    let daemon = Daemon::start(&[]);
    let error = refused(&command(&daemon.socket(), &[]).output().unwrap());
    let told = format!(
        "another daemon (process {}) serves this socket",
        daemon.child.id()
    );
    assert!(error.contains(&told), "{error}");
    assert!(daemon.client().stats().is_ok(), "the first one goes on");

    let nowhere = daemon.directory.path().join("a/b/pidlist.sock");
    let error = refused(&command(&nowhere, &[]).output().unwrap());
    assert!(
        error.contains("cannot serve the socket") && error.contains("No such file"),
        "{error}"
    );
    let long = daemon.directory.path().join("x".repeat(200));
    let error = refused(&command(&long, &[]).output().unwrap());
    assert!(error.contains("cannot serve the socket"), "{error}");
}

#[test]
fn after_a_kill_the_next_one_starts_clean() {
    let mut daemon = Daemon::start(&[]);
    let socket = daemon.socket();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(socket.exists());
    assert!(matches!(
        Client::connect(&socket, "test"),
        Err(ClientError::NotRunning { .. })
    ));
    let directory = tempfile::tempdir().unwrap();
    let directory = std::mem::replace(&mut daemon.directory, directory);
    let next = Daemon::start_in(directory, &[]);
    let snapshot = next.client().snapshot().unwrap();
    assert!(
        snapshot.by_pid(std::process::id()).is_some(),
        "who lived before is known again"
    );
    let directory = next.stop();
    assert!(matches!(
        Client::connect(&directory.path().join("pidlist.sock"), "test"),
        Err(ClientError::NotRunning { .. })
    ));
}

/// Not a test of its own: what another user does in the tests below.
#[test]
fn role() {
    let Ok(socket) = std::env::var(ROLE) else {
        return;
    };
    let ask = || {
        let mut client = Client::connect(Path::new(&socket), "nobody")?;
        client.stats()?;
        println!("served");
        match std::env::var(STAY).as_deref() {
            Ok("ask") => loop {
                client.stats()?;
                std::thread::sleep(Duration::from_millis(20));
            },
            Ok(_) => client
                .subscribe(Filter::default())?
                .try_for_each(|told| told.map(drop)),
            Err(_) => Ok(()),
        }
    };
    match ask() {
        Ok(()) => {}
        Err(ClientError::Refused { code, .. }) => println!("refused: {code:?}"),
        Err(ClientError::Forbidden { .. }) => println!("forbidden"),
        Err(ClientError::Broken { source, .. } | ClientError::NotRunning { source, .. }) => {
            println!("broken: {:?}", source.kind());
        }
    }
}

/// This program in its [`role`], as a user who may do nothing.
fn as_nobody(daemon: &Daemon) -> Command {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(daemon.directory.path(), open).unwrap();
    let program = daemon.directory.path().join("client");
    // Not by this process: a child that another thread forks meanwhile would hold it open.
    let copied = Command::new("cp")
        .arg("--remove-destination")
        .arg(std::env::current_exe().unwrap())
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(program);
    command
        .args(["--exact", "role", "--nocapture"])
        .env(ROLE, daemon.socket())
        .stdout(Stdio::piped())
        .uid(NOBODY)
        .gid(NOBODY);
    command
}

#[test]
#[ignore = "takes root, to be other users"]
fn only_the_allowed_may_ask() {
    let nobody = NOBODY.to_string();
    for (args, said) in [
        (vec![], "forbidden"),
        (vec!["--allow-users", "12345"], "refused: Denied"),
        (vec!["--allow-users", &nobody], "served"),
        (vec!["--allow-groups", "12345"], "refused: Denied"),
        (vec!["--allow-groups", &nobody], "served"),
    ] {
        let daemon = Daemon::start(&args);
        let output = as_nobody(&daemon).output().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.contains(said), "{args:?}: {output}");
    }
}

#[test]
#[ignore = "takes root, to be other users"]
fn who_is_not_allowed_any_more_is_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pidlist.toml");
    std::fs::write(&file, format!("allow-users = [{NOBODY}]\n")).unwrap();
    let daemon = Daemon::start_in(directory, &["--config", file.to_str().unwrap()]);
    let mut clients: Vec<Child> = ["ask", "listen"]
        .map(|how| as_nobody(&daemon).env(STAY, how).spawn().unwrap())
        .into();
    let mut own = daemon.client();
    assert!(within(PATIENCE, || {
        let stats = own.stats().unwrap();
        (stats.clients, stats.subscribers) == (3, 1)
    }));
    std::fs::write(&file, "allow-users = []\n").unwrap();
    daemon.signal("HUP");
    daemon.logged("allow-users = []");
    // Something happens of which a listener would hear.
    assert!(Command::new("true").status().unwrap().success());
    for client in &mut clients {
        let mut said = String::new();
        let stdout = client.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        client.wait().unwrap();
        assert!(
            said.contains("served") && said.contains("refused: Denied"),
            "{said}"
        );
    }
    assert!(own.stats().is_ok(), "root is never kept out");
}

#[test]
fn settings_are_read_again_and_bad_ones_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pidlist.toml");
    std::fs::write(&file, "keep-exited = '1m'\n").unwrap();
    let daemon = Daemon::start_in(directory, &["--config", file.to_str().unwrap()]);
    let mut client = daemon.client();
    let mut keep_exited = || {
        let settings = client.config().unwrap();
        let setting = settings
            .iter()
            .find(|setting| setting.key == "keep-exited")
            .unwrap();
        (setting.value.clone(), setting.from.to_string())
    };
    let place = |line: u32| format!("{}:{line}:15", file.display());
    assert_eq!(keep_exited(), (json!("1m"), place(1)));

    // By the file alone, written anew.
    std::fs::write(&file, "\nkeep-exited = '2m'\nring-size = '1M'\n").unwrap();
    let notice = daemon.notice();
    assert!(
        notice.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{notice}"
    );
    assert!(daemon.notice().starts_with("READY=1"));
    daemon.logged("ring-size takes a restart to change");
    daemon.logged("keep-exited = \"2m\"");
    assert_eq!(keep_exited(), (json!("2m"), place(2)));

    // Replaced by a bad one.
    let bad = daemon.directory.path().join("new");
    std::fs::write(&bad, "keep-exited = '3m'\nmode = 'maybe'\n").unwrap();
    std::fs::rename(&bad, &file).unwrap();
    assert!(daemon.notice().starts_with("RELOADING=1"));
    let notice = daemon.notice();
    assert!(
        notice.starts_with("READY=1\nSTATUS=Bad settings, the old ones hold: "),
        "{notice}"
    );
    assert!(
        notice.contains(":2:8: mode: found \"maybe\", expected both, events or poll"),
        "{notice}"
    );
    daemon.logged("the old ones hold");
    assert_eq!(keep_exited(), (json!("2m"), place(2)));

    // Gone: it was named, so that is an error, too.
    std::fs::remove_file(&file).unwrap();
    assert!(daemon.notice().starts_with("RELOADING=1"));
    assert!(daemon.notice().contains("cannot read the settings"));
    assert_eq!(keep_exited(), (json!("2m"), place(2)));

    daemon.signal("HUP");
    assert!(daemon.notice().starts_with("RELOADING=1"));
    assert!(daemon.notice().contains("cannot read the settings"));
    daemon.stop();
}

#[test]
fn bad_settings_are_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("pidlist.sock");
    let error = refused(
        &command(&socket, &["--ring-size", "3"])
            .env("PIDLIST_MODE", "x")
            .output()
            .unwrap(),
    );
    assert!(
        error.contains("--ring-size: ring-size: found \"3\", expected a power of two"),
        "{error}"
    );
    assert!(
        error.contains("PIDLIST_MODE: mode: found \"x\", expected both, events or poll"),
        "{error}"
    );
    let error = refused(
        &command(&socket, &["--config", "/nowhere"])
            .output()
            .unwrap(),
    );
    assert!(
        error.contains("cannot read the settings in /nowhere"),
        "{error}"
    );
    assert!(!socket.exists());
}

#[test]
fn figures_and_health_are_served_on_loopback() {
    let daemon = Daemon::start(&["--metrics", "127.0.0.1:0"]);
    let line = daemon.logged("serving http://");
    let address = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let get = |request: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let _client = daemon.client();
    let page = get("GET /metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("application/openmetrics-text"), "{page}");
    let figure = |name: &str| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse::<f64>()
            .unwrap()
    };
    assert!(figure("pidlist_processes{state=\"alive\"}") > 1.0);
    assert_eq!(figure("pidlist_clients"), 1.0);
    assert_eq!(figure("pidlist_events_lost_total{kind=\"exit\"}"), 0.0);
    assert!(figure("pidlist_walks_total") >= 1.0);
    assert!(figure("pidlist_cache_bytes") > 0.0);
    assert!(figure("pidlist_walk_duration_seconds") > 0.0);
    assert!(page.ends_with("# EOF\n"));

    assert!(get("GET /healthz").starts_with("HTTP/1.1 200 OK"));
    assert!(get("GET /other").starts_with("HTTP/1.1 404"));
    assert!(get("POST /metrics").starts_with("HTTP/1.1 405"));
    assert!(get("garbage").starts_with("HTTP/1.1 400"));

    // Another daemon cannot have the port.
    let other = tempfile::tempdir().unwrap();
    let socket = other.path().join("pidlist.sock");
    let error = refused(&command(&socket, &["--metrics", &address]).output().unwrap());
    assert!(
        error.contains("cannot serve metrics at") && error.contains("in use"),
        "{error}"
    );
    assert!(!socket.exists(), "it leaves nothing behind");
}

#[test]
fn systemd_is_told_that_all_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let notify = directory.path().join("notify");
    let notices = UnixDatagram::bind(&notify).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = command(&directory.path().join("pidlist.sock"), &[])
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "400000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut beats = 0;
    while beats < 3 {
        let mut buffer = [0; 4096];
        let length = notices.recv(&mut buffer).unwrap();
        beats += u32::from(&buffer[..length] == b"WATCHDOG=1\n");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
