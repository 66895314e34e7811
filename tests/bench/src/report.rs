//! What was measured: a table for people, and a file of JSON for programs.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use crate::measure::{Samples, median};

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The lower: a time, a size.
    Lower,
    /// The higher: a rate.
    Higher,
}

/// What a figure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure<'a> {
    /// The area, and what of it: `area.what`.
    pub name: &'a str,
    /// `ns` and `bytes` are shown to people in larger units, others as they are.
    pub unit: &'a str,
    /// Which one is better.
    pub better: Better,
}

/// What a row has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Of what.
    pub of: BoundOf,
    /// How much of it there may be, or has to be.
    #[serde(flatten)]
    pub limit: Limit,
}

/// Which side of a figure is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So much, or less.
    AtMost(f64),
    /// So much, or more.
    AtLeast(f64),
}

/// What of a row is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoundOf {
    /// [`Row::ratio`].
    Ratio,
    /// [`Row::ours`].
    Ours,
}

impl Bound {
    /// The ratio is no higher.
    #[must_use]
    pub const fn ratio(at_most: f64) -> Self {
        Self {
            of: BoundOf::Ratio,
            limit: Limit::AtMost(at_most),
        }
    }

    /// The ratio is no lower.
    #[must_use]
    pub const fn ratio_at_least(at_least: f64) -> Self {
        Self {
            of: BoundOf::Ratio,
            limit: Limit::AtLeast(at_least),
        }
    }

    /// Our figure is no higher.
    #[must_use]
    pub const fn ours(at_most: f64) -> Self {
        Self {
            of: BoundOf::Ours,
            limit: Limit::AtMost(at_most),
        }
    }

    /// Our figure is no lower.
    #[must_use]
    pub const fn ours_at_least(at_least: f64) -> Self {
        Self {
            of: BoundOf::Ours,
            limit: Limit::AtLeast(at_least),
        }
    }
}

/// Whether a row keeps to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does.
    Within,
    /// It does not.
    Beyond,
}

/// One figure. A name may stand for several rows, if it is measured against several things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The area, and what of it: `area.what`.
    pub name: String,
    /// Of `ours` and `baseline`.
    pub unit: String,
    /// Median of all rounds.
    pub ours: f64,
    /// Median of all rounds; none for a figure that has nothing to be compared with.
    pub baseline: Option<f64>,
    /// What the baseline is.
    pub against: Option<String>,
    /// `ours / baseline`; none too where that is no number, as when the baseline is 0.
    pub ratio: Option<f64>,
    /// Which one is better.
    pub better: Better,
    /// Rounds.
    pub runs: usize,
    /// What it has to keep to, where there is something.
    pub bound: Option<Bound>,
    /// Whether it does.
    pub verdict: Option<Verdict>,
}

impl Row {
    /// Two sides compared.
    ///
    /// # Errors
    ///
    /// There are no samples.
    pub fn compared(figure: Figure<'_>, against: &str, samples: &Samples) -> anyhow::Result<Self> {
        let alone = Self::alone(figure, &samples.ours)?;
        let baseline = median(&samples.baseline)
            .with_context(|| format!("{}: the baseline was not measured", figure.name))?;
        let ratio = alone.ours / baseline;
        Ok(Self {
            baseline: Some(baseline),
            against: Some(against.to_owned()),
            ratio: ratio.is_finite().then_some(ratio),
            ..alone
        })
    }

    /// A figure with nothing to compare it with.
    ///
    /// # Errors
    ///
    /// There are no samples.
    pub fn alone(figure: Figure<'_>, samples: &[f64]) -> anyhow::Result<Self> {
        let Figure { name, unit, better } = figure;
        Ok(Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            ours: median(samples).with_context(|| format!("{name} was not measured"))?,
            baseline: None,
            against: None,
            ratio: None,
            better,
            runs: samples.len(),
            bound: None,
            verdict: None,
        })
    }

    /// Holds it against `bound`. A ratio that is no number keeps to none.
    #[must_use]
    pub fn bound(self, bound: Bound) -> Self {
        let figure = match bound.of {
            BoundOf::Ratio => self.ratio,
            BoundOf::Ours => Some(self.ours),
        };
        let within = figure.is_some_and(|figure| match bound.limit {
            Limit::AtMost(most) => figure <= most,
            Limit::AtLeast(least) => figure >= least,
        });
        Self {
            bound: Some(bound),
            verdict: Some(if within {
                Verdict::Within
            } else {
                Verdict::Beyond
            }),
            ..self
        }
    }

    /// Whether it has a bound and does not keep to it.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.verdict == Some(Verdict::Beyond)
    }

    /// The bound, for people.
    fn bound_in_words(&self) -> String {
        let Some(Bound { of, limit }) = self.bound else {
            return String::new();
        };
        let keeps = if self.is_beyond() { "BEYOND" } else { "within" };
        let (least, limit) = match limit {
            Limit::AtMost(most) => ("", most),
            Limit::AtLeast(least) => ("≥ ", least),
        };
        match of {
            BoundOf::Ratio => format!("{keeps} {least}{limit}"),
            BoundOf::Ours => format!("{keeps} {least}{}", quantity(limit, &self.unit)),
        }
    }

    /// The ratio in words.
    fn in_words(&self) -> String {
        let Some(ratio) = self.ratio.filter(|ratio| *ratio > 0.0) else {
            return String::new();
        };
        let factor = match self.better {
            Better::Lower => 1.0 / ratio,
            Better::Higher => ratio,
        };
        // As shown, so that nothing is "1.0x better".
        if (0.95..1.05).contains(&factor) {
            "the same".to_owned()
        } else if factor > 1.0 {
            format!("{}x better", digits(factor))
        } else {
            format!("{}x worse", digits(1.0 / factor))
        }
    }
}

/// What is measured of one area.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many rounds to measure, unless there is a reason for another number.
    pub rounds: usize,
    /// How the names of all rows begin that are wanted; empty if all are.
    only: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(rounds: usize) -> Self {
        Self {
            rounds,
            only: String::new(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One for rows whose names begin so, as far as they can be measured without others.
    #[must_use]
    pub fn only(self, only: &str) -> Self {
        Self {
            only: only.to_owned(),
            ..self
        }
    }

    /// Whether rows are wanted whose names begin with `name`.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.only) || self.only.starts_with(name)
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Says what a reader of the table should know. It is not in the JSON.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says that something could not be measured here.
    pub fn skip(&mut self, name: &str, reason: &dyn std::error::Error) {
        let mut text = format!("{name} is SKIPPED: {reason}");
        let mut cause = reason.source();
        while let Some(error) = cause {
            // Some errors show their cause themselves.
            let cause_text = error.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            cause = error.source();
        }
        self.note(text);
    }

    /// The rows so far.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Prints it for people.
    ///
    /// # Errors
    ///
    /// `out` takes no more.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.rows.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            if io::stdout().is_terminal() {
                table.set_content_arrangement(ContentArrangement::Dynamic);
            }
            table.set_header([
                "NAME", "OURS", "BASELINE", "RATIO", "", "BOUND", "AGAINST", "RUNS",
            ]);
            for row in &self.rows {
                table.add_row([
                    row.name.clone(),
                    quantity(row.ours, &row.unit),
                    row.baseline
                        .map_or_else(String::new, |figure| quantity(figure, &row.unit)),
                    row.ratio.map_or_else(String::new, digits),
                    row.in_words(),
                    row.bound_in_words(),
                    row.against.clone().unwrap_or_default(),
                    row.runs.to_string(),
                ]);
            }
            for column in [1, 2, 3, 7] {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            for line in table.lines() {
                writeln!(out, "{}", line.trim_end())?;
            }
        }
        for note in &self.notes {
            writeln!(out, "  - {note}")?;
        }
        Ok(())
    }

    /// Leaves the rows in `directory`, as `<area>.json`: also if there is none, so that no earlier
    /// figures are taken for these.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, or the file not written.
    pub fn save(&self, directory: &Path, area: &str) -> anyhow::Result<PathBuf> {
        let path = directory.join(format!("{area}.json"));
        let mut json = serde_json::to_string_pretty(&self.rows)?;
        json.push('\n');
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, json))
            .with_context(|| {
                format!(
                    "cannot write {}; choose another directory with --dir",
                    path.display()
                )
            })?;
        Ok(path)
    }
}

/// A figure with its unit, for people.
fn quantity(figure: f64, unit: &str) -> String {
    let steps: &[(&str, f64)] = match unit {
        "ns" => &[("ns", 1e3), ("µs", 1e3), ("ms", 1e3), ("s", f64::INFINITY)],
        "bytes" => &[
            ("B", 1024.0),
            ("KiB", 1024.0),
            ("MiB", 1024.0),
            ("GiB", f64::INFINITY),
        ],
        _ => return format!("{} {unit}", digits(figure)),
    };
    let mut figure = figure;
    for (unit, step) in steps {
        if figure < *step {
            return format!("{} {unit}", digits(figure));
        }
        figure /= step;
    }
    unreachable!("the last step is infinite")
}

/// Three significant digits, all those before the point, and no zeros at the end behind it.
fn digits(figure: f64) -> String {
    if figure == 0.0 || !figure.is_finite() {
        return figure.to_string();
    }
    let magnitude = figure.abs().log10().floor() as i32;
    let decimals = usize::try_from(2 - magnitude).unwrap_or(0);
    let text = format!("{figure:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Figure<'_> = Figure {
        name: "area.time",
        unit: "ns",
        better: Better::Lower,
    };
    const RATE: Figure<'_> = Figure {
        name: "area.rate",
        unit: "events/s",
        better: Better::Higher,
    };

    fn samples(ours: &[f64], baseline: &[f64]) -> Samples {
        Samples {
            ours: ours.to_vec(),
            baseline: baseline.to_vec(),
        }
    }

    #[test]
    fn rows_are_wanted_by_how_their_names_begin() {
        let wanted = |only: &str| {
            let report = Report::new(1).only(only);
            ["a", "a.b", "a.b.c", "a.d"].map(|name| report.wants(name))
        };
        assert_eq!(wanted(""), [true; 4]);
        assert_eq!(wanted("a.b"), [true, true, true, false]);
        assert_eq!(wanted("x"), [false; 4]);
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        // The median of the rounds' ratios would be 0.1.
        let both = samples(&[1.0, 2.0, 9.0], &[10.0, 4.0, 90.0]);
        let row = Row::compared(TIME, "theirs", &both).unwrap();
        assert_eq!((row.ours, row.baseline), (2.0, Some(10.0)));
        assert_eq!((row.ratio, row.runs), (Some(0.2), 3));
        assert_eq!(row.in_words(), "5x better");
        let row = Row::compared(RATE, "theirs", &both).unwrap();
        assert_eq!(row.in_words(), "5x worse");
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        let row = Row::compared(TIME, "theirs", &samples(&[0.0], &[0.0])).unwrap();
        assert_eq!((row.baseline, row.ratio), (Some(0.0), None));
        let row = Row::compared(TIME, "theirs", &samples(&[1.0], &[0.0])).unwrap();
        assert_eq!(row.ratio, None);
        let row = Row::compared(TIME, "theirs", &samples(&[0.0], &[1.0])).unwrap();
        assert_eq!((row.ratio, row.in_words().as_str()), (Some(0.0), ""));
        let error = Row::compared(TIME, "theirs", &samples(&[1.0], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "area.time: the baseline was not measured"
        );
        assert!(Row::alone(TIME, &[]).is_err());
    }

    #[test]
    fn a_bound_is_kept_to_or_not() {
        let row = Row::compared(TIME, "theirs", &samples(&[3.0], &[6.0])).unwrap();
        for (bound, beyond, words) in [
            (Bound::ratio(0.5), false, "within 0.5"),
            (Bound::ratio(0.49), true, "BEYOND 0.49"),
            (Bound::ours(3.0), false, "within 3 ns"),
            (Bound::ours(0.0), true, "BEYOND 0 ns"),
            (Bound::ratio_at_least(0.5), false, "within ≥ 0.5"),
            (Bound::ours_at_least(3.5), true, "BEYOND ≥ 3.5 ns"),
        ] {
            let row = row.clone().bound(bound);
            assert_eq!(
                (row.is_beyond(), row.bound_in_words().as_str()),
                (beyond, words)
            );
        }
        assert!(!row.is_beyond() && row.bound_in_words().is_empty());
        // Nothing to compare with is nothing to be proud of.
        let row = Row::compared(TIME, "theirs", &samples(&[0.0], &[0.0])).unwrap();
        assert!(row.bound(Bound::ratio(1.0)).is_beyond());
    }

    #[test]
    fn json_has_each_field_in_each_row() {
        let mut report = Report::new(1);
        let row = Row::compared(TIME, "theirs", &samples(&[1.5], &[3.0])).unwrap();
        report.push(row.bound(Bound::ratio(0.4)));
        report.push(Row::alone(RATE, &[7.0, 8.0]).unwrap());
        report.note("not in there");
        let directory = tempfile::tempdir().unwrap();
        let path = report.save(&directory.path().join("new"), "area").unwrap();
        assert!(path.ends_with("new/area.json"));
        let text = fs::read_to_string(&path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {
                    "name": "area.time", "unit": "ns", "ours": 1.5, "baseline": 3.0,
                    "against": "theirs", "ratio": 0.5, "better": "lower", "runs": 1,
                    "bound": {"of": "ratio", "at_most": 0.4}, "verdict": "beyond"
                },
                {
                    "name": "area.rate", "unit": "events/s", "ours": 7.5, "baseline": null,
                    "against": null, "ratio": null, "better": "higher", "runs": 2,
                    "bound": null, "verdict": null
                },
            ])
        );
        // A run elsewhere (in the guest) can hand over its rows as JSON.
        let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
        assert_eq!(rows, report.rows());
    }

    #[test]
    fn an_area_that_was_skipped_leaves_no_old_figures() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("area.json"), "[1]").unwrap();
        let mut report = Report::new(1);
        let reason = anyhow::anyhow!("not permitted").context("cannot load");
        report.skip("area.time", reason.as_ref());
        let path = report.save(directory.path(), "area").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "[]\n");
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  - area.time is SKIPPED: cannot load: not permitted\n"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = Report::new(1)
            .save(Path::new("/dev/null/x"), "area")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write /dev/null/x/area.json; choose another directory with --dir"
        );
    }

    #[test]
    fn figures_are_short() {
        let cases = [
            (0.0, "0 ns"),
            (0.91234, "0.912 ns"),
            (12.34, "12.3 ns"),
            (999.4, "999 ns"),
            (1500.0, "1.5 µs"),
            (2e12, "2000 s"),
        ];
        for (figure, wanted) in cases {
            assert_eq!(quantity(figure, "ns"), wanted);
        }
        assert_eq!(quantity(100.0, "bytes"), "100 B");
        assert_eq!(quantity(6304.0, "bytes"), "6.16 KiB");
        assert_eq!(
            quantity(1_234_567.0, "instructions"),
            "1234567 instructions"
        );
    }
}
