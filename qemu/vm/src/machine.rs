//! The virtual machine: its command line, its channels and its end.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use anyhow::{Context, Result};

const QEMU: &str = "qemu-system-x86_64";

/// The hardware of a guest.
#[derive(Clone, Copy)]
pub struct Hardware {
    pub smp: u32,
    pub memory_mib: u32,
    pub kvm: bool,
    pub icount: bool,
}

/// What came out of a serial line.
pub enum Event {
    /// The kernel's console, a line at a time.
    Console(String),
    /// The result channel, a line at a time.
    Results(String),
    /// The command's own output, as it comes.
    Output(Vec<u8>),
    Closed,
}

/// A running guest. Dropped, it is killed.
pub struct Machine {
    qemu: Child,
    pub events: Receiver<Event>,
    /// The host's end of the result channel.
    answer: Receiver<UnixStream>,
    _sockets: tempfile::TempDir,
}

/// How many channels a guest has, each ending in one `Event::Closed`.
pub const CHANNELS: usize = 3;

impl Machine {
    /// `append` goes to the end of the kernel's command line.
    pub fn boot(hardware: Hardware, kernel: &Path, initrd: &Path, append: &str) -> Result<Machine> {
        let sockets = tempfile::tempdir().context("making a directory for sockets")?;
        let (sender, events) = mpsc::channel();
        let (answer_sender, answer) = mpsc::channel();
        let mut command = base_command(hardware, kernel, initrd);
        command
            .args(["-monitor", "none"])
            .arg("-append")
            .arg(kernel_arguments(&format!("ignore_loglevel {append}")));
        for name in ["console", "results", "output"] {
            let path = sockets.path().join(name);
            let listener =
                UnixListener::bind(&path).context("making a socket for a serial line")?;
            let mut chardev = OsString::from(format!("socket,id={name},path="));
            chardev.push(&path);
            command
                .arg("-chardev")
                .arg(chardev)
                .args(["-serial", &format!("chardev:{name}")]);
            let sender = sender.clone();
            let answer_sender = answer_sender.clone();
            thread::spawn(move || {
                if let Ok((stream, _)) = listener.accept() {
                    match name {
                        "console" => read_lines(stream, &sender, Event::Console),
                        "results" => {
                            if let Ok(end) = stream.try_clone() {
                                let _ = answer_sender.send(end);
                            }
                            read_lines(stream, &sender, Event::Results);
                        }
                        _ => read_bytes(stream, &sender),
                    }
                }
                let _ = sender.send(Event::Closed);
            });
        }
        let qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {QEMU}; qemu/setup.sh installs it"))?;
        Ok(Machine {
            qemu,
            events,
            answer,
            _sockets: sockets,
        })
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(None))
    }

    /// Tells the guest that everything it sent has arrived.
    pub fn acknowledge(&self) {
        if let Ok(mut stream) = self.answer.recv() {
            // A guest that is gone does not wait for an answer.
            let _ = stream.write_all(b"\n");
        }
    }

    pub fn kill(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// What qemu itself complained about. Only for one that has ended.
    pub fn complaints(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.qemu.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A guest whose console is this terminal; returns when it is over.
pub fn boot_on_terminal(
    hardware: Hardware,
    kernel: &Path,
    initrd: &Path,
    append: &str,
) -> Result<()> {
    let status = base_command(hardware, kernel, initrd)
        .args(["-serial", "mon:stdio", "-serial", "null", "-serial", "null"])
        .arg("-append")
        .arg(kernel_arguments(&format!(
            "quiet pidlist.interactive {append}"
        )))
        .status()
        .with_context(|| format!("starting {QEMU}; qemu/setup.sh installs it"))?;
    anyhow::ensure!(status.success(), "{QEMU} ended with {status}");
    Ok(())
}

fn kernel_arguments(more: &str) -> String {
    // The emulated TSC follows the host's; on a busy host the watchdog thinks it is unstable.
    format!("console=ttyS0 rdinit=/init tsc=reliable {more}")
}

fn base_command(hardware: Hardware, kernel: &Path, initrd: &Path) -> Command {
    // A guest must not outlive its runner, however that ends.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args([
        "-display",
        "none",
        "-cpu",
        if hardware.kvm { "host" } else { "max" },
    ]);
    command.args(["-accel", acceleration(hardware)]);
    if hardware.icount {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    command.args([
        "-smp",
        &hardware.smp.to_string(),
        "-m",
        &hardware.memory_mib.to_string(),
    ]);
    command
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd);
    command
}

fn acceleration(hardware: Hardware) -> &'static str {
    match hardware {
        Hardware { kvm: true, .. } => "kvm",
        // With a thread for each processor, some boots under load hung, or died of an int3 that
        // the kernel had already patched away (qemu 7.2). In one thread the processors still
        // interleave, and none of 40 boots failed.
        _ => "tcg,thread=single",
    }
}

fn read_lines(stream: UnixStream, sender: &Sender<Event>, event: fn(String) -> Event) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text
            .trim_end_matches(['\r', '\n'])
            .trim_start_matches('\r')
            .to_owned();
        line.clear();
        if sender.send(event(text)).is_err() {
            return;
        }
    }
}

fn read_bytes(mut stream: UnixStream, sender: &Sender<Event>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if sender.send(Event::Output(buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Hardware = Hardware {
        smp: 2,
        memory_mib: 64,
        kvm: false,
        icount: false,
    };

    fn arguments(hardware: Hardware) -> String {
        let command = base_command(hardware, Path::new("k"), Path::new("i"));
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn emulation_is_in_one_thread() {
        assert!(arguments(PLAIN).contains("-cpu max -accel tcg,thread=single -smp 2"));
        let counting = arguments(Hardware {
            icount: true,
            smp: 1,
            ..PLAIN
        });
        assert!(counting.contains("-accel tcg,thread=single -icount shift=0,sleep=off -smp 1"));
    }

    #[test]
    fn kvm_passes_the_host_processor_through() {
        assert!(arguments(Hardware { kvm: true, ..PLAIN }).contains("-cpu host -accel kvm"));
    }
}
