//! The programs in the running kernel, against processes of our own.
//!
//! Where BPF is not to be had, every test is reported as ignored, and the reason is printed; with
//! `PIDLIST_REQUIRE_BPF=1` that is a failure. The tests of events start processes of this very
//! file, in a role of [`roles`].

mod events;
mod roles;
mod slabs;
mod tasks;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use pidlist_bpf::Programs;

/// What a test says.
type Outcome = Result<(), Failed>;

/// A name, and what to do with the programs.
type Test = (&'static str, fn(&Programs) -> Outcome);

fn main() -> ExitCode {
    if let Some(code) = roles::play() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // They count what the whole machine does.
    arguments.test_threads = Some(1);

    let missing = missing();
    if let Some(reason) = &missing {
        if std::env::var_os("PIDLIST_REQUIRE_BPF").is_some() {
            eprintln!("FAILED: PIDLIST_REQUIRE_BPF is set, and {reason}");
            return ExitCode::FAILURE;
        }
        eprintln!("SKIP all tests of live BPF: {reason}");
    }
    let trial = |(name, test): Test| {
        Trial::test(name, move || test(&Programs::open()?)).with_ignored_flag(missing.is_some())
    };
    let tests = [slabs::TESTS, tasks::TESTS, events::TESTS].concat();
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

/// Why BPF is not to be had here.
fn missing() -> Option<String> {
    let tried = Programs::open().and_then(|programs| programs.tasks());
    match tried {
        Err(
            error @ (pidlist_bpf::Error::NoObject { .. }
            | pidlist_bpf::Error::NoBtf { .. }
            | pidlist_bpf::Error::NotPermitted { .. }),
        ) => Some(error.to_string()),
        // Any other failure is one, and the tests will meet it.
        _ => None,
    }
}

/// Fails the test with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(libtest_mimic::Failed::from(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;
