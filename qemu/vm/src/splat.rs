//! What the kernel says when something is wrong with it: one table, and the search for it in a
//! console log.
//!
//! Everything that looks like a complaint is one, except what `HARMLESS` names: a new kind of
//! splat should turn a run red before anybody has heard of it. `fixtures/` holds a recorded log
//! for each class.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// One kind of complaint.
pub struct Class {
    pub name: &'static str,
    /// A line that matches begins or belongs to a splat of this class.
    pattern: &'static str,
    /// Nothing useful can follow: the guest is stopped instead of waited for.
    pub ends_run: bool,
}

const fn class(name: &'static str, pattern: &'static str) -> Class {
    Class {
        name,
        pattern,
        ends_run: false,
    }
}

const fn last_words(name: &'static str, pattern: &'static str) -> Class {
    Class {
        name,
        pattern,
        ends_run: true,
    }
}

/// The first class that matches a line names it: the particular ones come before the general.
pub const CLASSES: &[Class] = &[
    last_words("panic", r"Kernel panic - not syncing"),
    last_words("soft-lockup", r"BUG: soft lockup"),
    last_words(
        "hard-lockup",
        r"[Ww]atchdog detected hard LOCKUP|CPU\d+: Watchdog detected hard",
    ),
    last_words(
        "rcu-stall",
        r"rcu: INFO: .*detected (expedited )?stall|rcu_tasks.* stalls? on tasks",
    ),
    last_words(
        "hung-task",
        r"INFO: task .* blocked .*for more than \d+ seconds",
    ),
    class("workqueue-lockup", r"BUG: workqueue lockup"),
    class("kasan", r"BUG: KASAN: "),
    class("kfence", r"BUG: KFENCE: "),
    class("kcsan", r"BUG: KCSAN: "),
    class("ubsan", r"UBSAN: "),
    class(
        "circular-locking",
        r"possible (circular|recursive) locking|irq lock inversion|-unsafe lock order",
    ),
    class(
        "lock-state",
        r"inconsistent lock state|Invalid wait context|bad unlock balance|held lock freed",
    ),
    class(
        "lock-held",
        r"lock held (when returning|at task exit|at exit)|process still has locks held",
    ),
    class("rcu-usage", r"suspicious RCU usage"),
    class(
        "atomic-sleep",
        r"sleeping function called from invalid context",
    ),
    class("atomic-schedule", r"scheduling while atomic"),
    class("preemptible", r"BUG: using \S+ in preemptible"),
    class("refcount", r"refcount_t: "),
    class("list-corruption", r"list_(add|del) corruption"),
    class("debug-objects", r"ODEBUG: "),
    class(
        "slab-leak",
        r"Objects remaining|Slab cache still has objects",
    ),
    class("slab-corruption", r"BUG \S+ \([^)]*\): "),
    class(
        "memory-leak",
        r"kmemleak: \d+ new suspected|unreferenced object.* 0x",
    ),
    // Nothing more will be found, and that is not to be taken for health.
    class("checker-off", r"memory leak detector disabled"),
    class("rust-panic", r"rust_kernel: panicked at"),
    class(
        "protection-fault",
        r"general protection fault|stack segment: |divide error: |double fault: ",
    ),
    class(
        "oops",
        r"BUG: (kernel NULL pointer|unable to handle)|\bOops: |Unable to handle kernel",
    ),
    class("bug", r"\bBUG: |kernel BUG at "),
    class("warning", r"\bWARNING: "),
    class("module-btf", r"failed to validate module \[.*\] BTF"),
    class("stack-trace", r"\bCall Trace:"),
];

/// Lines that look like a complaint and are none.
const HARMLESS: &[&str] = &[
    // Said once at boot about a processor and a setting, not about the kernel.
    r"Spectre V2 : WARNING: ",
    // A guest with fewer processors than the kernel was built for.
    r"WARNING: workqueue cpumask: online intersect > possible intersect",
];

/// Taint flags every run of ours has: an out-of-tree module (bit 12), unsigned (bit 13).
const EXPECTED_TAINT: u64 = 1 << 12 | 1 << 13;

static CLASS_SET: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(CLASSES.iter().map(|class| class.pattern)).expect("tested patterns")
});
static HARMLESS_SET: LazyLock<RegexSet> =
    LazyLock::new(|| RegexSet::new(HARMLESS).expect("tested patterns"));
static PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    // Level, time, and the task or processor that speaks.
    Regex::new(r"^(<\d+>)?\[ *\d+\.\d+\](\[ *[CT]\d+\])? ").expect("a tested pattern")
});

/// A line of the console that belongs to a splat.
pub struct Splat {
    pub class: &'static Class,
    /// The line, without its time stamp.
    pub title: String,
}

/// Judges a console log line by line.
#[derive(Default)]
pub struct Search {
    /// Traces still to come that tell where an allocation was made to fail, for a test.
    injected: u32,
}

impl Search {
    pub fn line(&mut self, line: &str) -> Option<Splat> {
        if line.contains("FAULT_INJECTION: forcing a failure") {
            self.injected += 1;
        }
        let splat = find(line)?;
        if splat.class.name == "stack-trace" && self.injected > 0 {
            self.injected -= 1;
            return None;
        }
        Some(splat)
    }
}

/// Judges one line alone.
fn find(line: &str) -> Option<Splat> {
    let class = &CLASSES[CLASS_SET.matches(line).iter().next()?];
    if HARMLESS_SET.is_match(line) {
        return None;
    }
    Some(Splat {
        class,
        title: PREFIX.replace(line.trim_end(), "").into_owned(),
    })
}

/// The letters of the flags in `/proc/sys/kernel/tainted` that no run of ours should have, with
/// their meaning where it tells something.
pub fn unexpected_taint(flags: u64) -> Option<String> {
    const LETTERS: &[u8] = b"PFSRMBUDAWCIOELKXTNJ";
    let unexpected = flags & !EXPECTED_TAINT;
    let letters: String = (0..64)
        .filter(|bit| unexpected >> bit & 1 == 1)
        .map(|bit| LETTERS.get(bit).map_or('?', |&letter| char::from(letter)))
        .collect();
    (!letters.is_empty()).then_some(letters)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::*;

    fn fixtures() -> Vec<(String, String)> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    /// The first splat of a log.
    fn first(log: &str) -> Option<Splat> {
        let mut search = Search::default();
        log.lines().find_map(|line| search.line(line))
    }

    #[test]
    fn each_class_has_a_recorded_splat_that_is_found() {
        let mut proven = BTreeSet::new();
        for (name, log) in fixtures()
            .iter()
            .filter(|(name, _)| !name.starts_with("clean"))
        {
            let first = first(log).unwrap_or_else(|| panic!("fixtures/{name}.log: no splat found"));
            assert_eq!(
                first.class.name, name,
                "fixtures/{name}.log: {}",
                first.title
            );
            proven.insert(first.class.name);
        }
        let all: BTreeSet<_> = CLASSES.iter().map(|class| class.name).collect();
        assert_eq!(all, proven, "each class needs a fixture");
    }

    #[test]
    fn clean_logs_are_clean() {
        let clean: Vec<_> = fixtures()
            .into_iter()
            .filter(|(name, _)| name.starts_with("clean"))
            .collect();
        assert!(!clean.is_empty());
        for (name, log) in clean {
            let splat = first(&log).map(|splat| splat.title);
            assert_eq!(splat, None, "fixtures/{name}.log");
        }
    }

    #[test]
    fn an_injected_failure_excuses_one_trace() {
        let injected = "FAULT_INJECTION: forcing a failure.\n Call Trace:\n";
        assert!(first(injected).is_none());
        let title = |log: &str| first(log).map(|splat| splat.title);
        assert_eq!(
            title(&format!("{injected}Call Trace:")).unwrap(),
            "Call Trace:"
        );
        let warning = "FAULT_INJECTION: forcing a failure.\nWARNING: too late\n Call Trace:\n";
        assert_eq!(title(warning).unwrap(), "WARNING: too late");
    }

    #[test]
    fn titles_have_no_time_stamp() {
        let splat =
            find("[    1.250000][   T42] BUG: KASAN: use-after-free in f+0x1/0x2\r").unwrap();
        assert_eq!(splat.title, "BUG: KASAN: use-after-free in f+0x1/0x2");
    }

    #[test]
    fn taint_beyond_our_own_module_is_named() {
        assert_eq!(unexpected_taint(0), None);
        assert_eq!(unexpected_taint(4096 + 8192), None);
        assert_eq!(unexpected_taint(4096 + 512 + 128).as_deref(), Some("DW"));
        assert_eq!(unexpected_taint(1 << 40).as_deref(), Some("?"));
    }
}
