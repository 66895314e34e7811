//! How many lived at a time.

/// A step function of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parallelism {
    /// From when on, nanoseconds from the start of the timeline, how many; times ascend.
    steps: Vec<(u64, u64)>,
    lived_ns: u128,
}

impl Parallelism {
    pub(crate) fn new(intervals: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut changes = Vec::new();
        let mut lived_ns = 0;
        for (start, end) in intervals {
            // Whoever lived less than a tick of the clock still lived.
            changes.push((start, 1));
            changes.push((end.max(start + 1), -1));
            lived_ns += u128::from(end - start);
        }
        // An end sorts before a start at the same time: those two did not live at the same time.
        changes.sort_unstable();
        let mut steps: Vec<(u64, u64)> = Vec::new();
        let mut alive = 0_u64;
        for (time, change) in changes {
            alive = alive.strict_add_signed(change);
            match steps.last_mut() {
                Some((last, count)) if *last == time => *count = alive,
                _ => steps.push((time, alive)),
            }
        }
        Self { steps, lived_ns }
    }

    /// The most that lived at a time.
    #[must_use]
    pub fn most(&self) -> u64 {
        let counts = self.steps.iter().map(|(_, count)| *count);
        counts.max().unwrap_or(0)
    }

    /// How many lived at a time, on average over `length_ns`.
    #[must_use]
    pub fn mean(&self, length_ns: u64) -> f64 {
        self.lived_ns as f64 / length_ns.max(1) as f64
    }

    pub(crate) fn steps(&self) -> &[(u64, u64)] {
        &self.steps
    }

    /// Mean and maximum in each of `count` equal parts of `length_ns`.
    pub(crate) fn parts(&self, length_ns: u64, count: usize) -> Vec<(f64, u64)> {
        let width = length_ns as f64 / count as f64;
        let mut parts = vec![(0.0, 0); count];
        let ends = self.steps.iter().skip(1).map(|(time, _)| *time);
        for (&(start, alive), end) in self.steps.iter().zip(ends.chain([length_ns])) {
            let end = end.min(length_ns);
            let place = |ns: u64| ((ns as f64 / width) as usize).min(count - 1);
            if start >= end {
                continue;
            }
            for (part, (mean, most)) in parts
                .iter_mut()
                .enumerate()
                .take(place(end) + 1)
                .skip(place(start))
            {
                let (left, right) = (part as f64 * width, (part + 1) as f64 * width);
                let overlap = right.min(end as f64) - left.max(start as f64);
                if overlap > 0.0 {
                    *mean += alive as f64 * overlap / width;
                    *most = alive.max(*most);
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_those_that_live_at_the_same_time() {
        let lives = Parallelism::new([(0, 10), (2, 6), (6, 8), (9, 9)].into_iter());
        assert_eq!(
            lives.steps(),
            [(0, 1), (2, 2), (6, 2), (8, 1), (9, 2), (10, 0)]
        );
        assert_eq!(lives.most(), 2);
        assert_eq!(lives.mean(10), 1.6);
    }

    #[test]
    fn parts_keep_the_mean_and_the_maximum() {
        let lives = Parallelism::new([(0, 8), (1, 5), (4, 6)].into_iter());
        assert_eq!(lives.parts(8, 2), [(1.75, 2), (1.75, 3)]);
        assert_eq!(lives.parts(8, 1), [(1.75, 3)]);
        let many = lives.parts(8, 1000);
        let mean = many.iter().map(|(mean, _)| mean).sum::<f64>() / 1000.0;
        assert!((mean - 1.75).abs() < 1e-9, "{mean}");
        assert_eq!(Parallelism::default().parts(10, 2), [(0.0, 0); 2]);
    }
}
