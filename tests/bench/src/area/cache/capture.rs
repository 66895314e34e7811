//! Everybody is seen, however briefly they live; and how many of them others see.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pidlist_process_cache::{Cache, Change, Process, What};

use super::follower;
use super::load::{Life, Program, Spawners};
use super::peers::{self, Sight};
use crate::measure::Samples;
use crate::report::{Better, Bound, Figure, Report, Row};

const LIVES: usize = 20_000;
/// One for each core.
const SPAWNERS: usize = 2;

const fn count<'a>(name: &'a str, better: Better) -> Figure<'a> {
    Figure {
        name,
        unit: "processes",
        better,
    }
}

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut collector = match follower::collector() {
        Ok(collector) => collector,
        Err(reason) => {
            report.skip("cache.capture", &reason);
            return Ok(());
        }
    };
    let program = &Program::new()?;
    let mut exited = HashMap::new();
    let mut observer = |change: &Change, cache: &Cache| {
        if change.what == What::Exited
            && let Some(process) = cache.get(change.key)
        {
            note(&mut exited, process);
        }
    };
    let start = Instant::now();
    let spawners = Spawners::start(program, SPAWNERS, LIVES / SPAWNERS)?;
    while !spawners.are_done() {
        follower::wait(&collector, None, Duration::from_millis(10))?;
        collector.step(&mut observer)?;
    }
    let elapsed = start.elapsed();
    let lives = spawners.join()?;
    collector.settle(&mut observer)?;

    let faults = Faults::of(&lives, &exited, program);
    let lost = collector.cache().counters().lost();
    for (what, faults) in [
        ("cache.capture.unseen", faults.unseen),
        ("cache.capture.repeated", faults.repeated),
        ("cache.capture.argv_wrong", faults.argv),
        ("cache.capture.parent_wrong", faults.parent),
        ("cache.capture.exit_wrong", faults.exit),
    ] {
        let row = Row::alone(count(what, Better::Lower), &[faults as f64])?;
        report.push(row.bound(Bound::ours(0.0)));
    }
    let events = Figure {
        name: "cache.capture.lost",
        unit: "events",
        better: Better::Lower,
    };
    report.push(Row::alone(events, &[lost as f64])?.bound(Bound::ours(0.0)));
    report.note(format!(
        "capture: {LIVES} lives by {SPAWNERS} spawners, {:.0} a second; lost: of all processes of the machine",
        LIVES as f64 / elapsed.as_secs_f64()
    ));
    drop(collector);
    let ours = Sight {
        seen: LIVES - faults.unseen,
        with_argv: LIVES - faults.unseen - faults.argv,
    };
    beside(report, program, ours)
}

/// The same load, seen by others.
fn beside(report: &mut Report, program: &Program, ours: Sight) -> anyhow::Result<()> {
    let load = || Spawners::start(program, SPAWNERS, LIVES / SPAWNERS);
    let mut peers = Vec::new();
    match peers::forkstat(load) {
        Ok(sight) => peers.push(("netlink (forkstat)", sight)),
        Err(reason) => report.skip("cache.capture.peers of netlink", reason.as_ref()),
    }
    let [slow, fast] = peers::polling(load)?;
    peers.push(("/proc each 1 s", slow));
    peers.push(("/proc each 100 ms", fast));
    for (against, theirs) in peers {
        for (name, ours, theirs) in [
            ("cache.capture.peers.seen", ours.seen, theirs.seen),
            ("cache.capture.peers.argv", ours.with_argv, theirs.with_argv),
        ] {
            let samples = Samples {
                ours: vec![ours as f64],
                baseline: vec![theirs as f64],
            };
            report.push(Row::compared(
                count(name, Better::Higher),
                against,
                &samples,
            )?);
        }
    }
    report.note("capture.peers: as many lives for each of them; argv: its own argument was read");
    Ok(())
}

/// What the cache knew of a process when it exited.
#[derive(Debug)]
struct Exited {
    pid: u32,
    parent: Option<u32>,
    arguments: Vec<u8>,
    is_whole: bool,
    code: Option<u32>,
}

/// By the last argument.
type ByArgument = HashMap<Vec<u8>, Vec<Exited>>;

fn note(exited: &mut ByArgument, process: &Process) {
    let Some(image) = &process.image else { return };
    let Some(last) = image.args().last() else {
        return;
    };
    exited.entry(last.to_vec()).or_default().push(Exited {
        pid: process.pid(),
        parent: process.parent_at_fork.map(|key| key.tgid),
        arguments: image.block.to_vec(),
        is_whole: !image.args_truncated && !image.args_unreadable,
        code: process.exit.and_then(|exit| exit.code()),
    });
}

/// How many lives were not seen as they were.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    unseen: usize,
    repeated: usize,
    argv: usize,
    parent: usize,
    exit: usize,
}

impl Faults {
    fn of(lives: &[Life], exited: &ByArgument, program: &Program) -> Self {
        let mut faults = Self::default();
        for life in lives {
            // A forked copy of a spawner has the spawner's arguments until it runs the program.
            let seen = exited
                .get(life.argument.as_bytes())
                .map_or(&[][..], Vec::as_slice);
            let Some(first) = seen.iter().find(|seen| seen.pid == life.pid) else {
                faults.unseen += 1;
                continue;
            };
            let argv = [
                program.path().as_os_str().as_encoded_bytes(),
                life.argument.as_bytes(),
                b"",
            ];
            faults.repeated += usize::from(seen.len() > 1);
            faults.argv += usize::from(!first.is_whole || first.arguments != argv.join(&0));
            faults.parent += usize::from(first.parent != Some(life.parent));
            faults.exit += usize::from(first.code != Some(life.code));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found() {
        let program = Program::new().unwrap();
        let life = Life {
            pid: 7,
            parent: 3,
            argument: "a".into(),
            code: 4,
        };
        let right = || Exited {
            pid: 7,
            parent: Some(3),
            arguments: [program.path().as_os_str().as_encoded_bytes(), b"a", b""].join(&0),
            is_whole: true,
            code: Some(4),
        };
        let faults = |seen: Vec<Exited>| {
            let exited = ByArgument::from([(b"a".to_vec(), seen)]);
            Faults::of(std::slice::from_ref(&life), &exited, &program)
        };
        let none = Faults::default;
        assert_eq!(faults(vec![right()]), none());
        let cases: [(Vec<Exited>, Faults); 7] = [
            (
                vec![],
                Faults {
                    unseen: 1,
                    ..none()
                },
            ),
            (
                vec![Exited { pid: 8, ..right() }],
                Faults {
                    unseen: 1,
                    ..none()
                },
            ),
            (
                vec![right(), right()],
                Faults {
                    repeated: 1,
                    ..none()
                },
            ),
            (
                vec![Exited {
                    is_whole: false,
                    ..right()
                }],
                Faults { argv: 1, ..none() },
            ),
            (
                vec![Exited {
                    arguments: b"a\0".to_vec(),
                    ..right()
                }],
                Faults { argv: 1, ..none() },
            ),
            (
                vec![Exited {
                    parent: None,
                    ..right()
                }],
                Faults {
                    parent: 1,
                    ..none()
                },
            ),
            (
                vec![Exited {
                    code: Some(5),
                    ..right()
                }],
                Faults { exit: 1, ..none() },
            ),
        ];
        for (seen, wanted) in cases {
            assert_eq!(faults(seen), wanted);
        }
    }
}
