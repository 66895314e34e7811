//! One run: boot, follow the channels, judge.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Accel, RunArgs,
    initramfs::{self, Archive},
    ktap::{self, Outcome, Reported},
    kvm,
    machine::{self, CHANNELS, Event, Hardware, Machine},
    patience::Patience,
    splat,
};

/// After a complaint that ends a run, the rest of the trace still comes.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A power-off takes less than a second.
const POWER_OFF: Duration = Duration::from_secs(15);
const CONSOLE_TAIL: usize = 40;

/// Runs the command and judges; returns the exit code.
pub fn batch(args: &RunArgs) -> Result<u8> {
    fs::create_dir_all(&args.logs)
        .with_context(|| format!("making the log directory {}", args.logs.display()))?;
    let initrd = build_initramfs(args)?;
    let hardware = hardware(args, &initrd)?;
    let mut machine = Machine::boot(hardware, &args.kernel, &initrd, &args.append.join(" "))?;
    let mut watch = Watch::new(args)?;
    let ended = watch.follow(&mut machine)?;
    machine.kill();
    watch.judge(&ended, &machine.complaints())
}

/// Boots with the console on this terminal.
pub fn interactive(args: &RunArgs) -> Result<u8> {
    fs::create_dir_all(&args.logs)
        .with_context(|| format!("making the log directory {}", args.logs.display()))?;
    let initrd = build_initramfs(args)?;
    let hardware = hardware(args, &initrd)?;
    if io::stdout().is_terminal() {
        println!(
            "`exit` or Ctrl-D powers off, Ctrl-A X kills the machine, Ctrl-A H shows more keys"
        );
    }
    machine::boot_on_terminal(hardware, &args.kernel, &initrd, &args.append.join(" "))?;
    Ok(0)
}

/// Looks for splats in recorded logs.
pub fn scan(logs: &[PathBuf]) -> Result<u8> {
    let mut found = 0;
    for log in logs {
        let bytes = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
        let mut search = splat::Search::default();
        for splat in String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| search.line(line))
        {
            println!("{}: {}: {}", log.display(), splat.class.name, splat.title);
            found += 1;
        }
    }
    Ok(u8::from(found > 0))
}

fn build_initramfs(args: &RunArgs) -> Result<PathBuf> {
    for (what, file) in [("kernel", &args.kernel), ("init", &args.init)] {
        ensure!(
            initramfs::is_readable_file(file),
            "no {what} at {}; make one with qemu/setup.sh",
            file.display()
        );
    }
    let path = args.logs.join("initramfs.cpio");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    archive.add(&args.base, Path::new(""))?;
    archive.character_device(Path::new("dev/console"), 5, 1)?;
    archive.add(&args.init, Path::new("init"))?;
    for placement in &args.files {
        archive.add(&placement.host, &placement.guest)?;
    }
    let mut environment = args.environment.clone();
    let mut command = args.command.clone();
    if args.interactive
        && let Some((width, height)) = terminal_size::terminal_size()
    {
        // A serial line has no size of its own, and does not know what it is connected to.
        environment.extend([
            format!("COLUMNS={}", width.0),
            format!("LINES={}", height.0),
            format!("TERM={}", std::env::var("TERM").unwrap_or("linux".into())),
        ]);
        let resize = format!("stty cols {} rows {}; exec \"$@\"", width.0, height.0);
        command.splice(0..0, ["sh".into(), "-c".into(), resize, "sh".into()]);
    }
    let script = initramfs::command_script(&command, &environment);
    archive.file(Path::new("command"), 0o755, script.as_bytes())?;
    archive
        .finish()
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn hardware(args: &RunArgs, initrd: &Path) -> Result<Hardware> {
    let kvm = match args.accel {
        Accel::Kvm => true,
        Accel::Tcg => false,
        // Only emulation can count instructions.
        Accel::Auto => !args.icount && kvm::works(&args.kernel, initrd, args.cache.as_deref()),
    };
    ensure!(
        !(kvm && args.icount),
        "counting instructions needs --accel tcg"
    );
    let smp = if args.icount { 1 } else { args.smp };
    Ok(Hardware {
        smp,
        memory_mib: args.memory,
        kvm,
        icount: args.icount,
    })
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    PoweredOff,
    /// qemu was stopped, and why.
    Stopped(String),
}

/// What is known of a run so far.
struct Watch<'a> {
    args: &'a RunArgs,
    started: Instant,
    console_log: File,
    results_log: File,
    output_log: File,
    console: Vec<String>,
    search: splat::Search,
    /// Class, title, and the place in `console`.
    splats: Vec<(&'static str, String, usize)>,
    parser: ktap::Parser,
    /// What the current test said, and what those said that have failed.
    diagnostics: Vec<String>,
    failures: Vec<String>,
    exit: Option<u8>,
    taint: Option<u64>,
    booted: bool,
}

impl<'a> Watch<'a> {
    fn new(args: &'a RunArgs) -> Result<Self> {
        let create = |name: &str| {
            let path = args.logs.join(name);
            File::create(&path).with_context(|| format!("creating {}", path.display()))
        };
        Ok(Watch {
            args,
            started: Instant::now(),
            console_log: create("console.log")?,
            results_log: create("results.ktap")?,
            output_log: create("output.log")?,
            console: Vec::new(),
            search: splat::Search::default(),
            splats: Vec::new(),
            parser: ktap::Parser::default(),
            diagnostics: Vec::new(),
            failures: Vec::new(),
            exit: None,
            taint: None,
            booted: false,
        })
    }

    /// Reads the channels until the guest is gone or has to be stopped.
    fn follow(&mut self, machine: &mut Machine) -> Result<End> {
        let mut patience = Patience::new(
            self.started,
            self.args.timeout,
            self.args.idle,
            self.args.patience,
        );
        let mut open = CHANNELS;
        while open > 0 {
            match machine.events.recv_timeout(Duration::from_millis(200)) {
                Ok(Event::Closed) => open -= 1,
                Ok(event) => {
                    let now = Instant::now();
                    patience.sign_of_life(now);
                    if let Some((why, grace)) = self.take(event, machine)? {
                        patience.ends_within(now, grace, why);
                    }
                    if self.booted {
                        patience.booted();
                    }
                }
                Err(RecvTimeoutError::Timeout) if !machine.is_running() => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(why) = patience.over(Instant::now()) {
                return Ok(End::Stopped(why));
            }
        }
        Ok(End::PoweredOff)
    }

    /// Takes note of one event. Returns why, and how soon, it ends the run.
    fn take(&mut self, event: Event, machine: &Machine) -> Result<Option<(String, Duration)>> {
        match event {
            Event::Console(line) => return self.console_line(line),
            Event::Output(bytes) => {
                self.output_log
                    .write_all(&bytes)
                    .context("writing output.log")?;
                if self.args.show {
                    let mut stdout = io::stdout().lock();
                    stdout
                        .write_all(&bytes)
                        .and_then(|()| stdout.flush())
                        .context("showing")?;
                }
            }
            Event::Results(line) => {
                writeln!(self.results_log, "{line}").context("writing results.ktap")?;
                if let Some(code) = line.strip_prefix("@exit ") {
                    self.exit = code.trim().parse().ok();
                    machine.acknowledge();
                    return Ok(Some(("the guest did not power off".into(), POWER_OFF)));
                } else if let Some(flags) = line.strip_prefix("@taint ") {
                    self.taint = flags.trim().parse().ok();
                } else {
                    let reports = self.parser.line(&line);
                    self.report(&reports);
                    if line.starts_with("# ") {
                        self.diagnostics.push(line);
                    }
                }
            }
            Event::Closed => {}
        }
        Ok(None)
    }

    fn console_line(&mut self, line: String) -> Result<Option<(String, Duration)>> {
        writeln!(self.console_log, "{line}").context("writing console.log")?;
        self.booted |= line.contains("Run /init as init process");
        let splat = self.search.line(&line);
        let at = self.console.len();
        self.console.push(line);
        let Some(splat) = splat else { return Ok(None) };
        let end = splat
            .class
            .ends_run
            .then(|| (format!("the kernel is lost: {}", splat.title), LAST_WORDS));
        self.splats.push((splat.class.name, splat.title, at));
        Ok(end)
    }

    fn report(&mut self, reports: &[Reported]) {
        for report in reports {
            let said = std::mem::take(&mut self.diagnostics);
            if report.outcome == Outcome::Failed {
                self.failures.push(format!("failed: {}", report.name));
                self.failures.extend(said);
            }
            if self.args.show {
                continue;
            }
            let mark = match report.outcome {
                Outcome::Passed => "ok  ",
                Outcome::Failed => "FAIL",
                Outcome::Skipped => "skip",
            };
            let note = if report.note.is_empty() { "" } else { " — " };
            println!(
                "{mark} {:6.2} s  {}{note}{}",
                report.took.as_secs_f64(),
                report.name,
                report.note
            );
        }
    }

    /// Says what went wrong and returns the exit code.
    fn judge(&mut self, end: &End, complaints: &str) -> Result<u8> {
        let missing = self.parser.finish();
        self.report(&missing);
        let counts = self.parser.counts();
        let mut reasons = Vec::new();
        if let End::Stopped(why) = end {
            reasons.push(format!("stopped: {why}"));
        }
        if !self.booted {
            reasons.push(format!(
                "the guest never came as far as its init {}",
                complaints.trim()
            ));
        } else if self.exit.is_none() && *end == End::PoweredOff {
            reasons.push("the guest ended without saying how its command did".into());
        }
        if let Some((class, title, _)) = self.splats.first() {
            let more = match self.splats.len() {
                1 => String::new(),
                n => format!(" (and {} more lines)", n - 1),
            };
            reasons.push(format!("the kernel complained ({class}): {title}{more}"));
        }
        if let Some(letters) = self.taint.and_then(splat::unexpected_taint) {
            reasons.push(format!("the kernel is tainted: {letters}"));
        }
        if self.args.tests && counts == ktap::Counts::default() {
            reasons.push("the command reported no tests".into());
        }
        if counts.failed > 0 {
            reasons.push(format!("{} tests failed", counts.failed));
        }
        let command = self.exit.unwrap_or(0);
        if command != 0 {
            reasons.push(format!("the command ended with exit code {command}"));
        }
        if !reasons.is_empty() {
            self.explain(&reasons);
        }
        if self.args.tests {
            let failed = counts.failed.max(u32::from(!reasons.is_empty()));
            println!(
                "test result: {}. {} passed; {failed} failed; {} ignored; finished in {:.2}s",
                if failed == 0 { "ok" } else { "FAILED" },
                counts.passed,
                counts.skipped,
                self.started.elapsed().as_secs_f64(),
            );
        }
        Ok(match (command, reasons.is_empty(), self.booted) {
            (_, true, _) => 0,
            (_, _, false) => 2,
            (0, ..) => 1,
            (code, ..) => code,
        })
    }

    fn explain(&self, reasons: &[String]) {
        let logs = self.args.logs.display();
        if !self.args.show
            && let Ok(output) = fs::read(self.args.logs.join("output.log"))
            && !output.is_empty()
        {
            let text = String::from_utf8_lossy(&output);
            let lines: Vec<_> = text.lines().collect();
            eprintln!("--- the end of {logs}/output.log, what the command printed");
            print_tail(&lines, lines.len());
        }
        // A command that merely said no needs no kernel log.
        let lost = self.exit.is_none();
        if let Some((_, _, at)) = self.splats.first() {
            eprintln!("--- {logs}/console.log, from the first complaint on");
            print_tail(
                &self.console,
                (at.saturating_sub(2) + CONSOLE_TAIL).min(self.console.len()),
            );
        } else if lost {
            eprintln!("--- the end of {logs}/console.log");
            print_tail(&self.console, self.console.len());
        }
        // Last, where they are read first.
        print_tail(&self.failures, self.failures.len());
        for reason in reasons {
            eprintln!("guest: {reason}");
        }
        eprintln!("guest: the whole logs are in {logs}");
    }
}

/// Prints the lines before `end`, as many as are worth reading.
fn print_tail(lines: &[impl AsRef<str>], end: usize) {
    for line in &lines[end.saturating_sub(CONSOLE_TAIL)..end] {
        eprintln!("    {}", line.as_ref());
    }
}
