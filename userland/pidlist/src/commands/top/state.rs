//! What `pidlist top` shows, and what keys do to it. Nothing here draws, reads a clock or does I/O.
//!
//! A [`Frame`] is a copy of what there is at one moment, so that a pause is one. Its entries are the
//! living, and the [`Ghosts`]: those that have exited since a few seconds ago, together where they were
//! children of one living process and had one name, for a thousand rows tell less than a number.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use pidlist_process_cache::{Cache, Counters, Key, Process};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{output, view};

/// How long the dead are shown, nanoseconds.
pub const FADE_NS: u64 = 3_000_000_000;
/// Levels of the tree that are drawn as such, more than a screen is wide: a chain of ten thousand is not to
/// take as many characters in each of its rows.
const MOST_LEVELS: usize = 128;
/// The most samples of rates: more than a terminal is wide.
const HISTORY: usize = 512;

/// A living process.
#[derive(Clone, Debug)]
pub struct Living {
    pub key: Key,
    pub parent: Option<Key>,
    pub command: Rc<str>,
    pub uid: u32,
    pub threads: u32,
    /// CPU time since the frame before, in parts of one CPU.
    pub cpu: f64,
    /// Peak resident set; 0 where it was not told.
    pub peak_kib: u64,
    /// Younger than the frame before.
    pub is_new: bool,
}

/// Processes of one name that were below one living process, and have exited.
#[derive(Clone, Debug)]
pub struct Ghosts {
    /// Who of those that live was nearest above them.
    pub parent: Option<Key>,
    pub comm: [u8; 16],
    pub count: usize,
    /// Those that a signal killed, or whose exit code was not 0.
    pub failed: usize,
    /// How long they lived together.
    pub lived_ns: u64,
    /// CPU time since the frame before, in parts of one CPU.
    pub cpu: f64,
    pub peak_kib: u64,
    /// The last one of them: who it was, what it ran, how it ended, and when.
    pub last: Key,
    pub uid: u32,
    pub command: Rc<str>,
    pub exit: String,
    pub ended_ns: u64,
}

#[derive(Clone, Debug)]
pub enum Entry {
    Living(Living),
    Ghosts(Ghosts),
}

/// What makes a row the same from frame to frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    Living(Key),
    Ghosts(Option<Key>, [u8; 16]),
}

impl Entry {
    pub fn id(&self) -> Id {
        match self {
            Self::Living(living) => Id::Living(living.key),
            Self::Ghosts(ghosts) => Id::Ghosts(ghosts.parent, ghosts.comm),
        }
    }

    pub fn key(&self) -> Key {
        match self {
            Self::Living(living) => living.key,
            Self::Ghosts(ghosts) => ghosts.last,
        }
    }

    fn parent(&self) -> Option<Key> {
        match self {
            Self::Living(living) => living.parent,
            Self::Ghosts(ghosts) => ghosts.parent,
        }
    }

    pub fn command(&self) -> &str {
        match self {
            Self::Living(living) => &living.command,
            Self::Ghosts(ghosts) => &ghosts.command,
        }
    }

    pub fn uid(&self) -> u32 {
        match self {
            Self::Living(living) => living.uid,
            Self::Ghosts(ghosts) => ghosts.uid,
        }
    }

    pub fn cpu(&self) -> f64 {
        match self {
            Self::Living(living) => living.cpu,
            Self::Ghosts(ghosts) => ghosts.cpu,
        }
    }

    pub fn peak_kib(&self) -> u64 {
        match self {
            Self::Living(living) => living.peak_kib,
            Self::Ghosts(ghosts) => ghosts.peak_kib,
        }
    }
}

/// Changes in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub forks: f64,
    pub execs: f64,
    pub exits: f64,
}

/// All that is shown of one moment.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub now_ns: u64,
    pub entries: Vec<Entry>,
    pub alive: usize,
    pub counters: Counters,
    /// Corrected by walks since the start.
    pub repaired: u64,
    pub rates: Rates,
}

/// A line of the list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Place in [`Frame::entries`].
    pub entry: usize,
    /// Lines from the parent, in a tree.
    pub branch: String,
    /// Whether children are shown, and how many are not; `None` without children.
    pub fold: Option<Fold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    Open,
    Closed(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Cpu,
    Peak,
    Newest,
    Pid,
    Command,
}

impl Sort {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Peak => "peak memory",
            Self::Newest => "newest",
            Self::Pid => "pid",
            Self::Command => "command",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Cpu => Self::Peak,
            Self::Peak => Self::Newest,
            Self::Newest => Self::Pid,
            Self::Pid => Self::Command,
            Self::Command => Self::Cpu,
        }
    }
}

/// Who gets the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    List,
    Filter,
    Help,
    Details,
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Stay,
    Quit,
}

#[derive(Debug, Default)]
pub struct State {
    pub frame: Frame,
    pub rows: Vec<Row>,
    /// Place in [`rows`](Self::rows).
    pub selected: usize,
    pub mode: Mode,
    pub filter: String,
    pub sort: Sort,
    pub is_flat: bool,
    pub is_paused: bool,
    /// Forks a second, the latest last.
    pub forks: VecDeque<u64>,
    /// The first row on the screen, as drawn last.
    pub offset: usize,
    /// Rows of the list that fit on the screen, as drawn last.
    pub page: usize,
    closed: HashSet<Id>,
    /// CPU time of the living in the frame before.
    cpu_ns: HashMap<Key, u64>,
    /// Command lines of the living, and the exec they are of.
    commands: HashMap<Key, (Option<u64>, Rc<str>)>,
}

impl State {
    /// Takes in how things are now.
    pub fn update(&mut self, cache: &Cache, repaired: u64, now_ns: u64) {
        if self.is_paused {
            return;
        }
        let selected = self.selected_id();
        let before = std::mem::take(&mut self.frame);
        let is_first = before.now_ns == 0;
        let elapsed_ns = now_ns.saturating_sub(before.now_ns).max(1);
        let counters = cache.counters();
        let mut frame = Frame {
            now_ns,
            alive: cache.alive(),
            counters,
            repaired,
            ..Frame::default()
        };
        if !is_first {
            let rate = |count: fn(&Counters) -> u64| {
                // What a walk noticed before its event is taken off again: it may shrink for a moment.
                let change = count(&counters).saturating_sub(count(&before.counters));
                change as f64 * 1e9 / elapsed_ns as f64
            };
            frame.rates = Rates {
                forks: rate(|counters| counters.forks + counters.added),
                execs: rate(|counters| counters.execs),
                exits: rate(|counters| counters.exits + counters.ended),
            };
            self.forks.push_back(frame.rates.forks.round() as u64);
            if self.forks.len() > HISTORY {
                self.forks.pop_front();
            }
        }

        let share = |ns: u64| ns as f64 / elapsed_ns as f64;
        let mut cpu_ns = HashMap::with_capacity(self.cpu_ns.len());
        let mut commands = HashMap::with_capacity(self.commands.len());
        let mut ghosts: HashMap<Id, usize> = HashMap::new();
        for process in cache.iter() {
            let key = process.key();
            let total_ns = process.seen.usage.utime_ns + process.seen.usage.stime_ns;
            let spent_ns = match self.cpu_ns.get(&key) {
                Some(earlier) => total_ns.saturating_sub(*earlier),
                None if is_first || key.start_ns < before.now_ns => 0,
                None => total_ns,
            };
            let Some(exit) = process.exit else {
                cpu_ns.insert(key, total_ns);
                let known = self.commands.remove(&key);
                let known = known.filter(|(exec, _)| *exec == process.exec_ns);
                let (exec, command) =
                    known.unwrap_or_else(|| (process.exec_ns, view::command(process).into()));
                commands.insert(key, (exec, Rc::clone(&command)));
                frame.entries.push(Entry::Living(Living {
                    key,
                    parent: cache.parent(process),
                    command,
                    uid: process.seen.ids.uid,
                    threads: process.seen.threads,
                    cpu: share(spent_ns),
                    peak_kib: process.seen.usage.maxrss_kib,
                    is_new: !is_first && key.start_ns >= before.now_ns,
                }));
                continue;
            };
            if is_first || exit.noticed_ns + FADE_NS <= now_ns {
                continue;
            }
            // What it spent before it died counts once, in the frame that sees it dead first.
            let is_fresh = exit.noticed_ns >= before.now_ns;
            let ghost = ghost(cache, process, if is_fresh { share(spent_ns) } else { 0.0 });
            match ghosts.entry(Id::Ghosts(ghost.parent, ghost.comm)) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    if let Entry::Ghosts(group) = &mut frame.entries[*place.get()] {
                        group.merge(ghost);
                    }
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(frame.entries.len());
                    frame.entries.push(Entry::Ghosts(ghost));
                }
            }
        }
        // Only the last of each group is shown in full.
        for entry in &mut frame.entries {
            if let Entry::Ghosts(ghosts) = entry
                && let Some(last) = cache.get(ghosts.last)
            {
                ghosts.command = view::command(last).into();
                ghosts.exit = view::exit(last);
            }
        }
        if is_first {
            // Its children are many, and seldom what somebody looks for.
            let threads = cache.by_pid(2).filter(|process| process.seen.kthread);
            self.closed
                .extend(threads.map(|process| Id::Living(process.key())));
        }
        self.cpu_ns = cpu_ns;
        self.commands = commands;
        self.frame = frame;
        self.make_rows(selected);
    }

    /// The row that is selected.
    pub fn selected(&self) -> Option<(&Row, &Entry)> {
        let row = self.rows.get(self.selected)?;
        Some((row, &self.frame.entries[row.entry]))
    }

    /// Does what a key says.
    pub fn press(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Act::Quit,
                _ => Act::Stay,
            };
        }
        match self.mode {
            Mode::List => return self.press_in_list(key.code),
            Mode::Filter => self.press_in_filter(key.code),
            Mode::Help | Mode::Details => match key.code {
                KeyCode::Up | KeyCode::Down if self.mode == Mode::Details => {
                    return self.press_in_list(key.code);
                }
                _ => self.mode = Mode::List,
            },
        }
        Act::Stay
    }

    fn press_in_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::List,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::List;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) => self.filter.push(character),
            _ => return,
        }
        self.arrange();
    }

    fn press_in_list(&mut self, code: KeyCode) -> Act {
        let last = self.rows.len().saturating_sub(1);
        match code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Enter if !self.rows.is_empty() => self.mode = Mode::Details,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(self.page.max(1)),
            KeyCode::PageDown => self.selected = (self.selected + self.page.max(1)).min(last),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Left => self.close(),
            KeyCode::Right => self.open(),
            KeyCode::Char('-') => self.close_all(),
            KeyCode::Char('+' | '=') => {
                self.closed.clear();
                self.arrange();
            }
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.arrange();
            }
            KeyCode::Char('t') => {
                self.is_flat = !self.is_flat;
                self.arrange();
            }
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                self.arrange();
            }
            _ => {}
        }
        Act::Stay
    }

    /// Hides the children of the selected row; goes to its parent if there are none to hide.
    fn close(&mut self) {
        let Some((row, entry)) = self.selected() else {
            return;
        };
        if row.fold == Some(Fold::Open) {
            self.closed.insert(entry.id());
            self.arrange();
        } else if let Some(parent) = entry.parent().filter(|_| !self.is_flat) {
            self.select(Id::Living(parent));
        }
    }

    fn open(&mut self) {
        if let Some((_, entry)) = self.selected() {
            let id = entry.id();
            if self.closed.remove(&id) {
                self.arrange();
            }
        }
    }

    /// Leaves of each tree its head and the children of that.
    fn close_all(&mut self) {
        let entries = self.frame.entries.iter();
        let children = entries.filter(|entry| entry.parent().is_some());
        self.closed = children.map(Entry::id).collect();
        self.arrange();
    }

    fn select(&mut self, id: Id) {
        let entries = &self.frame.entries;
        let place = self
            .rows
            .iter()
            .position(|row| entries[row.entry].id() == id);
        self.selected = place.unwrap_or(self.selected);
    }

    /// Who is to stay selected: whoever is on top is so by chance, and the top is what stays.
    fn selected_id(&self) -> Option<Id> {
        let (_, entry) = self.selected().filter(|_| self.selected != 0)?;
        Some(entry.id())
    }

    /// Makes the rows of the same frame anew; whoever was selected stays so.
    fn arrange(&mut self) {
        let selected = self.selected_id();
        self.make_rows(selected);
    }

    fn make_rows(&mut self, selected: Option<Id>) {
        self.rows = if self.is_flat {
            self.list()
        } else {
            self.tree()
        };
        if let Some(selected) = selected {
            self.select(selected);
        }
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
    }

    fn matches(&self, entry: &Entry) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty()
            || entry.command().to_lowercase().contains(&wanted)
            || entry.key().tgid.to_string() == wanted
    }

    fn list(&self) -> Vec<Row> {
        let entries = &self.frame.entries;
        let cpu: Vec<f64> = entries.iter().map(Entry::cpu).collect();
        let mut places: Vec<usize> = (0..entries.len())
            .filter(|&place| self.matches(&entries[place]))
            .collect();
        places.sort_by(|&a, &b| self.order(&cpu, a, b));
        let row = |entry| Row {
            entry,
            branch: String::new(),
            fold: None,
        };
        places.into_iter().map(row).collect()
    }

    fn tree(&self) -> Vec<Row> {
        let entries = &self.frame.entries;
        let living: HashMap<Key, usize> = entries
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| match entry {
                Entry::Living(living) => Some((living.key, place)),
                Entry::Ghosts(_) => None,
            })
            .collect();
        let parent = |place: usize| {
            entries[place]
                .parent()
                .and_then(|parent| living.get(&parent).copied())
        };
        // Whoever matches brings along those above.
        let mut wanted = vec![self.filter.is_empty(); entries.len()];
        let mut cpu = vec![0.0; entries.len()];
        for place in 0..entries.len() {
            let is_match = !self.filter.is_empty() && self.matches(&entries[place]);
            let mut up = Some(place);
            // A parent is no descendant; but an entry of a walk that ran into changes might say so.
            for _ in 0..entries.len() {
                let Some(at) = up else { break };
                wanted[at] |= is_match;
                cpu[at] += entries[place].cpu();
                up = parent(at);
            }
        }
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut roots = Vec::new();
        for place in (0..entries.len()).filter(|&place| wanted[place]) {
            match parent(place) {
                Some(parent) => children.entry(parent).or_default().push(place),
                None => roots.push(place),
            }
        }
        for siblings in children.values_mut().chain([&mut roots]) {
            siblings.sort_by(|&a, &b| self.order(&cpu, a, b));
        }
        let mut rows = Vec::new();
        // A stack, not recursion: a chain of processes can be longer than ours is deep.
        let roots = roots
            .into_iter()
            .rev()
            .map(|root| (root, String::new(), String::new()));
        let mut stack: Vec<(usize, String, String)> = roots.collect();
        while let Some((place, branch, below)) = stack.pop() {
            let members = children.get(&place).map_or(&[][..], Vec::as_slice);
            // A filter looks into what is closed.
            let is_closed = self.filter.is_empty() && self.closed.contains(&entries[place].id());
            let fold = match members.len() {
                0 => None,
                _ if is_closed => Some(Fold::Closed(descendants(&children, place))),
                _ => Some(Fold::Open),
            };
            rows.push(Row {
                entry: place,
                branch,
                fold,
            });
            if is_closed {
                continue;
            }
            for (at, &child) in members.iter().enumerate().rev() {
                let (own, line) = if at + 1 == members.len() {
                    ("└─", "  ")
                } else {
                    ("├─", "│ ")
                };
                let level = below.chars().count() / 2;
                let line = if level < MOST_LEVELS { line } else { "" };
                stack.push((child, format!("{below}{own}"), format!("{below}{line}")));
            }
        }
        rows
    }

    fn order(&self, cpu: &[f64], a: usize, b: usize) -> Ordering {
        let (left, right) = (&self.frame.entries[a], &self.frame.entries[b]);
        let order = match self.sort {
            Sort::Cpu => cpu[b].total_cmp(&cpu[a]),
            Sort::Peak => right.peak_kib().cmp(&left.peak_kib()),
            Sort::Newest => Reverse(left.key().start_ns).cmp(&Reverse(right.key().start_ns)),
            Sort::Pid => Ordering::Equal,
            Sort::Command => left.command().cmp(right.command()),
        };
        order.then_with(|| left.key().tgid.cmp(&right.key().tgid))
    }
}

impl Ghosts {
    fn merge(&mut self, other: Self) {
        let is_later = other.ended_ns >= self.ended_ns;
        self.count += other.count;
        self.failed += other.failed;
        self.lived_ns += other.lived_ns;
        self.cpu += other.cpu;
        self.peak_kib = self.peak_kib.max(other.peak_kib);
        if is_later {
            self.last = other.last;
            self.uid = other.uid;
            self.ended_ns = other.ended_ns;
        }
    }

    /// How long ago the last one died, in parts of [`FADE_NS`]: 0 is now, 1 is gone.
    pub fn faded(&self, now_ns: u64) -> f64 {
        now_ns.saturating_sub(self.ended_ns) as f64 / FADE_NS as f64
    }
}

fn ghost(cache: &Cache, process: &Process, cpu: f64) -> Ghosts {
    let is_alive = |key: &Key| cache.get(*key).is_some_and(Process::is_alive);
    let mut ancestors =
        std::iter::successors(cache.lineage(process.key()), |key| cache.lineage(*key));
    let ended_ns = process.exit.map_or(0, |exit| exit.noticed_ns);
    Ghosts {
        parent: ancestors.find(is_alive),
        comm: process.seen.comm,
        count: 1,
        failed: usize::from(
            process
                .exit
                .and_then(|exit| exit.status)
                .is_some_and(|status| status != 0),
        ),
        lived_ns: process.lifetime_ns(ended_ns).unwrap_or(0),
        cpu,
        peak_kib: process.seen.usage.maxrss_kib,
        last: process.key(),
        uid: process.seen.ids.uid,
        command: Rc::from(""),
        exit: String::new(),
        ended_ns,
    }
}

fn descendants(children: &HashMap<usize, Vec<usize>>, of: usize) -> usize {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(place) = found.get(next) {
        found.extend(children.get(place).into_iter().flatten());
        next += 1;
    }
    found.len() - 1
}

/// All that is known of the selected process, a line each.
pub fn details(entry: &Entry, now_ns: u64) -> Vec<String> {
    let mut lines = vec![entry.command().to_owned(), String::new()];
    lines.push(format!("pid {}, uid {}", entry.key().tgid, entry.uid()));
    match entry {
        Entry::Living(living) => {
            let age = now_ns.saturating_sub(living.key.start_ns);
            lines.push(format!(
                "alive for {}, {} threads",
                output::span(age),
                living.threads
            ));
        }
        Entry::Ghosts(ghosts) => {
            let ago = output::span(now_ns.saturating_sub(ghosts.ended_ns));
            lines.push(format!("ended {ago} ago: {}", ghosts.exit));
            if ghosts.count > 1 {
                lines.push(format!(
                    "the last of {} of that name below one parent; {} failed; {} on average",
                    ghosts.count,
                    ghosts.failed,
                    output::span(ghosts.lived_ns / ghosts.count as u64),
                ));
            }
        }
    }
    lines.push(format!(
        "CPU {:.1} %, peak {}",
        entry.cpu() * 100.0,
        output::bytes(entry.peak_kib() << 10)
    ));
    if let Some(parent) = entry.parent() {
        lines.push(format!("parent {}", parent.tgid));
    }
    lines
}
