//! Black-box tests for a machine of one's own: they load and unload the module, and fork a lot.
//!
//! `guest-tests [PART-OF-A-NAME]` runs in the guest (`make test-guest`) and reports in KTAP, to the
//! file that `PIDLIST_RESULTS` names or to stdout. `guest-tests storm N` is a workload.

mod ktap;
mod pidset;
mod processes;
mod run;
mod storm;

use std::process::ExitCode;

/// A test: an error says what was not as it should be.
type Test = fn() -> anyhow::Result<()>;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("storm", count)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
        return storm::main(count);
    }
    let wanted = arguments.first().map_or("", String::as_str);
    let tests = pidset::TESTS
        .iter()
        .chain(processes::TESTS)
        .filter(|(name, _)| name.contains(wanted));
    ktap::run(&tests.copied().collect::<Vec<_>>())
}
