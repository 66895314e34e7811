//! Processes as the BPF programs tell them.

use std::os::fd::{AsFd, BorrowedFd};

use pidlist_abi::record::exec_flag;
use pidlist_bpf::{Error, Events, Options, Programs};

use crate::source::{Event, EventSource, Lost, SourceError, TaskSource};
use crate::{Image, ImageSource, Key, Sighting};

/// Most events handed over at once, so that a storm does not keep the caller from all else.
const DRAIN_MAX: u64 = 1 << 18;

type Opened = (Box<dyn TaskSource>, Option<Box<dyn EventSource>>);

/// Attaches the events, if they are wanted, before the first walk.
pub(crate) fn open(with_events: bool) -> Result<Opened, SourceError> {
    let programs = Programs::open().map_err(|error| failed("loading the BPF programs", error))?;
    let events: Option<Box<dyn EventSource>> = if with_events {
        let events = programs
            .events(&Options::default())
            .map_err(|error| failed("attaching to forks, execs and exits", error))?;
        Some(Box::new(BpfEvents {
            events,
            malformed: 0,
        }))
    } else {
        None
    };
    // Before anybody relies on it: does the iterator work here?
    let mut tasks = BpfTasks { programs };
    tasks.walk()?;
    Ok((Box::new(tasks), events))
}

fn failed(what: &'static str, error: Error) -> SourceError {
    SourceError::Bpf {
        what,
        source: error.into(),
    }
}

struct BpfTasks {
    programs: Programs,
}

impl TaskSource for BpfTasks {
    fn walk(&mut self) -> Result<Vec<Sighting>, SourceError> {
        let tasks = self
            .programs
            .tasks()
            .map_err(|error| failed("walking the tasks", error))?;
        Ok(tasks
            .iter()
            .filter_map(|record| Sighting::from_record(&record.task))
            .collect())
    }
}

struct BpfEvents {
    events: Events,
    /// Records that were none: as good as lost.
    malformed: u64,
}

impl EventSource for BpfEvents {
    fn drain(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let mut unnamed = 0;
        let drained = self
            .events
            .drain_up_to(DRAIN_MAX, |event| match read(&event) {
                Some(event) => apply(event),
                None => unnamed += 1,
            });
        self.malformed += drained.malformed + unnamed;
        Ok(())
    }

    fn lost(&mut self) -> Result<Lost, SourceError> {
        let counters = self
            .events
            .counters()
            .map_err(|error| failed("reading the event counters", error))?;
        let (seen, skipped) = (counters.seen, counters.skipped);
        Ok(Lost {
            forks: seen.fork_lost + skipped.fork,
            execs: seen.exec_lost + skipped.exec,
            exits: seen.exit_lost + skipped.exit + self.malformed,
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// `None` for an event that names no process.
fn read(event: &pidlist_bpf::Event<'_>) -> Option<Event> {
    let time_ns = event.header().time_ns;
    Some(match event {
        pidlist_bpf::Event::Fork(fork) => Event::Fork {
            time_ns,
            child: Sighting::from_record(&fork.child)?,
            forker: Key::from_record(fork.forker),
        },
        pidlist_bpf::Event::Exec { exec, path, args } => Event::Exec {
            time_ns,
            process: Sighting::from_record(&exec.task)?,
            image: Image {
                path: (!path.is_empty()).then(|| (*path).into()),
                block: (*args).into(),
                args_total: exec.args_total.into(),
                args_truncated: exec.flags & exec_flag::ARGS_TRUNCATED != 0,
                args_unreadable: exec.flags & exec_flag::ARGS_UNREADABLE != 0,
                source: ImageSource::Exec,
            },
        },
        pidlist_bpf::Event::Exit(exit) => {
            let process = Sighting::from_record(&exit.task)?;
            // The event is the proof, whatever the flags of that moment say.
            let exit_status = Some(exit.task.exit_status);
            Event::Exit {
                time_ns,
                process: Sighting {
                    dead: true,
                    exit_status,
                    ..process
                },
            }
        }
    })
}
