//! An initramfs in the "newc" cpio format.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` in the kernel tree.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// A host file or directory and where it goes in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub host: PathBuf,
    /// Relative to the guest's root.
    pub guest: PathBuf,
}

/// Parses `HOST:GUEST`.
pub fn parse_placement(text: &str) -> Result<Placement, String> {
    let (host, guest) = text.rsplit_once(':').ok_or("expected HOST:GUEST")?;
    let guest = guest
        .strip_prefix('/')
        .ok_or("the guest's path must be absolute")?;
    Ok(Placement {
        host: host.into(),
        guest: guest.into(),
    })
}

/// Writes the archive entry by entry; `finish` makes it whole.
pub struct Archive<W> {
    out: W,
    entries: u32,
    /// The kernel makes no parent directories: each needs an entry before its children, once.
    directories: Vec<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Self {
        Archive {
            out,
            entries: 0,
            directories: Vec::new(),
        }
    }

    /// Adds a host file, symbolic link or whole directory at `guest`.
    pub fn add(&mut self, host: &Path, guest: &Path) -> Result<()> {
        let doing = || format!("putting {} into the initramfs", host.display());
        let metadata = fs::symlink_metadata(host).with_context(doing)?;
        if metadata.is_dir() {
            self.directory(guest)?;
            let mut children = fs::read_dir(host)
                .and_then(Iterator::collect::<io::Result<Vec<_>>>)
                .with_context(doing)?;
            children.sort_by_key(fs::DirEntry::file_name);
            for child in children {
                self.add(&child.path(), &guest.join(child.file_name()))?;
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(host).with_context(doing)?;
            self.parents(guest)?;
            self.entry(
                guest,
                SYMLINK | 0o777,
                (0, 0),
                target.as_os_str().as_encoded_bytes(),
            )?;
        } else {
            let content = fs::read(host).with_context(doing)?;
            self.file(guest, metadata.permissions().mode(), &content)
                .with_context(doing)?;
        }
        Ok(())
    }

    /// Adds a file; of `mode` only the permission bits count.
    pub fn file(&mut self, guest: &Path, mode: u32, content: &[u8]) -> Result<()> {
        self.parents(guest)?;
        self.entry(guest, REGULAR | mode & 0o7777, (0, 0), content)
    }

    pub fn character_device(&mut self, guest: &Path, major: u32, minor: u32) -> Result<()> {
        self.parents(guest)?;
        self.entry(guest, CHARACTER_DEVICE | 0o600, (major, minor), &[])
    }

    pub fn finish(mut self) -> Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, guest: &Path) -> Result<()> {
        match guest.parent() {
            Some(parent) if parent != Path::new("") => self.directory(parent),
            _ => Ok(()),
        }
    }

    fn directory(&mut self, guest: &Path) -> Result<()> {
        if guest == Path::new("") || self.directories.iter().any(|known| known == guest) {
            return Ok(());
        }
        self.parents(guest)?;
        self.directories.push(guest.to_path_buf());
        // Sticky and open to all, where unprivileged test processes write.
        let mode = if guest == Path::new("tmp") {
            0o1777
        } else {
            0o755
        };
        self.entry(guest, DIRECTORY | mode, (0, 0), &[])
    }

    fn entry(&mut self, guest: &Path, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        let name = guest.as_os_str().as_encoded_bytes();
        let size = u32::try_from(data.len()).context("a file of 4 GiB or more")?;
        self.entries += 1;
        let fields = [
            self.entries, // inode
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime: the same files make the same archive
            size,
            0, // device the file is on
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1)?,
            0, // checksum, unused in this format
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> Result<()> {
        Ok(self
            .out
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])?)
    }
}

/// A `/command` script that replaces itself by the command.
pub fn command_script(command: &[String], environment: &[String]) -> String {
    let mut script = String::from("#!/bin/sh\n");
    for variable in environment {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    let words: Vec<_> = command.iter().map(|word| quote(word)).collect();
    script.push_str(&format!("exec {}\n", words.join(" ")));
    script
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether `path` is newer than nothing: exists and is a non-empty file.
pub fn is_readable_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.size() > 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn placement_needs_an_absolute_guest_path() {
        let expected = Placement {
            host: "a:b".into(),
            guest: "c/d".into(),
        };
        assert_eq!(parse_placement("a:b:/c/d"), Ok(expected));
        assert!(parse_placement("a:c").is_err());
        assert!(parse_placement("a").is_err());
    }

    #[test]
    fn command_survives_the_shell() {
        let words = ["printf", "%s|", "two words", "it's", "$HOME", ""].map(String::from);
        let script = command_script(&words, &["WHO=a 'b'".into()]) + "";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("command");
        fs::write(&path, script).unwrap();
        let output = Command::new("sh").arg(&path).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "two words|it's|$HOME||"
        );
    }

    #[test]
    fn headers_and_data_are_aligned_and_parents_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive
            .file(Path::new("a/b/file"), 0o755, b"12345")
            .unwrap();
        archive
            .character_device(Path::new("a/console"), 5, 1)
            .unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let field = |n: usize| {
                let text = &bytes[at + 6 + 8 * n..at + 14 + 8 * n];
                usize::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(6), field(11));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            names.push(String::from_utf8(name.to_vec()).unwrap());
            at = (at + 110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        }
        assert_eq!(names, ["a", "a/b", "a/b/file", "a/console", "TRAILER!!!"]);
    }

    #[test]
    fn cpio_itself_reads_the_archive() {
        if Command::new("cpio")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            return;
        }
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("bin")).unwrap();
        fs::write(source.path().join("bin/tool"), "content").unwrap();
        std::os::unix::fs::symlink("tool", source.path().join("bin/link")).unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.add(source.path(), Path::new("")).unwrap();
        let target = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("cpio")
            .args(["--extract", "--quiet"])
            .current_dir(target.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&archive.finish().unwrap())
            .unwrap();
        assert!(cpio.wait().unwrap().success());
        assert_eq!(
            fs::read_to_string(target.path().join("bin/link")).unwrap(),
            "content"
        );
    }
}
