//! Lives of processes, made up: events as a kernel would tell them.

use std::collections::VecDeque;

use pidlist_process_cache::source::Event;
use pidlist_process_cache::{Cache, Image, ImageSource, Key, Precision, Sighting};

/// Pids are given out in a circle of this size, as Linux does by default: every one is reused soon.
const PID_MAX: u32 = 32_768;

/// Bytes of arguments of each.
pub(super) const ARGS: usize = 200;

/// A machine on which processes come and go.
pub(super) struct Lives {
    now_ns: u64,
    /// Between two events.
    step_ns: u64,
    next_pid: u32,
    /// Those that live all the time, and fork the others.
    residents: Vec<Key>,
    /// Those that come and go, the oldest first.
    brief: VecDeque<Key>,
    random: fastrand::Rng,
}

impl Lives {
    /// A machine with so many processes that stay, on which so many events happen a second.
    pub(super) fn new(residents: u32, events_per_second: u64) -> Self {
        Self {
            now_ns: 1_000_000_000,
            step_ns: 1_000_000_000 / events_per_second,
            next_pid: residents + 1,
            residents: (1..=residents).map(resident).collect(),
            brief: VecDeque::new(),
            random: fastrand::Rng::with_seed(1),
        }
    }

    /// Those that stay are in the cache from the beginning.
    pub(super) fn enter(&self, cache: &mut Cache) {
        for key in &self.residents {
            let parent = (key.tgid > 1).then(|| resident(key.tgid / 2));
            let process = seen(*key, parent);
            cache.on_fork(key.start_ns, &process, parent);
            cache.on_exec(key.start_ns, &process, image(*key));
        }
    }

    pub(super) fn residents(&self) -> &[Key] {
        &self.residents
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The next process forks, runs a program, and, while some others live, exits: three events.
    pub(super) fn live(&mut self, tell: &mut impl FnMut(Event)) {
        let parent = self.residents[self.random.usize(..self.residents.len())];
        let key = Key {
            start_ns: self.tick(),
            tgid: self.next_pid,
        };
        self.next_pid += 1;
        if self.next_pid > PID_MAX {
            self.next_pid = self.residents.len() as u32 + 1;
        }
        let child = seen(key, Some(parent));
        tell(Event::Fork {
            time_ns: self.now_ns,
            child: child.clone(),
            forker: Some(parent),
        });
        tell(Event::Exec {
            time_ns: self.tick(),
            process: child,
            image: image(key),
        });
        self.brief.push_back(key);
        if self.brief.len() > 32
            && let Some(key) = self.brief.pop_front()
        {
            let process = Sighting {
                dead: true,
                exit_status: Some(0),
                ..seen(key, None)
            };
            tell(Event::Exit {
                time_ns: self.tick(),
                process,
            });
        }
    }

    fn tick(&mut self) -> u64 {
        self.now_ns += self.step_ns;
        self.now_ns
    }
}

pub(super) fn tell(cache: &mut Cache, event: Event) {
    match event {
        Event::Fork {
            time_ns,
            child,
            forker,
        } => cache.on_fork(time_ns, &child, forker),
        Event::Exec {
            time_ns,
            process,
            image,
        } => cache.on_exec(time_ns, &process, image),
        Event::Exit { time_ns, process } => cache.on_exit(time_ns, &process),
    };
}

fn resident(tgid: u32) -> Key {
    Key {
        start_ns: u64::from(tgid) * 10_000,
        tgid,
    }
}

fn seen(key: Key, parent: Option<Key>) -> Sighting {
    Sighting {
        parent,
        comm: *b"cc1\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ..Sighting::new(key, Precision::Nanosecond)
    }
}

/// No two are alike, as in a build.
fn image(key: Key) -> Image {
    let mut block = format!("/usr/bin/cc1\0-o\0{:x}.o\0", key.start_ns).into_bytes();
    block.resize(ARGS - 1, b'x');
    block.push(0);
    Image {
        cwd: Some((*b"/home/user/linux/build").into()),
        ..Image::new(
            ImageSource::Exec,
            Some((*b"/usr/bin/cc1").into()),
            block.into(),
        )
    }
}
