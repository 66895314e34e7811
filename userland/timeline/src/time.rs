//! Time as people write it.

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Three digits and a unit.
pub fn span(ns: u64) -> String {
    let (unit, name) = match ns {
        0..MICROSECOND => return format!("{ns} ns"),
        MICROSECOND..MILLISECOND => (MICROSECOND, "µs"),
        MILLISECOND..SECOND => (MILLISECOND, "ms"),
        SECOND..MINUTE => (SECOND, "s"),
        _ => return compound(ns),
    };
    let value = ns as f64 / unit as f64;
    let digits = match ns / unit {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("{} {name}", trimmed(value, digits))
}

/// Where to draw the lines of an axis of that length, about `most` of them: their distance.
pub fn step(length_ns: u64, most: u64) -> u64 {
    let least = length_ns.div_ceil(most.max(1));
    let round = std::iter::successors(Some(1_u64), |decade| decade.checked_mul(10))
        .take_while(|decade| *decade <= SECOND)
        .flat_map(|decade| [decade, 2 * decade, 5 * decade])
        .take_while(|step| *step <= 5 * SECOND);
    let clock = [10, 15, 30].map(|seconds| seconds * SECOND);
    let clock = clock
        .into_iter()
        .chain([1, 2, 5, 10, 15, 30].map(|minutes| minutes * MINUTE))
        .chain([1, 2, 6, 12].map(|hours| hours * HOUR));
    let step = round.chain(clock).find(|step| *step >= least);
    step.unwrap_or_else(|| least.div_ceil(DAY) * DAY)
}

/// A moment on an axis with lines that far apart, in the unit that suits its length.
pub fn tick(ns: u64, step_ns: u64, length_ns: u64) -> String {
    let (unit, name) = match length_ns {
        _ if ns == 0 => return "0".into(),
        ..MICROSECOND => (1, "ns"),
        MICROSECOND..MILLISECOND => (MICROSECOND, "µs"),
        MILLISECOND..SECOND => (MILLISECOND, "ms"),
        _ if ns < MINUTE => (SECOND, "s"),
        _ => return compound(ns),
    };
    let mut digits = 0;
    while !(step_ns * 10_u64.pow(digits)).is_multiple_of(unit) {
        digits += 1;
    }
    format!("{:.*} {name}", digits as usize, ns as f64 / unit as f64)
}

/// The two largest units.
fn compound(ns: u64) -> String {
    let two = |large: u64, small: u64, names: [&str; 2]| match ns % large / small {
        0 => format!("{} {}", ns / large, names[0]),
        rest => format!("{} {} {rest} {}", ns / large, names[0], names[1]),
    };
    match ns {
        0..HOUR => two(MINUTE, SECOND, ["min", "s"]),
        HOUR..DAY => two(HOUR, MINUTE, ["h", "min"]),
        _ => two(DAY, HOUR, ["d", "h"]),
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if digits == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (1_500, "1.5 µs"),
            (12_340_000, "12.3 ms"),
            (350_000_000, "350 ms"),
            (2_000_000_000, "2 s"),
            (61_000_000_000, "1 min 1 s"),
            (7_200_000_000_000, "2 h"),
            (90_000_000_000_000, "1 d 1 h"),
        ];
        for (ns, wanted) in cases {
            assert_eq!(span(ns), wanted);
        }
    }

    #[test]
    fn an_axis_of_any_length_has_round_lines() {
        for (length, wanted, last) in [
            (7, 1, "7 ns"),
            (1_234_567, 200_000, "1.2 ms"),
            (12_300_000_000, 2_000_000_000, "12 s"),
            (75 * SECOND, 10 * SECOND, "1 min 10 s"),
            (30 * DAY, 3 * DAY, "30 d"),
        ] {
            let step = step(length, 10);
            assert_eq!(step, wanted, "{length}");
            assert_eq!(tick(length / step * step, step, length), last);
        }
        assert_eq!(tick(1_500_000_000, 500_000_000, 3 * SECOND), "1.5 s");
        for length in (0..64).map(|bit| 1_u64 << bit) {
            assert!(length / step(length, 10) <= 10, "{length}");
        }
    }
}
