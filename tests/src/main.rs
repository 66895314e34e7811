//! Black-box tests for a machine of one's own: they load and unload the module, and fork a lot.
//!
//! `guest-tests [PART-OF-A-NAME]… [!PART]…` runs in the guest (`make test-guest`), what has none of the
//! latter, and reports in KTAP, to the file that `PIDLIST_RESULTS` names or to stdout. `PIDLIST_SOAK=1`
//! makes the storms long ones, `PIDLIST_LOADS=N` loads the module so often.
//! `guest-tests storm N` is a workload, `latency N` a measurement, `guest-tests helper …` what the tests start.

mod helper;
mod ktap;
mod latency;
mod pidset;
mod proc;
mod processes;
mod run;
mod storm;
mod sys;

use std::process::ExitCode;

/// A test: an error says what was not as it should be.
type Test = fn() -> anyhow::Result<()>;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "storm" => return storm::main(rest),
        Some((first, rest)) if first == "latency" => return latency::main(rest),
        Some((first, rest)) if first == "helper" => {
            return helper::main(rest).map(|()| ExitCode::SUCCESS);
        }
        _ => {}
    }
    let unwanted: Vec<&str> = arguments
        .iter()
        .filter_map(|part| part.strip_prefix('!'))
        .collect();
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|part| !part.starts_with('!'))
        .collect();
    let tests = pidset::TESTS
        .iter()
        .chain(processes::TESTS)
        .copied()
        .flatten()
        .filter(|(name, _)| {
            (wanted.is_empty() || wanted.iter().any(|part| name.contains(*part)))
                && !unwanted.iter().any(|part| name.contains(part))
        });
    ktap::run(&tests.copied().collect::<Vec<_>>())
}
