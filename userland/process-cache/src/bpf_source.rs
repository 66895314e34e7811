//! Processes as the BPF programs tell them.

use std::os::fd::{AsFd, BorrowedFd};

use pidlist_abi::record::exec_flag;
use pidlist_bpf::{Error, Events, Options, Programs};

use crate::source::{Capture, Event, EventSource, Lost, SourceError, TaskSource};
use crate::{Environment, Image, ImageSource, Key, Precision, ProcSource, Sighting, State};

/// Most events handed over at once, so that a storm does not keep the caller from all else.
const DRAIN_MAX: u64 = 1 << 18;

type Opened = (Box<dyn TaskSource>, Option<Box<dyn EventSource>>);

/// Attaches the events, if they are wanted, before the first walk.
pub(crate) fn open(with_events: bool, capture: &Capture) -> Result<Opened, SourceError> {
    let programs = Programs::open().map_err(|error| failed("loading the BPF programs", error))?;
    let events: Option<Box<dyn EventSource>> = if with_events {
        let events = programs
            .events(&Options {
                environment: capture.environment.is_some(),
                ring_bytes: capture.ring_bytes,
                ..Options::default()
            })
            .map_err(|error| failed("attaching to forks, execs and exits", error))?;
        Some(Box::new(BpfEvents {
            events,
            capture: capture.clone(),
            malformed: 0,
        }))
    } else {
        None
    };
    // Before anybody relies on it: does the iterator work here, and is a process to it what it is to us?
    let mut tasks = BpfTasks { programs };
    let walk = tasks.walk()?;
    let own = ProcSource::default().sighting(std::process::id());
    let is_own = |seen: &Sighting, own: &Sighting| {
        let Sighting { key, precision, .. } = *seen;
        key.same(precision, own.key, own.precision)
    };
    if own.is_some_and(|own| !walk.iter().any(|seen| is_own(seen, &own))) {
        return Err(SourceError::Namespace);
    }
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
    capture: Capture,
    /// Records that were none: as good as lost.
    malformed: u64,
}

impl EventSource for BpfEvents {
    fn drain(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let Self {
            events, capture, ..
        } = self;
        let mut unnamed = 0;
        let drained = events.drain_up_to(DRAIN_MAX, |event| match read(&event, capture) {
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
fn read(event: &pidlist_bpf::Event<'_>, capture: &Capture) -> Option<Event> {
    let time_ns = event.header().time_ns;
    Some(match event {
        pidlist_bpf::Event::Fork(fork) => Event::Fork {
            time_ns,
            child: Sighting::from_record(&fork.child)?,
            forker: Key::from_record(fork.forker),
        },
        pidlist_bpf::Event::Exec {
            exec,
            path,
            args,
            env,
            exe,
            cwd,
        } => {
            let process = Sighting::from_record(&exec.task)?;
            let flag = |flag| exec.flags & flag != 0;
            let path = (!path.is_empty()).then(|| (*path).into());
            let real_path = exe.path().map(Vec::into_boxed_slice);
            let mut image = Image {
                real_path: real_path.filter(|real| path.as_ref() != Some(real)),
                cwd: cwd.path().map(Vec::into_boxed_slice),
                env: capture.environment.as_ref().map(|redact| {
                    Box::new(Environment {
                        block: redact.apply(env).into(),
                        truncated: flag(exec_flag::ENV_TRUNCATED),
                    })
                }),
                args_total: exec.args_total.into(),
                args_truncated: flag(exec_flag::ARGS_TRUNCATED) || args.len() > capture.args_max,
                args_unreadable: flag(exec_flag::ARGS_UNREADABLE),
                ..Image::new(
                    ImageSource::Exec,
                    path,
                    args[..args.len().min(capture.args_max)].into(),
                )
            };
            // At once: the process may be gone soon.
            if image.args_unreadable
                && let Some(now) = ProcSource::default().image(process.key, Precision::Nanosecond)
            {
                image.complete(now);
            }
            Event::Exec {
                time_ns,
                process,
                image,
            }
        }
        pidlist_bpf::Event::Exit(exit) => {
            let process = Sighting::from_record(&exit.task)?;
            // The event is the proof, whatever the flags of that moment say.
            let exit_status = Some(exit.task.exit_status);
            Event::Exit {
                time_ns,
                process: Sighting {
                    dead: true,
                    state: State::Dead,
                    exit_status,
                    ..process
                },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Redact;

    /// Where BPF is to be had: needs rights, and the object.
    #[test]
    fn an_environment_is_redacted_before_anybody_sees_it() {
        let capture = Capture {
            environment: Some(Redact::new(["*SECRET*"])),
            ..Capture::default()
        };
        let opened = open(true, &capture);
        let Ok((_, Some(mut events))) = opened else {
            // Past the capture of output: nobody should take this for a pass.
            let skip = b"SKIP an_environment_is_redacted_before_anybody_sees_it: no BPF\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), skip);
            return;
        };
        let mut child = std::process::Command::new("/bin/true")
            .args(["", "a", ""])
            .env_clear()
            .envs([("A", "1"), ("MY_SECRET", "x y")])
            .current_dir("/proc")
            .spawn()
            .unwrap();
        child.wait().unwrap();
        let mut image = None;
        events
            .drain(&mut |event| match event {
                Event::Exec {
                    process, image: it, ..
                } if process.key.tgid == child.id() => image = Some(it),
                _ => {}
            })
            .unwrap();
        let image = image.unwrap();
        let env = image.env.as_deref().unwrap();
        assert_eq!(&*env.block, b"A=1\0MY_SECRET=***\0");
        assert!(!env.truncated);
        assert_eq!(image.cwd.as_deref(), Some(b"/proc".as_slice()));
        let args: Vec<_> = image.args().collect();
        assert_eq!(args, [b"/bin/true".as_slice(), b"", b"a", b""]);
        let exe = std::fs::canonicalize("/bin/true").unwrap();
        assert_eq!(
            image.exe(),
            Some(std::os::unix::ffi::OsStrExt::as_bytes(exe.as_os_str()))
        );
    }
}
