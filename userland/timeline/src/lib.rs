//! The lives of processes as a picture.
//!
//! A [`Timeline`] is drawn as SVG ([`Timeline::svg`]) or written as a trace for Perfetto
//! ([`Timeline::trace`]). It does no I/O and reads no clock: whoever watched the processes says who
//! lived, when, and how it ended.
//!
//! ```
//! use pidlist_timeline::{End, How, Life, Timeline};
//!
//! let make = Life {
//!     pid: 100,
//!     parent: None,
//!     start_ns: 0,
//!     end: Some(End { at_ns: 5_000_000, how: How::Code(0) }),
//!     execs: Vec::new(),
//!     name: "make".into(),
//!     command: "make -j8".into(),
//!     uid: 1000,
//!     cpu_ns: 1_000_000,
//! };
//! let timeline = Timeline::new("make -j8", vec![make], 0, 5_000_000);
//! assert!(timeline.svg(&Default::default()).starts_with("<svg"));
//! ```

mod layout;
mod parallelism;
mod svg;
mod time;
mod trace;

pub use parallelism::Parallelism;
pub use svg::Settings;
pub use trace::Trace;

/// A process, as it is drawn. Moments are nanoseconds of one clock, whichever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its pid.
    pub pid: u32,
    /// Whose child it is: the index of an earlier life. Anything else counts as none.
    pub parent: Option<usize>,
    /// When it was made.
    pub start_ns: u64,
    /// When and how it ended; `None` while it lives.
    pub end: Option<End>,
    /// The programs it began to run, in order.
    pub execs: Vec<Exec>,
    /// Name of its program, without a directory.
    pub name: String,
    /// Its command line, as people read it.
    pub command: String,
    /// Real user.
    pub uid: u32,
    /// CPU time while it was watched, without its children, nanoseconds.
    pub cpu_ns: u64,
}

/// The end of a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When; not before the start.
    pub at_ns: u64,
    /// How.
    pub how: How,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It exited with this code.
    Code(u32),
    /// A signal of this name killed it.
    Signal(String),
    /// Nobody saw it.
    Unknown,
}

/// A program that a process began to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// When.
    pub at_ns: u64,
    /// What.
    pub name: String,
}

impl Life {
    /// What it was doing when nobody looked any more, or how it ended.
    fn fate(&self) -> Fate {
        match self.end.as_ref().map(|end| &end.how) {
            None => Fate::Alive,
            Some(How::Code(0)) => Fate::Success,
            Some(How::Code(_)) => Fate::Failure,
            Some(How::Signal(_)) => Fate::Killed,
            Some(How::Unknown) => Fate::Unknown,
        }
    }

    fn exit(&self) -> String {
        match self.end.as_ref().map(|end| &end.how) {
            None => "alive".into(),
            Some(How::Code(code)) => format!("exit {code}"),
            Some(How::Signal(name)) => format!("killed by {name}"),
            Some(How::Unknown) => "ended unseen".into(),
        }
    }
}

/// What a life is coloured by. Of several, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Success,
    Alive,
    Unknown,
    Failure,
    Killed,
}

/// Lives, and the time in which they were watched.
#[derive(Clone, Debug)]
pub struct Timeline {
    title: String,
    lives: Vec<Life>,
    from_ns: u64,
    to_ns: u64,
}

impl Timeline {
    /// What happened from `from_ns` to `to_ns`. Who lives beyond either end is cut there.
    #[must_use]
    pub fn new(title: impl Into<String>, lives: Vec<Life>, from_ns: u64, to_ns: u64) -> Self {
        Self {
            title: title.into(),
            lives,
            from_ns,
            to_ns: to_ns.max(from_ns.saturating_add(1)),
        }
    }

    /// The lives, in the order in which they were given.
    #[must_use]
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// How long it is, nanoseconds; at least 1.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }

    /// CPU time of all lives, nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.lives.iter().map(|life| life.cpu_ns).sum()
    }

    /// How many lived at a time.
    #[must_use]
    pub fn parallelism(&self) -> Parallelism {
        Parallelism::new((0..self.lives.len()).map(|life| self.interval(life)))
    }

    /// From its start to its end, as far as it was watched; nanoseconds from the start of the
    /// timeline.
    fn interval(&self, life: usize) -> (u64, u64) {
        let life = &self.lives[life];
        let within = |ns: u64| ns.clamp(self.from_ns, self.to_ns) - self.from_ns;
        let start = within(life.start_ns);
        let end = life.end.as_ref().map_or(self.to_ns, |end| end.at_ns);
        (start, within(end).max(start))
    }

    fn parent(&self, life: usize) -> Option<usize> {
        self.lives[life].parent.filter(|parent| *parent < life)
    }
}

#[cfg(test)]
mod samples;
