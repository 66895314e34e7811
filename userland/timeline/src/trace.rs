//! A [`Timeline`] in the Trace Event Format, which Perfetto and `chrome://tracing` open.
//!
//! Perfetto nests the slices of a track by time. So a child is put on its parent's track if it lived
//! within its parent and no sibling is there at the same time, and else on the first track that is
//! free: `make -j8` has eight of them, each with its shells, and compilers below those.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde::Serialize;

use crate::{How, Life, Timeline};

/// The document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace<'a> {
    trace_events: Vec<Event<'a>>,
    display_time_unit: &'static str,
    other_data: Other<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct Other<'a> {
    title: &'a str,
    processes: usize,
}

/// Times are microseconds from the start, with nanoseconds as decimals.
#[derive(Clone, Debug, Serialize)]
struct Event<'a> {
    ph: Phase,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    /// The process at the head of the tree.
    pid: u32,
    /// The track.
    tid: usize,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    /// Of the two ends of an arrow.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    /// Where it belongs, where that is not implied: `e` the slice around it, `t` its track.
    #[serde(flatten)]
    bind: Option<Bind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Args<'a>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
enum Phase {
    #[serde(rename = "X")]
    Complete,
    #[serde(rename = "i")]
    Instant,
    #[serde(rename = "C")]
    Counter,
    #[serde(rename = "M")]
    Metadata,
    #[serde(rename = "s")]
    FlowStart,
    #[serde(rename = "f")]
    FlowEnd,
}

#[derive(Clone, Copy, Debug, Serialize)]
enum Bind {
    #[serde(rename = "bp")]
    Flow(&'static str),
    #[serde(rename = "s")]
    Instant(&'static str),
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Args<'a> {
    Life {
        pid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<u32>,
        command: &'a str,
        /// `alive`, `exited`, `killed`, `unknown`.
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<&'a str>,
        uid: u32,
        cpu_ms: f64,
    },
    Name {
        name: &'a str,
    },
    Order {
        sort_index: usize,
    },
    Alive {
        alive: u64,
    },
}

impl Timeline {
    /// Writes it as a trace. Nothing is left out.
    #[must_use]
    pub fn trace(&self) -> Trace<'_> {
        let places = self.places();
        let mut events = self.names(&places);
        for (index, life) in self.lives.iter().enumerate() {
            let (start, end) = self.interval(index);
            let place = places[index];
            let at = |ph, name, ts| Event {
                ph,
                name,
                cat: None,
                pid: place.head,
                tid: place.track,
                ts: microseconds(ts),
                dur: None,
                id: None,
                bind: None,
                args: None,
            };
            let parent = self.parent(index);
            events.push(Event {
                cat: Some("process"),
                dur: Some(microseconds(end - start)),
                args: Some(args(life, parent.map(|parent| self.lives[parent].pid))),
                ..at(Phase::Complete, &life.name, start)
            });
            for exec in &life.execs {
                let ts = exec.at_ns.clamp(self.from_ns, self.to_ns) - self.from_ns;
                events.push(Event {
                    cat: Some("exec"),
                    bind: Some(Bind::Instant("t")),
                    ..at(Phase::Instant, &exec.name, ts)
                });
            }
            // On a track of its own, an arrow tells whose child it is.
            if let Some(parent) = parent.filter(|parent| places[*parent].track != place.track) {
                let arrow = |ph, bind| Event {
                    cat: Some("fork"),
                    id: Some(index),
                    bind,
                    ..at(ph, "fork", start)
                };
                events.push(Event {
                    tid: places[parent].track,
                    ..arrow(Phase::FlowStart, None)
                });
                events.push(arrow(Phase::FlowEnd, Some(Bind::Flow("e"))));
            }
        }
        for (ns, alive) in self.parallelism().steps() {
            events.push(Event {
                ph: Phase::Counter,
                name: "processes alive",
                cat: None,
                pid: places.first().map_or(0, |place| place.head),
                tid: 0,
                ts: microseconds(*ns),
                dur: None,
                id: None,
                bind: None,
                args: Some(Args::Alive { alive: *alive }),
            });
        }
        Trace {
            trace_events: events,
            display_time_unit: "ms",
            other_data: Other {
                title: &self.title,
                processes: self.lives.len(),
            },
        }
    }

    /// Names for the heads of trees and for their tracks.
    fn names(&self, places: &[Place]) -> Vec<Event<'_>> {
        let mut events = Vec::new();
        let mut named = BTreeSet::new();
        for (index, place) in places.iter().enumerate() {
            let mut name = |name, tid, args| {
                events.push(Event {
                    ph: Phase::Metadata,
                    name,
                    cat: None,
                    pid: place.head,
                    tid,
                    ts: 0.0,
                    dur: None,
                    id: None,
                    bind: None,
                    args: Some(args),
                });
            };
            if self.parent(index).is_none() {
                let command = &self.lives[index].command;
                name("process_name", 0, Args::Name { name: command });
            }
            if named.insert((place.head, place.track)) {
                let (track, sort_index) = (place.track, place.track);
                name("thread_name", track, Args::Name { name: "processes" });
                name("thread_sort_index", track, Args::Order { sort_index });
            }
        }
        events
    }

    /// Where each life is shown.
    fn places(&self) -> Vec<Place> {
        let mut order: Vec<usize> = (0..self.lives.len()).collect();
        // A parent comes before the children that are as old as it.
        order.sort_by_key(|&life| self.interval(life).0);
        let mut heads: Vec<u32> = Vec::with_capacity(self.lives.len());
        for (index, life) in self.lives.iter().enumerate() {
            heads.push(self.parent(index).map_or(life.pid, |parent| heads[parent]));
        }
        let mut trees: HashMap<u32, Tracks> = HashMap::new();
        let mut places: Vec<Option<Place>> = vec![None; self.lives.len()];
        for index in order {
            let (start, end) = self.interval(index);
            let tracks = trees.entry(heads[index]).or_default();
            let parent = self.parent(index);
            let parents = parent.and_then(|parent| Some((parent, places[parent]?.track)));
            let track = parents
                .and_then(|(parent, track)| tracks.nest(track, parent, index, (start, end)))
                .unwrap_or_else(|| tracks.open(index, (start, end)));
            places[index] = Some(Place {
                head: heads[index],
                track,
            });
        }
        places.into_iter().flatten().collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    head: u32,
    track: usize,
}

/// The tracks of one tree.
#[derive(Debug, Default)]
struct Tracks {
    /// Of each, the slices that are open, one within the other: whose, and until when.
    open: Vec<Vec<(usize, u64)>>,
    /// The tracks in use, the first to be free first.
    busy: BinaryHeap<Reverse<(u64, usize)>>,
    free: BTreeSet<usize>,
}

impl Tracks {
    /// Puts a slice within that of its parent, if nobody else is there.
    fn nest(
        &mut self,
        track: usize,
        parent: usize,
        life: usize,
        (start, end): (u64, u64),
    ) -> Option<usize> {
        let open = &mut self.open[track];
        while open.pop_if(|(_, until)| *until <= start).is_some() {}
        let &(last, until) = open.last()?;
        if last != parent || end > until {
            return None;
        }
        open.push((life, end));
        Some(track)
    }

    /// Puts a slice on a track that is free.
    fn open(&mut self, life: usize, (start, end): (u64, u64)) -> usize {
        while let Some(&Reverse((until, track))) = self.busy.peek()
            && until <= start
        {
            self.busy.pop();
            self.free.insert(track);
        }
        let track = self.free.pop_first().unwrap_or_else(|| {
            self.open.push(Vec::new());
            self.open.len() - 1
        });
        self.open[track] = vec![(life, end)];
        self.busy.push(Reverse((end, track)));
        track
    }
}

fn args(life: &Life, parent: Option<u32>) -> Args<'_> {
    let how = life.end.as_ref().map(|end| &end.how);
    Args::Life {
        pid: life.pid,
        parent,
        command: &life.command,
        state: match how {
            None => "alive",
            Some(How::Code(_)) => "exited",
            Some(How::Signal(_)) => "killed",
            Some(How::Unknown) => "unknown",
        },
        exit_code: match how {
            Some(How::Code(code)) => Some(*code),
            _ => None,
        },
        signal: match how {
            Some(How::Signal(name)) => Some(name),
            _ => None,
        },
        uid: life.uid,
        cpu_ms: life.cpu_ns as f64 / 1e6,
    }
}

fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn tracks(lives: Vec<Life>) -> Vec<usize> {
        let timeline = Timeline::new("", lives, 0, 1000);
        timeline.places().iter().map(|place| place.track).collect()
    }

    #[test]
    fn a_child_is_nested_unless_a_sibling_is_there() {
        let life = samples::life;
        let lives = vec![
            life(1, None, 0, 1000),
            life(2, Some(0), 10, 400),
            life(3, Some(1), 20, 300),
            life(4, Some(0), 100, 900),
            life(5, Some(3), 150, 200),
            life(6, Some(0), 400, 800),
        ];
        assert_eq!(tracks(lives), [0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn an_orphan_does_not_stick_out_of_its_parent() {
        let life = samples::life;
        let lives = vec![
            life(1, None, 0, 100),
            life(2, Some(0), 50, 200),
            life(3, None, 200, 300),
        ];
        assert_eq!(tracks(lives), [0, 1, 0]);
    }

    #[test]
    fn it_reads_as_perfetto_expects() {
        let mut lives = vec![
            samples::life(7, None, 1_000, 9_500),
            samples::life(8, Some(0), 2_000, 3_000),
        ];
        lives[1].end = None;
        lives[1].execs.push(crate::Exec {
            at_ns: 2_500,
            name: "cc".into(),
        });
        let timeline = Timeline::new("make", lives, 1_000, 10_000);
        let json = serde_json::to_value(timeline.trace()).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let of = |ph: &'static str| events.iter().filter(move |event| event["ph"] == ph);
        let slices: Vec<_> = of("X").collect();
        assert_eq!(slices[0]["ts"], 0.0);
        assert_eq!(slices[0]["dur"], 8.5);
        assert_eq!(slices[0]["args"]["exit_code"], 0);
        assert_eq!(slices[1]["pid"], 7, "the head of the tree");
        assert_eq!(slices[1]["args"]["state"], "alive");
        assert_eq!(slices[1]["args"]["parent"], 7);
        assert_eq!(of("i").next().unwrap()["ts"], 1.5);
        let ends: Vec<_> = of("s")
            .chain(of("f"))
            .map(|end| (&end["ts"], &end["id"]))
            .collect();
        assert_eq!(ends[0], ends[1]);
        assert_eq!(of("f").next().unwrap()["bp"], "e");
        assert_eq!(
            of("C").map(|event| event["args"]["alive"].as_u64()).max(),
            Some(Some(2))
        );
    }

    proptest! {
        #[test]
        fn slices_of_a_track_nest(lives in samples::lives()) {
            let timeline = Timeline::new("", lives, 0, 1000);
            let places = timeline.places();
            prop_assert_eq!(places.len(), timeline.lives().len());
            for a in 0..places.len() {
                for b in 0..a {
                    if (places[a].head, places[a].track) != (places[b].head, places[b].track) {
                        continue;
                    }
                    let ((a_start, a_end), (b_start, b_end)) = (timeline.interval(a), timeline.interval(b));
                    let apart = a_end <= b_start || b_end <= a_start;
                    let within = a_start >= b_start && a_end <= b_end || b_start >= a_start && b_end <= a_end;
                    prop_assert!(apart || within);
                }
            }
        }
    }
}
