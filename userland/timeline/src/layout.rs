//! Who is drawn, and in which row.
//!
//! # Invariants
//!
//! - No two items of a row overlap.
//! - A process stands below the nearest of its ancestors that is drawn, and the rows between them
//!   hold nobody but relatives of it: each subtree has a block of rows for the time from its first
//!   start to its last end.

use crate::{Fate, Timeline};

/// What is drawn in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Nanoseconds from the start of the timeline.
    pub start_ns: u64,
    /// More than the start.
    pub end_ns: u64,
    /// From the top.
    pub row: usize,
    /// The item, drawn as well, that this one descends from.
    pub under: Option<usize>,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A process, by its index.
    Life(usize),
    /// Several that are too short to be drawn one by one.
    Short(Short),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    pub count: usize,
    pub longest_ns: u64,
    pub fate: Fate,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub items: Vec<Item>,
    pub rows: usize,
    /// Who lived shorter than this has no bar of its own.
    pub shortest_ns: u64,
}

/// How finely to draw.
#[derive(Clone, Copy, Debug)]
pub struct Grain {
    /// Length of a pixel, nanoseconds; at least 1.
    pub pixel_ns: u64,
    /// Shorter lives get no bar of their own.
    pub shortest_ns: u64,
    /// The most bars, and the most marks of short lives. There is a mark for each bar that has short
    /// children at least.
    pub most: usize,
}

/// Marks of short lives are this wide at least, pixels.
const MARK: u64 = 3;

impl Layout {
    pub fn new(timeline: &Timeline, grain: Grain) -> Self {
        let lives = timeline.lives.len();
        let length = |life| {
            let (start, end) = timeline.interval(life);
            end - start
        };
        let shortest_ns = shortest((0..lives).map(length), grain);

        let mut items: Vec<Item> = Vec::new();
        let mut item_of = vec![None; lives];
        let mut shorts = Vec::new();
        for life in 0..lives {
            let under = timeline.parent(life).and_then(|parent| item_of[parent]);
            if length(life) < shortest_ns {
                // Its children hang from whom it hangs from.
                item_of[life] = under;
                shorts.push((under, life));
                continue;
            }
            let (start_ns, end_ns) = timeline.interval(life);
            item_of[life] = Some(items.len());
            items.push(Item {
                start_ns,
                end_ns,
                row: 0,
                under,
                what: What::Life(life),
            });
        }
        items.extend(marks(timeline, shorts, shortest_ns, grain));
        let rows = assign_rows(&mut items);
        Self {
            items,
            rows,
            shortest_ns,
        }
    }
}

/// The length from which on a life gets a bar: a pixel, or more if those were too many.
fn shortest(lengths: impl Iterator<Item = u64>, grain: Grain) -> u64 {
    let least = grain.shortest_ns.max(grain.pixel_ns).max(1);
    let mut long: Vec<u64> = lengths.filter(|length| *length >= least).collect();
    if long.len() <= grain.most {
        return least;
    }
    let (_, first_too_many, _) =
        long.select_nth_unstable_by_key(grain.most, |length| std::cmp::Reverse(*length));
    *first_too_many + 1
}

/// Groups the short lives below one bar by the time of their start.
fn marks(
    timeline: &Timeline,
    mut shorts: Vec<(Option<usize>, usize)>,
    shortest_ns: u64,
    grain: Grain,
) -> Vec<Item> {
    let start = |life| timeline.interval(life).0;
    shorts.sort_by_key(|(under, life)| (*under, start(*life)));
    let mut width = grain.pixel_ns.saturating_mul(MARK).max(shortest_ns);
    loop {
        let groups = shorts.chunk_by(|a, b| a.0 == b.0 && start(a.1) / width == start(b.1) / width);
        let marks: Vec<Item> = groups
            .map(|group| {
                let lives = || group.iter().map(|(_, life)| *life);
                let length = |(start, end)| end - start;
                let first = start(group[0].1) / width * width;
                Item {
                    start_ns: first,
                    end_ns: first + width,
                    row: 0,
                    under: group[0].0,
                    what: What::Short(Short {
                        count: group.len(),
                        longest_ns: lives()
                            .map(|life| length(timeline.interval(life)))
                            .max()
                            .unwrap_or(0),
                        fate: lives()
                            .map(|life| timeline.lives[life].fate())
                            .max()
                            .unwrap_or(Fate::Unknown),
                    }),
                }
            })
            .collect();
        if marks.len() <= grain.most || width > timeline.length_ns() {
            return marks;
        }
        width *= 2;
    }
}

/// Gives every item a row; returns how many there are.
///
/// An item comes after the one it hangs from.
fn assign_rows(items: &mut [Item]) -> usize {
    struct Block {
        start_ns: u64,
        end_ns: u64,
        height: usize,
    }
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut roots = Vec::new();
    for (place, item) in items.iter().enumerate() {
        match item.under {
            Some(under) => children[under].push(place),
            None => roots.push(place),
        }
    }
    let mut blocks: Vec<Block> = items
        .iter()
        .map(|item| Block {
            start_ns: item.start_ns,
            end_ns: item.end_ns,
            height: 1,
        })
        .collect();
    // From the leaves up: a block is as large as the blocks in it, put one after the other in the
    // highest rows that are free.
    let mut offsets = vec![0; items.len()];
    let mut stack = |members: &mut [usize], blocks: &[Block]| {
        members.sort_by_key(|&member| blocks[member].start_ns);
        let mut free_from: Vec<u64> = Vec::new();
        for &member in members.iter() {
            let block = &blocks[member];
            let mut row = 0;
            while let Some(taken) = free_from
                .iter()
                .skip(row)
                .take(block.height)
                .rposition(|free| *free > block.start_ns)
            {
                row += taken + 1;
            }
            offsets[member] = row;
            free_from.resize(free_from.len().max(row + block.height), 0);
            free_from[row..row + block.height].fill(block.end_ns);
        }
        free_from.len()
    };
    for place in (0..items.len()).rev() {
        let members = &mut children[place];
        blocks[place].height += stack(members, &blocks);
        for &member in members.iter() {
            blocks[place].start_ns = blocks[place].start_ns.min(blocks[member].start_ns);
            blocks[place].end_ns = blocks[place].end_ns.max(blocks[member].end_ns);
        }
    }
    let rows = stack(&mut roots, &blocks);
    for place in 0..items.len() {
        let above = items[place].under.map_or(0, |under| items[under].row + 1);
        items[place].row = above + offsets[place];
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn layout(lives: Vec<crate::Life>, most: usize) -> Layout {
        let grain = Grain {
            pixel_ns: 2,
            shortest_ns: 0,
            most,
        };
        Layout::new(&Timeline::new("", lives, 0, 1000), grain)
    }

    #[test]
    fn siblings_share_a_row_when_they_do_not_overlap() {
        let life = samples::life;
        let lives = vec![
            life(1, None, 0, 1000),
            life(2, Some(0), 10, 400),
            life(3, Some(1), 20, 300),
            life(4, Some(0), 100, 900),
            life(5, Some(0), 400, 800),
        ];
        let rows: Vec<usize> = layout(lives, 100)
            .items
            .iter()
            .map(|item| item.row)
            .collect();
        assert_eq!(rows, [0, 1, 2, 3, 1]);
    }

    #[test]
    fn a_build_of_ten_thousand_is_as_high_as_it_is_parallel() {
        let mut lives = vec![samples::life(1, None, 0, 1_000_000)];
        for job in 0..5_000 {
            let (lane, turn) = (job % 8, job / 8);
            let start = turn * 1_600 + lane * 10;
            lives.push(samples::life(2 + job as u32, Some(0), start, start + 1_500));
            let shell = lives.len() - 1;
            lives.push(samples::life(
                9_000 + job as u32,
                Some(shell),
                start + 5,
                start + 1_400,
            ));
        }
        let timeline = Timeline::new("", lives, 0, 1_000_000);
        let grain = Grain {
            pixel_ns: 1_000,
            shortest_ns: 0,
            most: 20_000,
        };
        let layout = Layout::new(&timeline, grain);
        assert_eq!(layout.items.len(), 10_001);
        assert_eq!(layout.rows, 1 + 8 * 2);
    }

    #[test]
    fn children_of_the_short_hang_from_their_grandparents() {
        let life = samples::life;
        let lives = vec![
            life(1, None, 0, 1000),
            life(2, Some(0), 10, 11),
            life(3, Some(1), 11, 500),
        ];
        let layout = layout(lives, 100);
        assert_eq!(layout.items[1].what, What::Life(2));
        assert_eq!(layout.items[1].under, Some(0));
        assert!(matches!(layout.items[2].what, What::Short(short) if short.count == 1));
    }

    #[test]
    fn twenty_thousand_equals_are_bounded() {
        let lives = (0..20_000).map(|pid| samples::life(pid, None, 1, 900));
        let layout = layout(lives.collect(), 500);
        assert_eq!(layout.shortest_ns, 900);
        assert_eq!(layout.items.len(), 1);
        assert!(matches!(layout.items[0].what, What::Short(short) if short.count == 20_000));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nothing_overlaps(lives in samples::lives(), most in 1..60_usize) {
            let timeline = Timeline::new("", lives.clone(), 0, 1000);
            let layout = layout(lives, most);
            let mut by_row: Vec<&Item> = layout.items.iter().collect();
            by_row.sort_by_key(|item| (item.row, item.start_ns));
            for pair in by_row.windows(2) {
                prop_assert!(
                    pair[0].row != pair[1].row || pair[0].end_ns <= pair[1].start_ns,
                    "{pair:?}"
                );
            }
            let mut bars = 0;
            let mut short = 0;
            for item in &layout.items {
                prop_assert!(item.row < layout.rows && item.start_ns < item.end_ns);
                match item.what {
                    What::Life(life) => {
                        bars += 1;
                        prop_assert_eq!((item.start_ns, item.end_ns), timeline.interval(life));
                        prop_assert!(item.end_ns - item.start_ns >= layout.shortest_ns);
                    }
                    What::Short(mark) => {
                        short += mark.count;
                        prop_assert!(mark.longest_ns < layout.shortest_ns);
                    }
                }
                if let Some(under) = item.under {
                    prop_assert!(matches!(layout.items[under].what, What::Life(_)));
                    prop_assert!(layout.items[under].row < item.row);
                }
            }
            prop_assert!(bars <= most);
            prop_assert_eq!(bars + short, timeline.lives().len());
        }
    }
}
