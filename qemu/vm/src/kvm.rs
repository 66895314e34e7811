//! Whether KVM can be trusted here. `/dev/kvm` may exist and still abort or hang every guest, so
//! only a guest that ran to its end counts. Asked once a boot of the host.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::machine::{Event, Hardware, Machine};

/// A guest under KVM says its first words long before that.
const PATIENCE: Duration = Duration::from_secs(8);

/// Whether a guest runs under KVM; `cache` keeps the answer until the host boots again.
pub fn works(kernel: &Path, initrd: &Path, cache: Option<&Path>) -> bool {
    if fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return false;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let verdict_file = cache.map(|cache| cache.join("kvm-verdict"));
    let known = verdict_file
        .as_deref()
        .and_then(|file| fs::read_to_string(file).ok());
    if let Some(works) = known
        .as_deref()
        .and_then(|known| verdict(known, boot.trim()))
    {
        return works;
    }
    let works = probe(kernel, initrd).unwrap_or(false);
    if let Some(file) = verdict_file {
        // Without a cache the next run asks again, which costs seconds, not truth.
        let _ = fs::write(file, format!("{} {works}\n", boot.trim()));
    }
    works
}

/// The verdict in a cached line, if it is about this boot.
fn verdict(line: &str, boot: &str) -> Option<bool> {
    let (when, works) = line.trim().split_once(' ')?;
    (when == boot && !boot.is_empty()).then(|| works == "true")
}

/// Boots the real kernel as far as its init.
fn probe(kernel: &Path, initrd: &Path) -> Result<bool> {
    let hardware = Hardware {
        smp: 1,
        memory_mib: 512,
        kvm: true,
        icount: false,
    };
    let mut machine = Machine::boot(hardware, kernel, initrd, "")?;
    let deadline = Instant::now() + PATIENCE;
    while machine.is_running() && Instant::now() < deadline {
        match machine.events.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::Console(line)) if line.contains("Run /init as init process") => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_one_boot() {
        assert_eq!(verdict("abc true\n", "abc"), Some(true));
        assert_eq!(verdict("abc false\n", "abc"), Some(false));
        assert_eq!(verdict("abc true\n", "def"), None);
        assert_eq!(verdict("", "abc"), None);
        assert_eq!(verdict(" true", ""), None);
    }
}
