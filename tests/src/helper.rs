//! Processes that do as a test tells them: `guest-tests helper NAME ARGUMENTS…`.
//!
//! They print what the test has to know, a line each, and wait for a line before each step.

use std::ffi::{CStr, CString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use pidlist_abi::pidset as abi;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::thread::gettid;

use crate::sys::device::{Device, Events};
use crate::sys::task::{
    Idle, brief_child, brief_family, bush, exec_file, exit_thread, unshare_pids, unshare_time,
    unshare_users,
};

/// What a helper does.
type Role = fn(&[String]) -> Result<()>;

const HELPERS: &[(&str, Role)] = &[
    ("bush", grow_a_bush),
    ("churn", churn),
    ("client", client),
    ("exec-chain", exec_chain),
    ("exec-from-thread", exec_from_thread),
    ("exec-memfd", exec_memfd),
    ("forks", forks),
    ("leader-exits", leader_exits),
    ("namespace", namespace),
    ("serve", serve),
    ("shifted-clock", shifted_clock),
    ("sibling", sibling),
    ("subreaper", subreaper),
    ("threads", threads),
    ("user-namespace", user_namespace),
    ("victim", victim),
];

pub fn main(arguments: &[String]) -> Result<()> {
    let (name, arguments) = arguments.split_first().context("which helper?")?;
    let helper = HELPERS.iter().find(|(known, _)| known == name);
    helper.with_context(|| format!("no helper {name}"))?.1(arguments)
}

/// A helper that runs; killed and reaped in the end.
pub struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("helper").args(arguments);
    Ok(command)
}

impl Helper {
    /// Starts it in a process group of its own.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting helper {arguments:?}"))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            to,
            from: BufReader::new(from.context("no pipe")?),
            child,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it prints.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        ensure!(
            line.ends_with('\n'),
            "the helper ended early, after {line:?}"
        );
        line.pop();
        Ok(line)
    }

    /// The next line, a number.
    pub fn number(&mut self) -> Result<u32> {
        let line = self.line()?;
        line.parse().with_context(|| format!("no number: {line:?}"))
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let to = self.to.as_mut().context("its pipe is closed")?;
        Ok(writeln!(to, "{line}")?)
    }

    /// Says a line to it, and hears one.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.line()
    }

    /// Tells a helper that serves to do something; returns what came of it.
    pub fn order(&mut self, line: &str) -> Result<Result<String, Errno>> {
        let answer = self.ask(line)?;
        match answer.split_once(' ') {
            Some(("ok", answer)) => Ok(Ok(answer.to_owned())),
            Some(("errno", number)) => Ok(Err(Errno::from_raw_os_error(number.parse()?))),
            _ => bail!("no answer to {line:?}: {answer:?}"),
        }
    }

    /// As [`Helper::order`], of which a number comes.
    pub fn order_number(&mut self, line: &str) -> Result<u32> {
        let answer = self.order(line)?.with_context(|| line.to_owned())?;
        answer
            .parse()
            .with_context(|| format!("{line:?} gave {answer:?}"))
    }

    /// Waits for its end, which has to be a good one; returns what it printed last.
    pub fn finish(mut self) -> Result<String> {
        drop(self.to.take());
        let mut rest = String::new();
        self.from.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the helper ended with {status}: {rest}");
        Ok(rest)
    }

    /// Waits for its end; its children stay.
    pub fn leave(&mut self) -> Result<()> {
        drop(self.to.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the helper ended with {status}");
        Ok(())
    }

    /// Kills it with `SIGKILL`, and its group; reaps it.
    pub fn kill(mut self) -> Result<()> {
        self.kill_group();
        self.child.wait()?;
        Ok(())
    }

    fn kill_group(&mut self) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill_group();
        let _ = self.child.wait();
    }
}

fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// The next line from the test; none when it is done with us.
fn hear() -> Result<Option<String>> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line)?;
    Ok((count > 0).then(|| line.trim_end().to_owned()))
}

fn tid() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}

fn wait_for_ever() -> ! {
    loop {
        thread::park();
    }
}

/// `bush DEPTH`: makes a tree of processes that stay, when told to; says when all are there.
fn grow_a_bush(arguments: &[String]) -> Result<()> {
    let depth = arguments.first().context("how deep?")?.parse()?;
    hear()?;
    bush(depth)?;
    say("grown")?;
    wait_for_ever()
}

/// `forks COUNT [families]`: makes so many children, one after the other; 0: until it is killed.
fn forks(arguments: &[String]) -> Result<()> {
    let count: u64 = arguments.first().context("how many?")?.parse()?;
    let families = arguments.len() > 1;
    say("ready")?;
    hear()?;
    let mut made = 0;
    while count == 0 || made < count {
        if families {
            brief_family()?;
        } else {
            brief_child()?;
        }
        made += 1;
    }
    say("done")
}

/// `churn KEEP`: makes children that stay, up to so many, and then ends one at random for each that it
/// makes, and others that end at once; when told to, stops and says the numbers of those that are left.
fn churn(arguments: &[String]) -> Result<()> {
    let keep: usize = arguments.first().context("how many?")?.parse()?;
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || stop.send(hear().is_ok()));
    let mut children = Vec::new();
    say("ready")?;
    while stopped.try_recv().is_err() {
        children.push(Idle::new()?);
        brief_child()?;
        if children.len() > keep {
            children.swap_remove(fastrand::usize(..children.len()));
        }
    }
    let pids: Vec<String> = children
        .iter()
        .map(|child| child.pid().to_string())
        .collect();
    say(pids.join(" "))?;
    wait_for_ever()
}

/// `client NAME`: makes a temporary list with itself in it and reads its events.
fn client(arguments: &[String]) -> Result<()> {
    let name = arguments.first().context("which list?")?;
    let device = Device::open()?;
    let list = device.create_with(
        name,
        abi::OPEN_TEMPORARY,
        abi::RULE_FOLLOW,
        abi::BYTES_DEFAULT,
    )?;
    drop(device);
    list.add(&[std::process::id()])?;
    let events = list.events(0)?;
    say("ready")?;
    // What a client does when it is killed: it waits.
    let got = events.read(1);
    bail!("an event came: {got:?}")
}

/// `threads COUNT`: has so many threads beside the first, and says their numbers. Then `spawn I`,
/// `fork I` and `end I` let the I-th thread (the first is 0) make another one, make a child, or end.
fn threads(arguments: &[String]) -> Result<()> {
    let count: u32 = arguments.first().context("how many?")?.parse()?;
    let (report, reports) = mpsc::channel();
    let mut workers: Vec<Worker> = Vec::new();
    let say_next = |workers: &mut Vec<Worker>| {
        let (number, worker) = reports.recv()?;
        workers.extend(worker);
        say(number)
    };
    for _ in 0..count {
        spawn_worker(&report)?;
        say_next(&mut workers)?;
    }
    while let Some(line) = hear()? {
        let (what, which) = line.split_once(' ').context("which thread?")?;
        let order = match what {
            "spawn" => Order::Spawn,
            "fork" => Order::Fork,
            "end" => Order::End,
            _ => bail!("cannot {what}"),
        };
        match which.parse::<usize>()?.checked_sub(1) {
            Some(index) => workers[index].send(order)?,
            None => obey(&order, &report)?,
        }
        say_next(&mut workers)?;
    }
    std::process::exit(0)
}

enum Order {
    Spawn,
    Fork,
    End,
}

type Worker = mpsc::Sender<Order>;

/// The number of what was made, and who takes its orders.
type Report = (u32, Option<Worker>);

/// Makes a thread that obeys orders; it reports itself.
fn spawn_worker(report: &mpsc::Sender<Report>) -> Result<()> {
    let (worker, orders) = mpsc::channel();
    let report = report.clone();
    thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let _ = report.send((tid(), Some(worker)));
        for order in orders {
            if matches!(order, Order::End) || obey(&order, &report).is_err() {
                let _ = report.send((0, None));
                break;
            }
        }
    })?;
    Ok(())
}

/// Does as ordered; what was made is reported.
fn obey(order: &Order, report: &mpsc::Sender<Report>) -> Result<()> {
    match order {
        Order::Spawn => spawn_worker(report),
        Order::Fork => {
            let child = Idle::new()?;
            report.send((child.pid(), None))?;
            std::mem::forget(child);
            Ok(())
        }
        Order::End => exit_thread(),
    }
}

/// `exec-from-thread`: says a second thread's number; when told to, that thread starts a program,
/// which takes over the process.
fn exec_from_thread(_: &[String]) -> Result<()> {
    let (done, made) = mpsc::channel();
    thread::spawn(move || {
        let _ = done.send(tid());
        let _ = hear();
        // The program is this one, as another helper.
        let error = command(&["forks", "1"]).map(|mut program| program.exec());
        eprintln!("exec: {error:?}");
        std::process::exit(1);
    });
    say(made.recv()?)?;
    wait_for_ever()
}

/// `exec-memfd ARGUMENTS…`: becomes busybox, from a file that has no name, with these arguments.
fn exec_memfd(arguments: &[String]) -> Result<()> {
    let file = memfd_create("nameless", MemfdFlags::CLOEXEC)?;
    std::fs::copy(
        "/bin/busybox",
        format!("/proc/self/fd/{}", file.as_raw_fd()),
    )?;
    let arguments: Vec<CString> = arguments
        .iter()
        .map(|argument| CString::new(argument.as_str()))
        .collect::<Result<_, _>>()?;
    let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
    Err(exec_file(file.as_fd(), &arguments).into())
}

/// `exec-chain COUNT [go]`: so many times, a second thread takes over the process by an exec of this
/// program; then says that it is done. Begins when told to.
fn exec_chain(arguments: &[String]) -> Result<()> {
    let count: u32 = arguments.first().context("how often?")?.parse()?;
    if arguments.len() == 1 {
        say("ready")?;
        hear()?;
    }
    if count == 0 {
        say("done")?;
        hear()?;
        return Ok(());
    }
    let mut next = command(&["exec-chain", &(count - 1).to_string(), "go"])?;
    thread::spawn(move || {
        eprintln!("exec: {}", next.exec());
        std::process::exit(1);
    });
    wait_for_ever()
}

/// `leader-exits`: says a second thread's number; when told to, the first thread ends and the second
/// goes on, and makes a child when told to.
fn leader_exits(_: &[String]) -> Result<()> {
    let (go, gone) = mpsc::channel::<()>();
    thread::spawn(move || {
        let go_on = || {
            say(tid())?;
            gone.recv()?;
            while hear()?.is_some() {
                let child = Idle::new()?;
                say(child.pid())?;
                std::mem::forget(child);
            }
            anyhow::Ok(())
        };
        std::process::exit(i32::from(go_on().is_err()));
    });
    hear()?;
    go.send(())?;
    exit_thread()
}

/// `namespace NAME ARGUMENTS…`: another helper, as the first process of a new pid namespace.
fn namespace(arguments: &[String]) -> Result<()> {
    unshare_pids()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let status = command(&arguments)?.status()?;
    ensure!(status.success(), "in the namespace: {status}");
    Ok(())
}

/// `shifted-clock SECONDS PROGRAM ARGUMENTS…`: runs a program in a time namespace whose `CLOCK_BOOTTIME` is
/// so much ahead.
fn shifted_clock(arguments: &[String]) -> Result<()> {
    let [seconds, program, arguments @ ..] = arguments else {
        bail!("by how much, for what?");
    };
    unshare_time()?;
    std::fs::write("/proc/self/timens_offsets", format!("boottime {seconds} 0"))?;
    let status = Command::new(program).args(arguments).status()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// `sibling`: when told to, makes another child of its own parent, and says its number.
fn sibling(_: &[String]) -> Result<()> {
    while hear()?.is_some() {
        let sibling = Idle::sibling()?;
        say(sibling.pid())?;
        std::mem::forget(sibling);
    }
    Ok(())
}

/// `subreaper NAME ARGUMENTS…`: another helper, whose children become this one's when it has ended.
fn subreaper(arguments: &[String]) -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    command(&arguments)?.status()?;
    say("alone")?;
    wait_for_ever()
}

/// `user-namespace UID NAME ARGUMENTS…`: another helper, as all-powerful in a namespace of a user.
fn user_namespace(arguments: &[String]) -> Result<()> {
    let (uid, rest) = arguments.split_first().context("which user?")?;
    let raw: u32 = uid.parse()?;
    let uid = rustix::process::Uid::from_raw(raw);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    unshare_users()?;
    // A process that changed its user may not write even to its own files in /proc.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    std::fs::write("/proc/self/uid_map", format!("0 {raw} 1")).context("mapping the user")?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "the user is not root here"
    );
    main(rest)
}

/// `victim SEED`: uses its list and the default one until it is killed.
fn victim(arguments: &[String]) -> Result<()> {
    let seed: u64 = arguments.first().context("which seed?")?.parse()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let device = Device::open()?;
    let name = format!("victim-{seed}");
    let list = device.create_with(
        &name,
        abi::OPEN_TEMPORARY,
        abi::RULE_FOLLOW,
        abi::BYTES_DEFAULT,
    )?;
    let events = list.events(0)?.nonblocking()?;
    let us = std::process::id();
    say("ready")?;
    loop {
        let target = if random.bool() { &list } else { &device };
        match random.u32(0..9) {
            0 => target.add(&[us])?,
            1 => target.remove(&[us])?,
            2 => target.add_trees(&[us])?,
            3 => drop(target.members()?),
            4 => drop(target.list(&name)?.events(1)?.nonblocking()?.read(8)),
            5 => drop(events.ready()?),
            6 => target.write(&format!("!{us} {us} 1-{us}\n"))?,
            7 => drop(target.read()?),
            _ => drop(brief_child()?),
        }
    }
}

/// `serve`: does with a list what each line says, and says what came of it: see [`Helper::order`].
fn serve(_: &[String]) -> Result<()> {
    let mut server = Server {
        list: Device::open()?,
        events: None,
        idle: Vec::new(),
    };
    say("ready")?;
    while let Some(line) = hear()? {
        match server.obey(&line)? {
            Ok(answer) => say(format_args!("ok {answer}"))?,
            Err(errno) => say(format_args!("errno {}", errno.raw_os_error()))?,
        }
    }
    Ok(())
}

struct Server {
    list: Device,
    events: Option<Events>,
    idle: Vec<Idle>,
}

impl Server {
    fn obey(&mut self, line: &str) -> Result<Result<String, Errno>> {
        let nothing = |()| String::new();
        let words: Vec<&str> = line.split(' ').collect();
        let list = &self.list;
        Ok(match words[..] {
            ["pid"] => Ok(std::process::id().to_string()),
            ["idle"] => Idle::new().map(|process| {
                self.idle.push(process);
                self.idle.last().map_or(0, Idle::pid).to_string()
            }),
            ["end"] => {
                self.idle.clear();
                Ok(String::new())
            }
            ["open", name] => list.list(name).map(|list| self.list = list).map(nothing),
            ["create", name] => list
                .create(name, 0)
                .map(|list| self.list = list)
                .map(nothing),
            ["delete", name] => list.delete(name).map(nothing),
            ["owner", name] => list.lists().map(|lists| {
                lists
                    .get(name)
                    .map_or("none".to_owned(), |list| list.owner.to_string())
            }),
            ["add", pid] => list.add(&[pid.parse()?]).map(nothing),
            ["add-range", first, last] => list
                .add_ranges(&[[first.parse()?, last.parse()?]])
                .map(nothing),
            ["add-tree", pid] => list.add_trees(&[pid.parse()?]).map(nothing),
            ["remove", pid] => list.remove(&[pid.parse()?]).map(nothing),
            ["has", pid] => list.has(pid.parse()?).map(|has| has.to_string()),
            ["clear"] => list.clear().map(nothing),
            ["members"] => list.sequence().map(|members| format!("{members:?}")),
            ["ids"] => list.ids().map(|ids| format!("{ids:?}")),
            ["text"] => list.read().map(|text| format!("{text:?}")),
            ["write", word] => list.write(&format!("{word}\n")).map(nothing),
            ["watch"] => list
                .events(0)
                .and_then(Events::nonblocking)
                .map(|events| self.events = Some(events))
                .map(nothing),
            ["events"] => self
                .events
                .as_ref()
                .context("not watching")?
                .ready()
                .map(|events| {
                    let events = events.iter().map(|e| (e.kind, e.pid, e.id));
                    format!("{:?}", events.collect::<Vec<_>>())
                }),
            _ => bail!("cannot {line:?}"),
        })
    }
}
