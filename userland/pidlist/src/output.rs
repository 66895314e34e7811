//! What reaches the terminal, the pipe, and the exit code.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a command found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or yes: exit code 0.
    Yes,
    /// No: exit code 1.
    No,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// An error that says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Advice {
    /// What was being done.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Ends the program: prints an error, and turns the answer into an exit code.
pub fn exit(result: anyhow::Result<Answer>) -> ExitCode {
    match result {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

/// Prints an error, and what to do about it.
pub fn complain(error: &anyhow::Error) {
    // There is nobody to tell if stderr is gone too.
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "pidlist: {error:#}");
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Advice>());
    if let Some(advice) = hint {
        let _ = writeln!(stderr, "hint: {}", advice.hint);
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Standard output, buffered.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Prints a value as one JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<Answer> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// Whether to colour what goes to stdout.
pub fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table for people: bare columns; on a terminal, rows are cut at its width.
pub fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // A serial line is a terminal that does not know its width, and says 0.
    if terminal_width().is_some() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_truncation_indicator("…");
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    if !is_coloured() {
        table.force_no_tty();
    }
    table.set_header(row(header));
    table
}

/// How wide the terminal is that stdout goes to; `None` if there is none, or it does not know.
pub fn terminal_width() -> Option<usize> {
    let width = Table::new().width().map(usize::from);
    width.filter(|width| *width > 0 && io::stdout().is_terminal())
}

/// Columns that text takes.
pub fn width_of(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Text, cut so that with `more` columns behind it, it fits on a line of the terminal.
pub fn cut(text: &str, more: usize) -> String {
    match terminal_width() {
        Some(width) => cut_to(text, width.saturating_sub(more)),
        None => text.to_owned(),
    }
}

fn cut_to(text: &str, width: usize) -> String {
    // So little says nothing.
    const LEAST: usize = 8;
    let width = width.max(LEAST);
    if width_of(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 1;
    for character in text.chars() {
        taken += UnicodeWidthChar::width(character).unwrap_or(0);
        if taken > width {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// Prints a long line, broken between words where the terminal ends.
pub fn print_wrapped(out: &mut impl Write, line: &str) -> io::Result<()> {
    match terminal_width() {
        Some(width) => writeln!(out, "{}", wrap(line, width)),
        None => writeln!(out, "{line}"),
    }
}

fn wrap(line: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut taken = 0;
    for word in line.split(' ') {
        let own = width_of(word);
        if taken > 0 && taken + 1 + own > width {
            wrapped.push('\n');
            taken = 0;
        } else if taken > 0 {
            wrapped.push(' ');
            taken += 1;
        }
        wrapped.push_str(word);
        taken += own;
    }
    wrapped
}

/// Gives the last column of a table what the others leave. Where that is next to nothing, columns
/// behind the first are left out.
pub fn fit_last(table: &mut Table) {
    let Some(width) = terminal_width() else {
        return;
    };
    let widths = table.column_max_content_widths();
    let hidden = columns_in_the_way(&widths, width);
    if let Some(last) = table.column_mut(widths.len().saturating_sub(1)) {
        // It is cut where the line ends, not where a word does.
        last.set_delimiter('\0');
    }
    for at in 0..widths.len().saturating_sub(1) {
        if let Some(column) = table.column_mut(at) {
            column.set_constraint(if hidden.contains(&at) {
                ColumnConstraint::Hidden
            } else {
                ColumnConstraint::ContentWidth
            });
        }
    }
}

/// Which columns to leave out so that the last one has room; the first and the last are always shown.
fn columns_in_the_way(widths: &[u16], width: usize) -> std::ops::Range<usize> {
    const ROOM: u16 = 16;
    let Some((last, others)) = widths.split_last() else {
        return 0..0;
    };
    let column = |own: u16| usize::from(own) + 2;
    let mut needed =
        column(*last.min(&ROOM)) + others.iter().map(|own| column(*own)).sum::<usize>();
    let mut end = 1;
    while needed > width && end < others.len() {
        needed -= column(others[end]);
        end += 1;
    }
    1..end
}

/// Leaves out the last columns of a table of figures as far as a terminal is too narrow for them: half
/// a number is none.
pub fn hide_what_does_not_fit(table: &mut Table) {
    let width = match table.content_arrangement() {
        ContentArrangement::Disabled => return,
        _ => table.width().map_or(usize::MAX, usize::from),
    };
    let widths = table.column_max_content_widths();
    for hidden in columns_that_fit(&widths, width)..widths.len() {
        if let Some(column) = table.column_mut(hidden) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

/// How many columns fit, with a blank on either side; the first two are always shown.
fn columns_that_fit(widths: &[u16], width: usize) -> usize {
    let ends = widths.iter().scan(0, |end, &column| {
        *end += usize::from(column) + 2;
        Some(*end)
    });
    ends.take_while(|&end| end <= width).count().max(2)
}

/// A row of one line.
pub fn row<T: Into<comfy_table::Cell>>(cells: impl IntoIterator<Item = T>) -> Row {
    let mut row = Row::from(cells);
    row.max_height(1);
    row
}

/// Prints a table, without the blanks at the ends of its lines.
pub fn print_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        let line = line.strip_prefix(' ').unwrap_or(&line);
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Bytes of a foreign program, made harmless: control characters and broken UTF-8 are escaped.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_bidi(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters that turn the direction of text, and so could make a line read as another.
fn is_bidi(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A length of time in a few characters.
pub fn span(ns: u64) -> String {
    let length = Duration::from_nanos(ns);
    let seconds = length.as_secs();
    match seconds {
        0 if ns < 1_000_000 => format!("{}µs", ns / 1_000),
        0 => format!("{:.1}ms", length.as_secs_f64() * 1e3),
        1..60 => format!("{:.1}s", length.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// An amount of memory in a few characters.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    // One decimal, in integers.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(text(b"a\x1b[2Jb\n\xffc"), "a\\u{1b}[2Jb\\n\\xffc");
        assert_eq!(text("naïve \u{202e}x".as_bytes()), "naïve \\u{202e}x");
    }

    #[test]
    fn spans_are_short() {
        let cases = [(999, "0µs"), (1_500_000, "1.5ms"), (2_500_000_000, "2.5s")];
        for (ns, wanted) in cases {
            assert_eq!(span(ns), wanted);
        }
        assert_eq!(span(61_000_000_000), "1m01s");
        assert_eq!(span(90_000_000_000_000), "1d01h");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn narrow_terminals_show_fewer_columns() {
        let widths = [7, 7, 6];
        for (width, columns) in [(80, 3), (26, 3), (25, 2), (18, 2), (4, 2)] {
            assert_eq!(columns_that_fit(&widths, width), columns, "{width}");
        }
    }

    #[test]
    fn the_last_column_has_room() {
        let widths = [7, 7, 8, 6, 4, 60];
        for (width, hidden) in [(80, 1..1), (50, 1..3), (40, 1..4), (20, 1..5), (4, 1..5)] {
            assert_eq!(columns_in_the_way(&widths, width), hidden, "{width}");
        }
        assert_eq!(columns_in_the_way(&[100], 20), 1..1);
        assert_eq!(columns_in_the_way(&[], 20), 0..0);
    }

    #[test]
    fn lines_end_where_the_terminal_does() {
        assert_eq!(cut_to("0123456789", 10), "0123456789");
        assert_eq!(cut_to("0123456789a", 10), "012345678…");
        assert_eq!(cut_to("日本語日本語日本語", 10), "日本語日…");
        assert_eq!(cut_to("0123456789", 1), "0123456…");
        assert_eq!(
            wrap("12 alive, 3 exited; source: bpf", 10),
            "12 alive,\n3 exited;\nsource:\nbpf"
        );
        assert_eq!(wrap("longer-than-that x", 4), "longer-than-that\nx");
    }

    #[test]
    fn a_broken_pipe_is_found_below_other_errors() {
        let io = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(io).context("printing")));
    }
}
