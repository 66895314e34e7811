//! The kernel's test protocol, read line by line as it arrives.
//!
//! Format: `Documentation/dev-tools/ktap.rst` in the kernel tree. Only leaves count as tests: a
//! line that sums up subtests counts when it fails although none of them did. What was planned
//! and never reported has failed.

use std::time::Instant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// A test that has just been reported.
#[derive(Debug, PartialEq, Eq)]
pub struct Reported {
    pub outcome: Outcome,
    /// Names from the outermost test inwards.
    pub name: String,
    /// Why it was skipped, or what is missing.
    pub note: String,
    /// Since the report before this one.
    pub took: std::time::Duration,
}

/// One level of nesting.
#[derive(Debug, Default)]
struct Level {
    indent: usize,
    name: String,
    planned: Option<u32>,
    seen: u32,
    failed: u32,
}

#[derive(Debug)]
pub struct Parser {
    levels: Vec<Level>,
    /// Names and failures of subtests that ended just before their parent's own line.
    closed: Option<Level>,
    counts: Counts,
    /// Whether the version line was seen: what comes before it is not KTAP.
    started: bool,
    last: Instant,
}

impl Default for Parser {
    fn default() -> Self {
        Parser {
            levels: Vec::new(),
            closed: None,
            counts: Counts::default(),
            started: false,
            last: Instant::now(),
        }
    }
}

impl Parser {
    /// Takes one line, without its end; returns what it reports.
    pub fn line(&mut self, line: &str) -> Vec<Reported> {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let text = text.trim_end();
        if text == "KTAP version 1" || text.starts_with("TAP version ") {
            self.started = true;
            return self.open(indent);
        }
        if !self.started {
            return Vec::new();
        }
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            let mut reports = Vec::new();
            if self
                .levels
                .last()
                .is_none_or(|level| level.indent != indent)
            {
                reports = self.open(indent);
            }
            if let Some(level) = self.levels.last_mut() {
                level.name = name.to_owned();
            }
            return reports;
        }
        if let Some(planned) = text.strip_prefix("1..") {
            // A plan may end in a directive, of which only the number matters.
            let planned = planned
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok());
            let mut reports = self.close_below(indent);
            match self.levels.last_mut() {
                Some(level) if level.indent == indent => level.planned = planned,
                _ => reports.extend(self.open_planned(indent, planned)),
            }
            return reports;
        }
        if let Some(reason) = text.strip_prefix("Bail out!") {
            return vec![self.fail("Bail out!".into(), reason.trim().into())];
        }
        match parse_result(text) {
            Some(result) => self.result(indent, result),
            None => Vec::new(),
        }
    }

    /// To be called when nothing more will come: reports what is missing.
    pub fn finish(&mut self) -> Vec<Reported> {
        let mut reports = self.close_below(0);
        if let Some(level) = self.levels.pop() {
            reports.extend(self.missing(&level));
        }
        reports
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn open(&mut self, indent: usize) -> Vec<Reported> {
        self.open_planned(indent, None)
    }

    fn open_planned(&mut self, indent: usize, planned: Option<u32>) -> Vec<Reported> {
        let mut reports = self.close_below(indent);
        // A second document at the same depth replaces one that is over.
        if self
            .levels
            .last()
            .is_some_and(|level| level.indent == indent)
        {
            let level = self.levels.pop().expect("just looked at");
            reports.extend(self.missing(&level));
        }
        self.levels.push(Level {
            indent,
            planned,
            ..Level::default()
        });
        reports
    }

    /// Ends every level deeper than `indent`.
    fn close_below(&mut self, indent: usize) -> Vec<Reported> {
        let mut reports = Vec::new();
        while let Some(level) = self.levels.pop_if(|level| level.indent > indent) {
            reports.extend(self.missing(&level));
            let failed = level.failed + reports.len() as u32;
            self.closed = Some(Level { failed, ..level });
        }
        reports
    }

    fn result(&mut self, indent: usize, (outcome, name, note): Line) -> Vec<Reported> {
        let mut reports = self.close_below(indent);
        let children = self.closed.take();
        if self.levels.last().is_none_or(|level| level.indent < indent) {
            self.levels.push(Level {
                indent,
                ..Level::default()
            });
        }
        let full_name = self.full_name(&name);
        let level = self.levels.last_mut().expect("pushed above");
        level.seen += 1;
        let failed = outcome == Outcome::Failed;
        let counts = match &children {
            None => true,
            // The reason is in one of the children already.
            Some(children) => failed && children.failed == 0,
        };
        if failed || children.is_some_and(|children| children.failed > 0) {
            level.failed += 1;
        }
        if counts {
            reports.push(self.count(outcome, full_name, note));
        }
        reports
    }

    fn count(&mut self, outcome: Outcome, name: String, note: String) -> Reported {
        match outcome {
            Outcome::Passed => self.counts.passed += 1,
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Skipped => self.counts.skipped += 1,
        }
        let took = self.last.elapsed();
        self.last = Instant::now();
        Reported {
            outcome,
            name,
            note,
            took,
        }
    }

    fn fail(&mut self, name: String, note: String) -> Reported {
        if let Some(level) = self.levels.last_mut() {
            level.failed += 1;
        }
        self.count(Outcome::Failed, name, note)
    }

    /// What a level that is over has promised and not delivered.
    fn missing(&mut self, level: &Level) -> Vec<Reported> {
        let name = |what: &str| match level.name.as_str() {
            "" => what.to_owned(),
            name => format!("{}{name}: {what}", self.prefix()),
        };
        match level.planned {
            Some(planned) if planned > level.seen => (level.seen + 1..=planned)
                .map(|number| {
                    (
                        name(&format!("test {number}")),
                        "planned, but never reported".into(),
                    )
                })
                .collect(),
            Some(_) => Vec::new(),
            None => vec![(
                name("plan"),
                "no line 1..N: some tests may be missing".to_owned(),
            )],
        }
        .into_iter()
        .map(|(name, note)| self.count(Outcome::Failed, name, note))
        .collect()
    }

    fn prefix(&self) -> String {
        let names = self.levels.iter().map(|level| level.name.as_str());
        names
            .filter(|name| !name.is_empty())
            .map(|name| format!("{name}: "))
            .collect()
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }
}

type Line = (Outcome, String, String);

/// Parses `ok 1 - name # SKIP reason` and its like.
fn parse_result(text: &str) -> Option<Line> {
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let (description, directive) = match rest.split_once(" # ") {
        Some((description, directive)) => (description, directive),
        None => (rest, ""),
    };
    let description = description.trim();
    let unnumbered = description
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let name = unnumbered.strip_prefix("- ").unwrap_or(unnumbered);
    let name = if name.is_empty() { description } else { name };
    let upper = directive.to_ascii_uppercase();
    let (outcome, note) = if upper.starts_with("SKIP") {
        (Outcome::Skipped, directive[4..].trim())
    } else if upper.starts_with("TODO") || upper.starts_with("XFAIL") {
        // Expected to fail: neither good nor bad news.
        (Outcome::Skipped, directive)
    } else if ok {
        (Outcome::Passed, directive)
    } else {
        (Outcome::Failed, directive)
    };
    Some((outcome, name.to_owned(), note.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Counts, Vec<(Outcome, String)>) {
        let mut parser = Parser::default();
        let mut reports: Vec<_> = text.lines().flat_map(|line| parser.line(line)).collect();
        reports.extend(parser.finish());
        let names = reports
            .into_iter()
            .map(|report| (report.outcome, report.name))
            .collect();
        (parser.counts(), names)
    }

    fn counts(passed: u32, failed: u32, skipped: u32) -> Counts {
        Counts {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn flat() {
        let (counted, names) = parse(
            "KTAP version 1\n1..4\n# about to start\nok 1 - set\nnot ok 2 clear # it broke\n\
             ok 3 next # SKIP no module\nnot ok 4 first # TODO later\n",
        );
        assert_eq!(counted, counts(1, 1, 2));
        assert_eq!(names[0], (Outcome::Passed, "set".into()));
        assert_eq!(names[1], (Outcome::Failed, "clear".into()));
    }

    #[test]
    fn nested_counts_leaves_only() {
        let (counted, names) = parse(
            "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: tree\n  1..2\n  ok 1 set\n  \
             not ok 2 clear\nnot ok 1 tree\nok 2 alone\n",
        );
        assert_eq!(counted, counts(2, 1, 0));
        assert_eq!(names[1], (Outcome::Failed, "tree: clear".into()));
    }

    #[test]
    fn two_levels_of_nesting() {
        let (counted, names) = parse(
            "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: a\n  1..1\n    KTAP version 1\n    \
             # Subtest: b\n    1..1\n    ok 1 c\n  ok 1 b\nok 1 a\n",
        );
        assert_eq!(counted, counts(1, 0, 0));
        assert_eq!(names, [(Outcome::Passed, "a: b: c".into())]);
    }

    #[test]
    fn a_parent_may_fail_on_its_own() {
        let text =
            "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 child\nnot ok 1 parent\n";
        assert_eq!(parse(text).0, counts(1, 1, 0));
    }

    #[test]
    fn missing_results_fail() {
        let (counted, names) = parse("KTAP version 1\n1..3\nok 1 first\n");
        assert_eq!(counted, counts(1, 2, 0));
        assert_eq!(names[1], (Outcome::Failed, "test 2".into()));
    }

    #[test]
    fn missing_subtests_fail() {
        let text =
            "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: s\n  1..2\n  ok 1 a\nok 1 s\n";
        let (counted, names) = parse(text);
        assert_eq!(counted, counts(1, 1, 0));
        assert_eq!(names[1], (Outcome::Failed, "s: test 2".into()));
    }

    #[test]
    fn cut_off_in_a_subtest() {
        let text = "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: s\n  1..2\n  ok 1 a\n";
        assert_eq!(parse(text).0, counts(1, 3, 0));
    }

    #[test]
    fn a_missing_plan_fails() {
        assert_eq!(parse("KTAP version 1\nok 1 a\n").0, counts(1, 1, 0));
    }

    #[test]
    fn bailing_out_fails() {
        assert_eq!(
            parse("KTAP version 1\n1..1\nok 1 a\nBail out! no memory\n").0,
            counts(1, 1, 0)
        );
    }

    #[test]
    fn nothing_is_no_test() {
        assert_eq!(parse("hello\nok 1 not ktap yet\n").0, counts(0, 0, 0));
    }

    #[test]
    fn an_empty_plan_is_a_skipped_suite() {
        assert_eq!(
            parse("KTAP version 1\n1..0 # SKIP nothing here\n").0,
            counts(0, 0, 0)
        );
    }

    #[test]
    fn words_that_only_look_like_results() {
        assert_eq!(
            parse("KTAP version 1\n1..1\nokay then\nok 1 a\n").0,
            counts(1, 0, 0)
        );
    }

    #[test]
    fn two_documents_in_a_row() {
        let text = "KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..2\nok 1 b\n";
        assert_eq!(parse(text).0, counts(2, 1, 0));
    }
}
