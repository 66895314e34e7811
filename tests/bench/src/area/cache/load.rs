//! A real load: processes that live as briefly as can be, and others that wait.
//!
//! All run the same [`Program`]. It is made here, because none that is installed starts so fast: no
//! linker, no library, one page.

use std::fs::Permissions;
use std::io::{self, PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use tempfile::{NamedTempFile, TempPath};

/// Waits for the end of its input, and exits with the first byte of its argument.
pub(super) struct Program(TempPath);

/// Where the image lies in memory.
const ADDRESS: u64 = 0x40_0000;

#[rustfmt::skip]
const CODE: &[u8] = &[
    0x31, 0xff,                         // xor edi, edi
    0x48, 0x8d, 0x74, 0x24, 0xf8,       // lea rsi, [rsp - 8]
    0xba, 0x01, 0x00, 0x00, 0x00,       // mov edx, 1
    0x31, 0xc0,                         // xor eax, eax
    0x0f, 0x05,                         // syscall             read(0, rsp - 8, 1)
    0x48, 0x8b, 0x74, 0x24, 0x10,       // mov rsi, [rsp + 16]
    0x0f, 0xb6, 0x3e,                   // movzx edi, byte [rsi]
    0xb8, 0xe7, 0x00, 0x00, 0x00,       // mov eax, 231
    0x0f, 0x05,                         // syscall             exit_group(*argv[1])
];

impl Program {
    pub(super) fn new() -> anyhow::Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the program is for x86_64 only"
        );
        let write = || {
            let mut file = NamedTempFile::with_prefix("pidlist-bench.")?;
            file.write_all(&elf())?;
            file.as_file()
                .set_permissions(Permissions::from_mode(0o755))?;
            // Closed before it is run: what is open for writing is busy.
            io::Result::Ok(file.into_temp_path())
        };
        write().map(Self).context("cannot write the program")
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// The file: `Elf64_Ehdr`, one `Elf64_Phdr`, the code.
fn elf() -> Vec<u8> {
    const EHDR: u64 = 64;
    const PHDR: u64 = 56;
    let size = EHDR + PHDR + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(&2_u16.to_le_bytes()); // ET_EXEC
    put(&62_u16.to_le_bytes()); // EM_X86_64
    put(&1_u32.to_le_bytes());
    put(&(ADDRESS + EHDR + PHDR).to_le_bytes()); // e_entry
    put(&EHDR.to_le_bytes()); // e_phoff
    put(&0_u64.to_le_bytes());
    put(&0_u32.to_le_bytes());
    for half in [EHDR as u16, PHDR as u16, 1, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    put(&1_u32.to_le_bytes()); // PT_LOAD
    put(&5_u32.to_le_bytes()); // PF_R | PF_X
    for word in [0, ADDRESS, ADDRESS, size, size, 4096] {
        put(&u64::to_le_bytes(word));
    }
    put(CODE);
    elf
}

/// A process that was, as its parent knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) argument: String,
    pub(super) code: u32,
}

/// Names a process by a number: what it is given, and so, how it exits.
fn argument(tag: &str, number: usize) -> (String, u32) {
    // Printable, and not one code for all.
    let code = b'!' + (number % 94) as u8;
    (format!("{}{tag}-{number}", char::from(code)), code.into())
}

/// Child of the benchmark: runs the program `count` times, one after the other, with an argument of
/// its own each, and says at the end which pids they had.
///
/// # Errors
///
/// One could not be started, or did not exit as it should.
pub fn spawn(program: &Path, tag: &str, count: usize) -> anyhow::Result<()> {
    let mut pids = String::new();
    for number in 0..count {
        let (argument, code) = argument(tag, number);
        // Without anything that std would do between fork and exec: then it is a vfork.
        let mut child = Command::new(program)
            .arg(argument)
            .spawn()
            .context("cannot start the program")?;
        pids.push_str(&format!("{}\n", child.id()));
        let status = child.wait()?;
        ensure!(
            status.code() == i32::try_from(code).ok(),
            "the program ended by {status}"
        );
    }
    io::stdout().write_all(pids.as_bytes())?;
    Ok(())
}

/// Processes that run the program as fast as they can.
pub(super) struct Spawners(Vec<JoinHandle<anyhow::Result<Vec<Life>>>>);

impl Spawners {
    /// Starts so many, for `count` lives each.
    pub(super) fn start(program: &Program, spawners: usize, count: usize) -> anyhow::Result<Self> {
        let tag = format!("brief-{}", std::process::id());
        let start = |spawner: usize| {
            let tag = format!("{tag}-{spawner}");
            let child = Command::new(std::env::current_exe()?)
                .arg("spawn")
                .arg(program.path())
                .args([&tag, &count.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a spawner")?;
            Ok(std::thread::spawn(move || {
                let parent = child.id();
                let output = child.wait_with_output()?;
                ensure!(output.status.success(), "a spawner failed");
                let pids = String::from_utf8(output.stdout)?;
                let lives: Vec<Life> = pids
                    .lines()
                    .enumerate()
                    .map(|(number, pid)| {
                        let (argument, code) = argument(&tag, number);
                        let pid = pid.parse()?;
                        Ok(Life {
                            pid,
                            parent,
                            argument,
                            code,
                        })
                    })
                    .collect::<anyhow::Result<_>>()?;
                ensure!(lives.len() == count, "a spawner did not finish");
                Ok(lives)
            }))
        };
        (0..spawners)
            .map(start)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    pub(super) fn are_done(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    /// All the lives there were.
    pub(super) fn join(self) -> anyhow::Result<Vec<Life>> {
        let mut lives = Vec::new();
        for spawner in self.0 {
            let join = spawner.join();
            lives.extend(join.map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(lives)
    }
}

/// Processes that do nothing until this is dropped.
pub(super) struct Crowd {
    members: Vec<std::process::Child>,
    /// They wait for its end.
    input: Option<PipeWriter>,
}

impl Crowd {
    /// So many, each with `argument`.
    pub(super) fn gather(program: &Program, count: usize, argument: &[u8]) -> anyhow::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut crowd = Self {
            members: Vec::with_capacity(count),
            input: Some(writer),
        };
        let argument = std::ffi::OsStr::from_bytes(argument);
        for _ in 0..count {
            let member = Command::new(program.path())
                .arg(argument)
                .stdin(reader.try_clone()?)
                .spawn();
            crowd
                .members
                .push(member.context("cannot start the program")?);
        }
        Ok(crowd)
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(std::process::Child::id)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.input = None;
        for member in &mut self.members {
            // It cannot fail for a child that nobody else waits for.
            let _ = member.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_waits_and_exits_with_its_argument() {
        let program = Program::new().unwrap();
        spawn(program.path(), "test", 0).unwrap();
        let crowd = Crowd::gather(&program, 3, b"A").unwrap();
        for pid in crowd.pids() {
            // Its parent goes on before the arguments are in place.
            let command = loop {
                let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
                if !command.is_empty() {
                    break command;
                }
                std::thread::yield_now();
            };
            assert!(command.ends_with(b"\0A\0"), "{command:?}");
        }
        drop(crowd);
        let status = Command::new(program.path())
            .arg("A")
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(65));
    }

    #[test]
    fn no_two_are_named_alike() {
        let (first, code) = argument("tag", 94);
        assert_eq!((first.as_str(), code), ("!tag-94", 33));
        assert_ne!(first, argument("tag", 0).0);
    }
}
