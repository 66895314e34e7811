//! Running programs, and waiting for things to come true.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What a program said, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails unless the program ended with `code`.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "expected exit code {code}: {self:#?}"
        );
        Ok(self)
    }
}

/// Runs `pidlist` to its end.
pub fn pidlist<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Result<Ran> {
    run(Command::new("pidlist").args(arguments))
}

/// Runs a shell command to its end.
pub fn shell(script: &str) -> Result<Ran> {
    run(Command::new("sh").args(["-c", script]))
}

fn run(command: &mut Command) -> Result<Ran> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    Ok(Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// A process of ours; killed and reaped in the end.
pub struct Process(pub Child);

impl Process {
    /// Starts a shell with `script`.
    pub fn shell(script: &str) -> Result<Self> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a shell")?;
        Ok(Self(child))
    }

    /// Starts a process that does nothing until it is killed.
    pub fn idle() -> Result<Self> {
        Ok(Self(
            Command::new("sleep")
                .arg("1000")
                .spawn()
                .context("starting sleep")?,
        ))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, or been reaped by the test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for `condition`. Emulated machines are slow, and some of their clocks are fast: it waits long.
pub fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        ensure!(
            start.elapsed() < Duration::from_secs(300),
            "it never came true that {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
