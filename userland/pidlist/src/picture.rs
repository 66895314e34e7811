//! Processes as they were found, by the daemon or by a session of our own, and how good that is.

use std::io::{self, Write};
use std::sync::Arc;

use pidlist_daemon::Filter;
use pidlist_process_cache::{Process, Selection, Snapshot, clock};
use serde::Serialize;

use crate::cli::{Ask, SourceChoice, Wanted};
use crate::commands::set;
use crate::filter::{self, Circumstances};
use crate::link::Link;
use crate::names::Names;
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{Now, ProcessView, Summary};

/// All that a table, a tree or a document of processes is made from.
pub struct Picture {
    pub snapshot: Arc<Snapshot>,
    pub summary: Summary,
    pub now: Now,
    pub names: Names,
}

/// What a look is for.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// Those that live.
    Living,
    /// The exited as well, as far as a daemon remembers them.
    All,
    /// All of this pid, which is looked for in `/proc`, too, if nobody knows it.
    Pid(u32),
}

/// What `ps --json`, `tree --json` and `history --json` print; `tree` nests nothing:
/// `parent_at_fork` tells.
#[derive(Serialize)]
struct Document<'a> {
    processes: Vec<ProcessView<'a>>,
    summary: Summary,
}

impl Picture {
    fn new(snapshot: Arc<Snapshot>, summary: Summary) -> Self {
        Self {
            snapshot,
            summary,
            now: Now::read(),
            names: Names::default(),
        }
    }

    fn of_session(mut session: Session) -> Self {
        let snapshot = session.collector.reader().snapshot();
        Self::new(snapshot, Summary::new(&session))
    }

    /// What a daemon answered.
    pub fn of_daemon(link: &Link, snapshot: Snapshot) -> Self {
        let summary = link.summary(&snapshot);
        Self::new(Arc::new(snapshot), summary)
    }

    /// The processes that are known now.
    pub fn look(ask: &Ask, source: SourceChoice, wish: Wish) -> anyhow::Result<Self> {
        let Some(mut link) = Link::open(ask, source)? else {
            let mut session = Session::open(source, false)?;
            if let Wish::Pid(pid) = wish
                && session.collector.cache().by_pid(pid).is_none()
            {
                session.collector.preload(pid, &mut |_, _| ())?;
            }
            return Ok(Self::of_session(session));
        };
        let mut snapshot = match wish {
            Wish::Living => Link::said(link.client.living())?,
            Wish::All | Wish::Pid(_) => Link::said(link.client.snapshot())?,
        };
        if let Wish::Pid(pid) = wish
            && snapshot.by_pid(pid).is_none()
            && Link::said(link.client.preload(pid))?
        {
            snapshot = Link::said(link.client.snapshot())?;
        }
        Ok(Self::of_daemon(&link, snapshot))
    }

    /// Looks or watches as `ps` and `tree` ask, and says who is wanted.
    pub fn take(wanted: &Wanted, json: bool) -> anyhow::Result<(Self, Selection)> {
        let Wanted {
            filters,
            of_command,
            observe,
            ask,
        } = wanted;
        // Members leave when they die: whoever was one at either end counts.
        let list = filters.tracked.as_deref();
        let mut tracked = list.map(set::members).transpose()?;
        let watches =
            observe.length.is_some() || observe.until_exit.is_some() || !observe.command.is_empty();
        let began_ns = clock::boottime_ns();
        let picture = if watches {
            let picture = Self::watch(wanted, json)?;
            if let (Some(list), Some(tracked)) = (list, &mut tracked) {
                tracked.extend(set::members(list)?);
            }
            picture
        } else {
            let wish = if filters.exited {
                Wish::All
            } else {
                Wish::Living
            };
            Self::look(ask, observe.source, wish)?
        };
        let besides = Circumstances {
            tracked,
            started_since_ns: of_command.of_command.then_some(began_ns),
            json,
        };
        let selection = filter::selection(filters, &picture.snapshot, &besides);
        Ok((picture, selection))
    }

    fn watch(wanted: &Wanted, json: bool) -> anyhow::Result<Self> {
        let observe = &wanted.observe;
        // A daemon that polls misses what a session of our own need not.
        if let Some(mut link) = Link::open(&wanted.ask, observe.source)?
            && (link.stats.has_events || wanted.ask.daemon)
        {
            let heard = link.observe(Filter::default(), observe, json, false, &mut |_| Ok(()))?;
            return Ok(Self::new(Arc::new(heard.snapshot), heard.summary));
        }
        let mut session = Session::open(observe.source, true)?;
        session.observe(observe, json, false, &mut |_, _| Ok(()))?;
        Ok(Self::of_session(session))
    }

    /// Those to show, the oldest first.
    pub fn select(&mut self, selection: &Selection) -> Vec<Arc<Process>> {
        let Self {
            snapshot,
            now,
            names,
            ..
        } = self;
        let mut shown: Vec<Arc<Process>> = snapshot
            .iter()
            .filter(|process| {
                selection.admits(process, now.boottime_ns, &mut |id| names.cgroup(id))
            })
            .cloned()
            .collect();
        shown.sort_unstable_by_key(|process| process.key());
        shown
    }

    /// As JSON shows a process.
    pub fn view<'a>(&mut self, process: &'a Process) -> ProcessView<'a> {
        let parent = self.snapshot.parent(process);
        ProcessView::new(process, parent, self.now, &mut self.names)
    }

    /// Prints the JSON document of those processes.
    pub fn json(&mut self, shown: &[Arc<Process>]) -> anyhow::Result<Answer> {
        let processes = shown.iter().map(|process| self.view(process)).collect();
        output::json(&Document {
            processes,
            summary: self.summary.clone(),
        })
    }

    /// The last line for people.
    pub fn end(
        &self,
        out: &mut impl Write,
        shown: &[Arc<Process>],
        selection: &Selection,
    ) -> io::Result<()> {
        let mut line = format!("{} shown of {}", shown.len(), self.summary.line());
        if selection.kernel_thread == Some(false) {
            let hidden = self.snapshot.iter().filter(|process| process.seen.kthread);
            let hidden = hidden.count();
            if hidden > 0 {
                line.push_str(&format!("; {hidden} kernel threads hidden"));
            }
        }
        output::print_wrapped(out, &line)?;
        out.flush()
    }
}
