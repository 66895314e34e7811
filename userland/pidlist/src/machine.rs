//! What this machine offers to pidlist: one function a question.

use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use pidlist_abi::pidset::DEVICE_NAME;
use pidlist_bpf::Programs;
use pidlist_pidset::{Error, Info, PidSet};
use rustix::thread::CapabilitySet;
use serde::Serialize;

/// How an answer is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not there, and something of pidlist does not work without it.
    Missing,
    /// Not there, and pidlist can do without.
    Off,
}

/// An answer.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            detail: detail.into(),
            hint: None,
        }
    }

    fn missing(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Missing,
            detail: detail.into(),
            hint: Some(hint.into()),
        }
    }

    fn off(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Off,
            detail: detail.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Asks everything.
pub fn examine() -> Vec<Check> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut checks = vec![kernel(&release), config_rust(&release), btf()];
    checks.extend(capabilities());
    checks.extend(bpf());
    checks.extend(module());
    checks.extend([
        tracefs(),
        hidepid(),
        slabinfo(),
        lockdown(),
        unprivileged_bpf(),
        pid_max(),
    ]);
    checks
}

fn kernel(release: &str) -> Check {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy();
    Check::ok("kernel", format!("{release} {machine}"))
}

fn config_rust(release: &str) -> Check {
    const NAME: &str = "CONFIG_RUST";
    let hint = "install a kernel built with CONFIG_RUST=y (Debian: linux-image-amd64 of backports); \
                only the kernel module needs it";
    if is_loaded() {
        return Check::ok(NAME, "y (a Rust module is loaded)");
    }
    let Some((place, config)) = kernel_config(release) else {
        return Check::off(
            NAME,
            format!("cannot tell: no /proc/config.gz and no /boot/config-{release}"),
            hint,
        );
    };
    if config.lines().any(|line| line == "CONFIG_RUST=y") {
        Check::ok(NAME, format!("y ({place})"))
    } else {
        Check::missing(NAME, format!("not set ({place})"), hint)
    }
}

/// The kernel's configuration, and where it was found.
fn kernel_config(release: &str) -> Option<(String, String)> {
    let mut text = String::new();
    if let Ok(file) = fs::File::open("/proc/config.gz")
        && GzDecoder::new(file).read_to_string(&mut text).is_ok()
    {
        return Some(("/proc/config.gz".into(), text));
    }
    [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/build/.config"),
    ]
    .into_iter()
    .find_map(|place| fs::read_to_string(&place).ok().map(|text| (place, text)))
}

fn btf() -> Check {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match fs::metadata(PATH) {
        Ok(file) => Check::ok(
            "BTF",
            format!("{PATH}, {}", crate::output::bytes(file.len())),
        ),
        Err(error) => Check::missing(
            "BTF",
            format!("{PATH}: {error}"),
            "the kernel needs CONFIG_DEBUG_INFO_BTF=y, and /sys must be mounted; \
             without it, /proc is polled",
        ),
    }
}

fn capabilities() -> Vec<Check> {
    let held = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            return vec![Check::missing(
                "capabilities",
                error.to_string(),
                "run as root",
            )];
        }
    };
    let any_admin = held.contains(CapabilitySet::SYS_ADMIN);
    let check = |name, wanted, instead: bool, needed: bool, hint: &str| {
        if held.contains(wanted) {
            Check::ok(name, "held")
        } else if instead {
            Check::ok(name, "not held, CAP_SYS_ADMIN stands in")
        } else if needed {
            Check::missing(name, "not held", hint)
        } else {
            Check::off(name, "not held", hint)
        }
    };
    vec![
        check(
            "CAP_BPF",
            CapabilitySet::BPF,
            any_admin,
            true,
            "run as root, or give the binary the right: setcap cap_bpf,cap_perfmon+ep",
        ),
        check(
            "CAP_PERFMON",
            CapabilitySet::PERFMON,
            any_admin,
            true,
            "run as root, or give the binary the right: setcap cap_bpf,cap_perfmon+ep",
        ),
        check(
            "CAP_SYS_ADMIN",
            CapabilitySet::SYS_ADMIN,
            false,
            false,
            "only /dev/pidlist and other users' /proc entries need more than CAP_BPF: run as root",
        ),
        check(
            "CAP_SYS_RESOURCE",
            CapabilitySet::SYS_RESOURCE,
            false,
            false,
            "only kernels before 5.11 count BPF memory against RLIMIT_MEMLOCK",
        ),
    ]
}

fn bpf() -> Vec<Check> {
    const BUILD: &str = "`qemu/build-bpf.sh` makes it; PIDLIST_BPF_OBJECT names one that lies elsewhere; \
                         without it, /proc is polled";
    let programs = match Programs::open() {
        Ok(programs) => programs,
        Err(error) => return vec![Check::missing("BPF object", error.to_string(), BUILD)],
    };
    let mut checks = vec![Check::ok("BPF object", programs.object_origin())];
    let mut loads = |name, outcome: Result<String, pidlist_bpf::Error>, without: &str| {
        checks.push(match outcome {
            Ok(detail) => Check::ok(name, detail),
            Err(error) => Check::missing(name, error.to_string(), without),
        });
    };
    loads(
        "BPF iter/task",
        programs
            .tasks()
            .map(|tasks| format!("loads, {} processes", tasks.len())),
        "run as root; without it, /proc is read instead",
    );
    loads(
        "BPF iter/kmem_cache",
        programs
            .slabs()
            .map(|slabs| format!("loads, {} slab caches", slabs.len())),
        "run as root, on Linux 6.13 or later; without it, /proc/slabinfo is read instead",
    );
    loads(
        "BPF fork, exec, exit",
        programs
            .events(&pidlist_bpf::Options::default())
            .map(|events| {
                format!(
                    "attach, ring of {}",
                    crate::output::bytes(events.ring_bytes().into())
                )
            }),
        "run as root; without it, /proc is polled and short lives are missed",
    );
    checks
}

fn is_loaded() -> bool {
    fs::exists("/sys/module/rust_pidlist").unwrap_or(false)
}

fn module() -> Vec<Check> {
    const LOAD: &str = "`make module && make load` builds and loads it, or: sudo insmod rust_pidlist.ko; \
                        the kernel must have CONFIG_RUST=y";
    let device = format!("/dev/{DEVICE_NAME}");
    if !is_loaded() {
        return vec![
            Check::missing("module", "rust_pidlist is not loaded", LOAD),
            Check::missing("device", format!("{device} is not there"), LOAD),
        ];
    }
    vec![
        Check::ok("module", "rust_pidlist is loaded"),
        device_check(&device),
    ]
}

fn device_check(device: &str) -> Check {
    let set = match PidSet::open() {
        Ok(set) => set,
        Err(error) => {
            let hint = match error {
                Error::Version { .. } => {
                    "load the module of the same checkout: sudo rmmod rust_pidlist && make load"
                }
                _ => "run as root",
            };
            return Check::missing("device", error.to_string(), hint);
        }
    };
    let lists = match pidlist_pidset::lists() {
        Ok(lists) => lists.len(),
        Err(error) => return Check::missing("device", error.to_string(), "run as root"),
    };
    let Info { version, pid_max } = set.info();
    let lists = if lists == 1 {
        "1 list".into()
    } else {
        format!("{lists} lists")
    };
    Check::ok(
        "device",
        format!("{device}, ABI {version}, {lists}, pids up to {pid_max}"),
    )
}

fn tracefs() -> Check {
    let mounted = [
        "/sys/kernel/tracing/events",
        "/sys/kernel/debug/tracing/events",
    ]
    .into_iter()
    .find(|place| fs::exists(place).unwrap_or(false));
    match mounted {
        Some(place) => Check::ok("tracefs", place.trim_end_matches("/events")),
        None => Check::off(
            "tracefs",
            "not mounted, or not to be read",
            "nothing needs it; to look at events by hand: mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

fn hidepid() -> Check {
    const NAME: &str = "hidepid";
    let hidden = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .ok()
        .and_then(|mounts| {
            let mount = mounts.into_iter().rfind(|mount| {
                mount.fs_type == "proc" && mount.mount_point.as_os_str() == "/proc"
            })?;
            mount.super_options.get("hidepid").cloned().flatten()
        });
    match hidden.as_deref() {
        None | Some("0" | "off") => Check::ok(NAME, "/proc shows every process"),
        Some(how) => Check::off(
            NAME,
            format!("/proc is mounted with hidepid={how}"),
            "BPF sees all the same; for a /proc that does: mount -o remount,hidepid=0 /proc",
        ),
    }
}

fn slabinfo() -> Check {
    match fs::File::open("/proc/slabinfo") {
        Ok(_) => Check::ok("slabinfo", "/proc/slabinfo can be read"),
        Err(error) => Check::off(
            "slabinfo",
            format!("/proc/slabinfo: {error}"),
            "run as root; only needed where iter/kmem_cache does not load",
        ),
    }
}

fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    let Ok(modes) = fs::read_to_string("/sys/kernel/security/lockdown") else {
        return Check::ok(NAME, "not in this kernel");
    };
    let mode = modes.split(['[', ']']).nth(1).unwrap_or("none");
    match mode {
        "none" => Check::ok(NAME, "none"),
        "integrity" => Check::off(
            NAME,
            "integrity",
            "the kernel takes signed modules only: sign rust_pidlist.ko, or boot with lockdown=none",
        ),
        other => Check::off(
            NAME,
            other,
            "BPF may not read the kernel either: boot with lockdown=integrity or none",
        ),
    }
}

fn unprivileged_bpf() -> Check {
    const NAME: &str = "unprivileged BPF";
    match fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled") {
        Ok(value) => Check::ok(
            NAME,
            match value.trim() {
                "0" => "allowed (pidlist needs more than that)",
                _ => "not allowed (pidlist needs more than that)",
            },
        ),
        Err(_) => Check::ok(NAME, "not in this kernel"),
    }
}

fn pid_max() -> Check {
    match fs::read_to_string("/proc/sys/kernel/pid_max") {
        Ok(value) => Check::ok("kernel.pid_max", value.trim()),
        Err(error) => Check::off("kernel.pid_max", error.to_string(), "/proc must be mounted"),
    }
}
