//! An exact copy of a list's membership.
//!
//! Membership and events change under one lock in the kernel. So whoever begins to read events, then
//! reads the members one by one, and then applies the events in order, ends up with exactly the
//! members there are, however many come and go meanwhile: of each task, the last event decides, and
//! where there was none, what was read is right. The same goes for a repair after events were lost.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::Error;
use crate::events::{Batch, Event, Events, Kind};
use crate::set::{Member, PidSet};

/// A copy of a list's membership, kept exact by the list's events. It can be polled for reading.
///
/// Where events were lost, it reads all members anew, and counts that.
///
/// In a pid namespace, it holds those who have a number there. Who has just been reaped has none, and
/// is not among [`PidSet::members`] any more; here, they stay until they are freed, as anywhere else.
#[derive(Debug)]
pub struct Mirror {
    set: PidSet,
    events: Events,
    state: State,
}

impl Mirror {
    /// Subscribes to a list, and reads its members.
    ///
    /// # Errors
    ///
    /// [`Error::ListGone`], [`Error::NotForUnion`].
    pub fn of(set: PidSet) -> Result<Self, Error> {
        let last = set.stats()?.events;
        let events = set.events(Some(last + 1))?;
        let mut mirror = Self {
            set,
            events,
            state: State::new(last),
        };
        mirror.read_members()?;
        Ok(mirror)
    }

    /// Applies the events there are, and gives them; waits for one if there is none.
    ///
    /// At the end, the members are those that the list had when it was deleted, unless
    /// [`is_exact`](Self::is_exact) denies it.
    ///
    /// # Errors
    ///
    /// Those of [`Events::read`] and [`PidSet::members`].
    pub fn step(&mut self) -> Result<Batch<'_>, Error> {
        match self.events.read()? {
            Batch::Events(events) => events.iter().for_each(|event| self.state.apply(event)),
            Batch::Nothing => return Ok(Batch::Nothing),
            Batch::End => return Ok(Batch::End),
        }
        if self.state.settled.is_none() {
            match self.read_members() {
                // The next read says so.
                Ok(()) | Err(Error::ListGone(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Batch::Events(self.events.batch()))
    }

    /// Applies all events up to this call at least, until the copy is exact.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step), [`Error::ListGone`].
    pub fn catch_up(&mut self) -> Result<(), Error> {
        let now = self.set.stats()?.events;
        while self.state.last < now || !self.is_exact() {
            if self.step()? == Batch::End {
                // Fails: it is gone.
                self.set.stats()?;
            }
        }
        Ok(())
    }

    fn read_members(&mut self) -> Result<(), Error> {
        let members = self.set.members_with_ids()?;
        self.state.replace(members, self.set.stats()?.events);
        Ok(())
    }

    /// The members, in the order of their ids.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member> {
        let members = self.state.members.iter();
        members.map(|(&id, &pid)| Member { pid, id })
    }

    /// Whether the copy is what the list was at the last event applied. It may not be for as long as
    /// events are to come that are older than the members that were read.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.state.is_exact()
    }

    /// The [`Event::seq`] of the last event applied.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.state.last
    }

    /// Events that were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lost
    }

    /// How often a loss was repaired, by reading all members anew.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.state.repaired
    }

    /// Whether [`step`](Self::step) waits for an event; at first it does.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        self.events.set_nonblocking(nonblocking)
    }

    /// The list.
    #[must_use]
    pub fn set(&self) -> &PidSet {
        &self.set
    }
}

impl AsFd for Mirror {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// What a mirror knows; it needs no device.
#[derive(Debug)]
struct State {
    /// Pids by id: an event of a task without a number here (any more) still names its id.
    members: BTreeMap<u32, u32>,
    /// The last event applied.
    last: u64,
    /// With all events up to this one, the members are exact; `None` until they are read (again).
    settled: Option<u64>,
    lost: u64,
    repaired: u64,
}

impl State {
    /// Begins behind the event `last`, with members yet to be read.
    fn new(last: u64) -> Self {
        Self {
            members: BTreeMap::new(),
            last,
            settled: None,
            lost: 0,
            repaired: 0,
        }
    }

    fn is_exact(&self) -> bool {
        self.settled.is_some_and(|settled| self.last >= settled)
    }

    fn apply(&mut self, event: &Event) {
        let Some(skipped) = event.seq.checked_sub(self.last + 1) else {
            // Seen already.
            return;
        };
        self.last = event.seq;
        let lost = skipped.max(event.lost.into());
        if lost != 0 {
            self.lost += lost;
            self.settled = None;
        }
        match event.kind {
            Kind::Added | Kind::Forked | Kind::Renumbered => {
                if let Some(pid) = event.pid {
                    self.members.insert(event.id, pid);
                }
            }
            Kind::Removed | Kind::Freed => {
                self.members.remove(&event.id);
            }
            Kind::Cleared => self.members.clear(),
        }
    }

    /// Takes members that were all read after the last event applied, and before `settled` was the
    /// last one of the list.
    fn replace(&mut self, members: Vec<Member>, settled: u64) {
        self.members = members
            .into_iter()
            .map(|member| (member.id, member.pid))
            .collect();
        self.settled = Some(settled);
        if self.lost != 0 {
            self.repaired += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn event(seq: u64, kind: Kind, id: u32) -> Event {
        Event {
            seq,
            time_ns: 0,
            pid: (kind != Kind::Cleared).then_some(id),
            id,
            kind,
            lost: 0,
        }
    }

    fn ids(state: &State) -> Vec<u32> {
        state.members.keys().copied().collect()
    }

    fn members(ids: &[u32]) -> Vec<Member> {
        ids.iter().map(|&id| Member { pid: id, id }).collect()
    }

    #[test]
    fn events_that_the_snapshot_knows_do_no_harm() {
        let mut state = State::new(10);
        assert!(!state.is_exact());
        // 5 left and came again while the members were read; 6 came and is in already.
        state.replace(members(&[5, 6, 7]), 13);
        assert!(!state.is_exact());
        state.apply(&event(11, Kind::Freed, 5));
        state.apply(&event(12, Kind::Forked, 5));
        state.apply(&event(13, Kind::Added, 6));
        assert!(state.is_exact());
        assert_eq!(ids(&state), [5, 6, 7]);
        assert_eq!((state.lost, state.repaired), (0, 0));
    }

    #[test]
    fn the_same_event_twice_counts_once() {
        let mut state = State::new(0);
        state.replace(Vec::new(), 0);
        state.apply(&event(1, Kind::Added, 5));
        state.apply(&event(2, Kind::Removed, 5));
        state.apply(&event(1, Kind::Added, 5));
        assert_eq!(ids(&state), []);
        state.apply(&event(3, Kind::Added, 6));
        assert_eq!(ids(&state), [6]);
        assert_eq!(state.lost, 0);
    }

    #[test]
    fn a_loss_is_counted_and_repaired() {
        for told in [0, 3] {
            let mut state = State::new(0);
            state.replace(members(&[1]), 0);
            let mut late = event(4, Kind::Added, 9);
            late.lost = told;
            state.apply(&late);
            assert!(!state.is_exact() && state.settled.is_none());
            state.replace(members(&[9]), 4);
            assert!(state.is_exact());
            assert_eq!(ids(&state), [9]);
            assert_eq!((state.lost, state.repaired), (3, 1));
        }
    }

    #[test]
    fn who_has_no_number_here_leaves_by_id() {
        let mut state = State::new(0);
        state.replace(vec![Member { pid: 2, id: 700 }], 0);
        let nobody = |seq, kind, id| Event {
            pid: None,
            ..event(seq, kind, id)
        };
        state.apply(&nobody(1, Kind::Forked, 701));
        assert_eq!(ids(&state), [700]);
        state.apply(&nobody(2, Kind::Freed, 700));
        state.apply(&nobody(3, Kind::Freed, 701));
        assert_eq!(ids(&state), []);
    }

    /// What a list in the kernel does, as far as a mirror can see.
    #[derive(Default)]
    struct Kernel {
        members: BTreeMap<u32, u32>,
        seq: u64,
        /// The latest events.
        log: VecDeque<Event>,
        kept: usize,
        /// The last event that the reader got.
        read: u64,
        lost: u64,
        /// The reader is in a pid namespace, where a third of the tasks has no number.
        nested: bool,
        /// Whom the reader would have seen behind each event.
        history: Vec<Vec<Member>>,
    }

    impl Kernel {
        fn pid_of(&self, id: u32) -> Option<u32> {
            (!self.nested || !id.is_multiple_of(3)).then_some(id + 1000)
        }

        fn tell(&mut self, kind: Kind, id: u32) {
            self.history.push(self.visible());
            self.seq += 1;
            self.log.push_back(event(self.seq, kind, id));
            if self.log.len() > self.kept {
                self.log.pop_front();
            }
        }

        fn join(&mut self, id: u32, kind: Kind) {
            if self.members.insert(id, id).is_none() {
                self.tell(kind, id);
            }
        }

        fn leave(&mut self, id: u32, kind: Kind) {
            if self.members.remove(&id).is_some() {
                self.tell(kind, id);
            }
        }

        fn clear(&mut self) {
            self.members.clear();
            self.tell(Kind::Cleared, 0);
        }

        fn read(&mut self, most: usize) -> Vec<Event> {
            let oldest = self.seq - self.log.len() as u64;
            let mut events: Vec<Event> = (self.log.iter())
                .filter(|event| event.seq > self.read)
                .take(most)
                .copied()
                .collect();
            if let Some(first) = events.first_mut() {
                first.lost = u32::try_from(oldest.saturating_sub(self.read)).unwrap();
                self.lost += u64::from(first.lost);
            }
            for event in &mut events {
                // A task that is gone by now has no number any more, but in the initial namespace.
                let lives = !self.nested || self.members.contains_key(&event.id);
                event.pid = self.pid_of(event.id).filter(|_| lives);
                self.read = event.seq;
            }
            events
        }

        /// Up to two members from `cursor` on.
        fn span(&self, cursor: u32) -> Vec<Member> {
            let mut members = self.visible();
            members.retain(|member| member.id >= cursor);
            members.truncate(2);
            members
        }

        fn visible(&self) -> Vec<Member> {
            let ids = self.members.keys();
            ids.filter_map(|&id| self.pid_of(id).map(|pid| Member { pid, id }))
                .collect()
        }
    }

    /// A mirror that can be stopped between any two calls.
    struct Stepwise {
        state: State,
        /// Members as far as they were read, if that is going on.
        reading: Option<Vec<Member>>,
    }

    impl Stepwise {
        fn step(&mut self, kernel: &mut Kernel, most: usize) {
            match &mut self.reading {
                Some(members) => {
                    let cursor = members.last().map_or(0, |member| member.id + 1);
                    let more = kernel.span(cursor);
                    if more.is_empty() {
                        let members = self.reading.take().unwrap();
                        self.state.replace(members, kernel.seq);
                    } else {
                        members.extend(more);
                    }
                }
                None => {
                    for event in kernel.read(most) {
                        self.state.apply(&event);
                    }
                }
            }
            if self.reading.is_none() && self.state.settled.is_none() {
                self.reading = Some(Vec::new());
            }
        }

        fn members(&self) -> Vec<Member> {
            let members = self.state.members.iter();
            members.map(|(&id, &pid)| Member { pid, id }).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Join(u32, Kind),
        Leave(u32, Kind),
        Clear,
        Step(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let joins = prop_oneof![
            Just(Kind::Added),
            Just(Kind::Forked),
            Just(Kind::Renumbered)
        ];
        let leaves = prop_oneof![Just(Kind::Removed), Just(Kind::Freed)];
        prop_oneof![
            8 => (1..20u32, joins).prop_map(|(id, kind)| Op::Join(id, kind)),
            8 => (1..20u32, leaves).prop_map(|(id, kind)| Op::Leave(id, kind)),
            1 => Just(Op::Clear),
            8 => (1..6usize).prop_map(Op::Step),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_mirror_that_says_it_is_exact_is(
            ops in prop::collection::vec(op(), 0..200),
            begins in 0..50usize,
            kept in 1..20usize,
            nested: bool,
        ) {
            let history = vec![Vec::new()];
            let mut kernel = Kernel { kept, nested, history, ..Kernel::default() };
            let mut mirror = None;
            for (place, op) in ops.into_iter().enumerate() {
                if place == begins {
                    kernel.read = kernel.seq;
                    let state = State::new(kernel.seq);
                    mirror = Some(Stepwise { state, reading: Some(Vec::new()) });
                }
                match (op, &mut mirror) {
                    (Op::Join(id, kind), _) => kernel.join(id, kind),
                    (Op::Leave(id, kind), _) => kernel.leave(id, kind),
                    (Op::Clear, _) => kernel.clear(),
                    (Op::Step(most), Some(mirror)) => mirror.step(&mut kernel, most),
                    (Op::Step(_), None) => {}
                }
                let Some(mirror) = mirror.as_ref().filter(|mirror| mirror.state.is_exact()) else {
                    continue;
                };
                let (members, last) = (mirror.members(), mirror.state.last);
                let then = &kernel.history[usize::try_from(last).unwrap()];
                // In a namespace, who was gone when the event was read had no number any more.
                let is_right = members == *then
                    || nested && members.iter().all(|member| then.contains(member));
                prop_assert!(is_right, "{members:?}, yet at event {last}: {then:?}");
            }
            let Some(mut mirror) = mirror else { return Ok(()) };
            // Nothing changes any more: the mirror comes to rest, and is right.
            for _ in 0..100 {
                mirror.step(&mut kernel, 4);
            }
            prop_assert!(mirror.state.is_exact());
            prop_assert_eq!(mirror.members(), kernel.visible());
            prop_assert_eq!(mirror.state.lost, kernel.lost);
            prop_assert_eq!(mirror.state.repaired != 0, mirror.state.lost != 0);
        }
    }
}
