//! What a client knows of a list by its events.

use std::collections::{BTreeSet, VecDeque};

use anyhow::{Result, ensure};
use pidlist_abi::pidset as abi;

use crate::sys::device::{Device, Events};

/// A list's members: a snapshot, and all events since.
pub struct Mirror {
    events: Events,
    unapplied: VecDeque<abi::Event>,
    ids: BTreeSet<u32>,
    /// The last event that was applied.
    seq: u64,
    time_ns: u64,
    /// Events that were missed.
    lost: u64,
    /// Events that were applied.
    pub applied: u64,
}

impl Mirror {
    pub fn new(list: &Device) -> Result<Self> {
        let events = list.events(0)?.nonblocking()?;
        Ok(Self {
            ids: list.ids()?.into_keys().collect(),
            // Those from now on: the first one tells where that is.
            seq: 0,
            events,
            unapplied: VecDeque::new(),
            time_ns: 0,
            lost: 0,
            applied: 0,
        })
    }

    /// Reads all there is, and takes a new snapshot, as a loss demands; returns how many were lost.
    pub fn repair(&mut self, list: &Device) -> Result<u64> {
        self.apply(u64::MAX)?;
        self.ids = list.ids()?.into_keys().collect();
        Ok(std::mem::take(&mut self.lost))
    }

    /// Applies what there is, up to event `last`.
    fn apply(&mut self, last: u64) -> Result<()> {
        self.unapplied.extend(self.events.ready()?);
        while let Some(event) = self.unapplied.pop_front_if(|event| event.seq <= last) {
            ensure!(
                self.seq == 0 || event.seq == self.seq + 1 + u64::from(event.lost),
                "after event {} came {event:?}",
                self.seq
            );
            ensure!(
                event.time_ns >= self.time_ns,
                "time ran backwards to {event:?}"
            );
            ensure!(
                event.pid == event.id,
                "two numbers in one namespace: {event:?}"
            );
            match event.kind {
                abi::EVENT_ADDED | abi::EVENT_FORKED | abi::EVENT_RENUMBERED => {
                    self.ids.insert(event.id);
                }
                abi::EVENT_REMOVED | abi::EVENT_FREED => {
                    self.ids.remove(&event.id);
                }
                abi::EVENT_CLEARED => {
                    ensure!(event.id == 0, "{event:?}");
                    self.ids.clear();
                }
                _ => ensure!(false, "an event of no kind: {event:?}"),
            }
            self.seq = event.seq;
            self.time_ns = event.time_ns;
            self.lost += u64::from(event.lost);
            self.applied += 1;
        }
        Ok(())
    }

    /// Fails unless this is what the list holds: both are taken at one and the same event, while the
    /// list may go on changing.
    pub fn equals(&mut self, list: &Device) -> Result<()> {
        let (ids, last) = loop {
            let before = list.stats()?.events;
            let ids: BTreeSet<u32> = list.ids()?.into_keys().collect();
            if list.stats()?.events == before {
                break (ids, before);
            }
            // So that the reader keeps up with a storm that leaves us no pause for long.
            self.unapplied.extend(self.events.ready()?);
        };
        self.apply(last)?;
        ensure!(self.lost == 0, "{} events were lost", self.lost);
        self.is(&ids)
    }

    fn is(&self, ids: &BTreeSet<u32>) -> Result<()> {
        let odd: Vec<_> = self.ids.symmetric_difference(ids).collect();
        ensure!(
            odd.is_empty(),
            "after event {}, the mirror and the list differ by {odd:?}",
            self.seq
        );
        Ok(())
    }
}
