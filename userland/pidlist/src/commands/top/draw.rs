//! How `pidlist top` looks. What does not fit is left out: the panes first, the list last.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Borders, Cell, Clear, Paragraph, RenderDirection, Row, Sparkline, Table, Wrap,
};

use super::state::{self, Entry, Fold, Ghosts, Mode, State};
use crate::output;

/// What is beside the list.
#[derive(Debug)]
pub struct Side {
    /// `bpf` or `proc`.
    pub source: &'static str,
    /// Name, members and bytes of each list in the kernel, or why there are none.
    pub lists: Result<Vec<(String, u64, u64)>, String>,
    /// Name and bytes of slab caches, the largest first, or why there are none.
    pub slabs: Result<Vec<(String, u64)>, String>,
    /// Bytes of all slab caches.
    pub slab_bytes: u64,
    pub is_coloured: bool,
}

const SIDE_WIDTH: u16 = 36;
const BELOW_HEIGHT: u16 = 8;

const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ PgUp PgDn Home End", "select a process"),
    (
        "→ ←",
        "show or hide its children; ← again goes to its parent",
    ),
    ("+ -", "show or hide all children"),
    ("Enter", "all about it"),
    (
        "/",
        "only what contains a text, or has a pid; Esc shows all",
    ),
    ("s", "sort by CPU, peak memory, newest, pid, command"),
    ("t", "tree or flat list"),
    ("space", "pause; what happens meanwhile is not shown later"),
    ("q, Ctrl-C", "quit"),
];

impl Side {
    pub fn new(source: &'static str, is_coloured: bool) -> Self {
        Self {
            source,
            lists: Ok(Vec::new()),
            slabs: Ok(Vec::new()),
            slab_bytes: 0,
            is_coloured,
        }
    }

    fn colour(&self, colour: Color) -> Style {
        if self.is_coloured {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

pub fn draw(frame: &mut Frame<'_>, state: &mut State, side: &Side) {
    let area = frame.area();
    let header = match area.height {
        0..8 => 1,
        8..20 => 2,
        _ => 5,
    };
    let footer = u16::from(area.height >= 10 || state.mode == Mode::Filter);
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(header),
        Constraint::Fill(1),
        Constraint::Length(footer),
    ])
    .areas(area);
    draw_header(frame, top, state, side);
    let [list, panes] = if area.width >= 110 && middle.height >= 12 {
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(SIDE_WIDTH)]).areas(middle)
    } else if area.width >= 60 && middle.height >= 24 {
        Layout::vertical([Constraint::Fill(1), Constraint::Length(BELOW_HEIGHT)]).areas(middle)
    } else {
        [middle, Rect::ZERO]
    };
    draw_list(frame, list, state, side);
    if panes.width > SIDE_WIDTH {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(panes);
        draw_lists(frame, left, side);
        draw_slabs(frame, right, side);
    } else if panes.width > 0 {
        // A reason takes some lines.
        let lists = side.lists.as_ref().map_or(5, Vec::len).clamp(1, 8) as u16;
        let [upper, lower] =
            Layout::vertical([Constraint::Length(lists + 2), Constraint::Fill(1)]).areas(panes);
        draw_lists(frame, upper, side);
        draw_slabs(frame, lower, side);
    }
    draw_footer(frame, bottom, state, side);
    match state.mode {
        Mode::Help => draw_help(frame, area, side),
        Mode::Details => draw_details(frame, area, state),
        Mode::List | Mode::Filter => {}
    }
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, state: &State, side: &Side) {
    let shown = &state.frame;
    let figure = |figure: String| Span::styled(figure, side.strong());
    let lost = shown.counters.lost();
    let lost_style = if lost == 0 {
        side.colour(Color::Green)
    } else {
        side.colour(Color::Red).add_modifier(Modifier::BOLD)
    };
    let mut facts = vec![
        figure(shown.alive.to_string()),
        " alive".into(),
        "  lost ".into(),
        Span::styled(lost.to_string(), lost_style),
        "  repaired ".into(),
        figure(shown.repaired.to_string()),
        format!("  source {}", side.source).into(),
    ];
    if state.is_paused {
        let paused = side.colour(Color::Yellow).add_modifier(Modifier::REVERSED);
        facts.insert(0, Span::styled(" paused ", paused));
        facts.insert(1, "  ".into());
    }
    let rates = vec![
        "forks ".into(),
        figure(format!("{:.0}/s", shown.rates.forks)),
        "  execs ".into(),
        figure(format!("{:.0}/s", shown.rates.execs)),
        "  exits ".into(),
        figure(format!("{:.0}/s", shown.rates.exits)),
    ];
    let [first, second, curve] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Line::from(facts), first);
    frame.render_widget(Line::from(rates), second);
    if curve.height > 0 {
        let forks = state.forks.iter().rev().take(curve.width.into()).copied();
        let forks: Vec<u64> = forks.collect();
        let sparkline = Sparkline::default()
            .data(&forks)
            .direction(RenderDirection::RightToLeft)
            .style(side.colour(Color::Cyan));
        frame.render_widget(sparkline, curve);
    }
}

/// The columns beside the command, as far as there is room: title, width, and from which width on.
const COLUMNS: [(&str, u16, u16); 6] = [
    ("PID", 8, 0),
    ("UID", 6, 76),
    ("CPU%", 6, 30),
    ("PEAK", 10, 84),
    ("AGE", 7, 40),
    ("EXIT", 9, 50),
];

fn draw_list(frame: &mut Frame<'_>, area: Rect, state: &mut State, side: &Side) {
    let heading = u16::from(area.height > 3);
    let height = usize::from(area.height.saturating_sub(heading));
    state.page = height;
    // The selected row stays in sight, the rest where it is.
    let lowest = (state.selected + 1).saturating_sub(height);
    let last = state.rows.len().saturating_sub(height);
    state.offset = state.offset.max(lowest).min(state.selected).min(last);
    let shown = state
        .rows
        .iter()
        .enumerate()
        .skip(state.offset)
        .take(height);
    let fits = COLUMNS.map(|(_, _, from)| area.width >= from);
    let rows = shown.map(|(place, row)| {
        let entry = &state.frame.entries[row.entry];
        let style = match entry {
            Entry::Living(living) if living.is_new => side.strong(),
            Entry::Living(_) => Style::new(),
            Entry::Ghosts(ghosts) => fading(ghosts, state.frame.now_ns, side),
        };
        let figures = figures(entry, state.frame.now_ns);
        let cells = figures.into_iter().zip(fits).filter(|(_, fits)| *fits);
        let cells =
            cells.map(|(figure, _)| Cell::from(Line::from(figure).alignment(Alignment::Right)));
        let style = if place == state.selected {
            style
                .add_modifier(Modifier::REVERSED)
                .remove_modifier(Modifier::DIM)
        } else {
            style
        };
        Row::new(cells.chain([Cell::from(command(row, entry, side))])).style(style)
    });
    let columns = COLUMNS.iter().zip(fits).filter(|(_, fits)| *fits);
    let widths = columns
        .clone()
        .map(|((_, width, _), _)| Constraint::Length(*width));
    let mut table = Table::new(rows, widths.chain([Constraint::Fill(1)])).column_spacing(1);
    if heading != 0 {
        let titles = columns
            .map(|((title, _, _), _)| Cell::from(Line::from(*title).alignment(Alignment::Right)));
        let how = format!(
            "COMMAND  {} by {}, {} of {}",
            if state.is_flat { "list" } else { "tree" },
            state.sort.name(),
            state.rows.len(),
            state.frame.entries.len()
        );
        let style = side.strong().add_modifier(Modifier::UNDERLINED);
        table = table.header(Row::new(titles.chain([Cell::from(how)])).style(style));
    }
    frame.render_widget(table, area);
}

/// What stands in [`COLUMNS`].
fn figures(entry: &Entry, now_ns: u64) -> [String; 6] {
    let (pid, age, exit) = match entry {
        Entry::Living(living) => (
            living.key.tgid.to_string(),
            output::span(now_ns.saturating_sub(living.key.start_ns)),
            String::new(),
        ),
        Entry::Ghosts(ghosts) if ghosts.count == 1 => (
            ghosts.last.tgid.to_string(),
            output::span(ghosts.lived_ns),
            ghosts.exit.clone(),
        ),
        Entry::Ghosts(ghosts) => (
            format!("×{}", ghosts.count),
            format!("ø{}", output::span(ghosts.lived_ns / ghosts.count as u64)),
            match ghosts.failed {
                0 => "all 0".into(),
                failed => format!("{failed} bad"),
            },
        ),
    };
    let cpu = match entry.cpu() * 100.0 {
        share if share < 0.05 => String::new(),
        share => format!("{share:.1}"),
    };
    let peak = match entry.peak_kib() {
        0 => String::new(),
        kib => output::bytes(kib << 10),
    };
    [pid, entry.uid().to_string(), cpu, peak, age, exit]
}

fn command<'a>(row: &'a state::Row, entry: &'a Entry, side: &Side) -> Line<'a> {
    let mut spans = vec![Span::styled(&*row.branch, side.dim())];
    match row.fold {
        Some(Fold::Open) => spans.push("▾ ".into()),
        Some(Fold::Closed(_)) => spans.push("▸ ".into()),
        None if !row.branch.is_empty() => spans.push(" ".into()),
        None => {}
    }
    if matches!(entry, Entry::Ghosts(_)) {
        spans.push("✝ ".into());
    }
    if let Some(Fold::Closed(hidden)) = row.fold {
        spans.push(Span::styled(
            format!("(+{hidden}) "),
            side.colour(Color::Cyan),
        ));
    }
    spans.push(without_directory(entry.command()).into());
    Line::from(spans)
}

/// A tree leaves little room for a command line: what a program is called comes first.
fn without_directory(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or(command);
    match program.rfind('/') {
        // Brackets are around the name of a kernel thread, which may be that of a queue with a slash.
        Some(slash) if !command.starts_with(['[', '(']) => &command[slash + 1..],
        _ => command,
    }
}

/// The longer they are dead, the paler; then they are gone.
fn fading(ghosts: &Ghosts, now_ns: u64, side: &Side) -> Style {
    let colour = if ghosts.failed == 0 {
        Color::Green
    } else {
        Color::Red
    };
    match ghosts.faded(now_ns) {
        faded if faded < 0.34 => side.colour(colour),
        faded if faded < 0.67 => side.colour(colour).add_modifier(Modifier::DIM),
        _ => side.colour(Color::DarkGray).add_modifier(Modifier::DIM),
    }
}

fn pane<'a>(title: impl Into<Line<'a>>, side: &Side) -> Block<'a> {
    Block::new()
        .borders(Borders::ALL)
        .border_style(side.dim())
        .title(title)
}

fn draw_lists(frame: &mut Frame<'_>, area: Rect, side: &Side) {
    let block = pane(" lists in the kernel ", side);
    match &side.lists {
        Ok(lists) => {
            let rows = lists.iter().map(|(name, members, bytes)| {
                [name.clone(), members.to_string(), output::bytes(*bytes)]
            });
            draw_figures(frame, area, block, rows);
        }
        Err(why) => draw_reason(frame, area, block, why, side),
    }
}

fn draw_slabs(frame: &mut Frame<'_>, area: Rect, side: &Side) {
    match &side.slabs {
        Ok(slabs) => {
            let title = format!(" largest slabs of {} ", output::bytes(side.slab_bytes));
            let rows = slabs
                .iter()
                .map(|(name, bytes)| [name.clone(), String::new(), output::bytes(*bytes)]);
            draw_figures(frame, area, pane(title, side), rows);
        }
        Err(why) => draw_reason(frame, area, pane(" largest slabs ", side), why, side),
    }
}

/// A name to the left, figures to the right.
fn draw_figures(
    frame: &mut Frame<'_>,
    area: Rect,
    block: Block<'_>,
    rows: impl Iterator<Item = [String; 3]>,
) {
    let most = usize::from(area.height.saturating_sub(2));
    let rows = rows.take(most).map(|[name, count, bytes]| {
        let right = |text| Cell::from(Line::from(text).alignment(Alignment::Right));
        Row::new([Cell::from(name), right(count), right(bytes)])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(10),
    ];
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

fn draw_reason(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, why: &str, side: &Side) {
    let reason = Paragraph::new(why)
        .style(side.dim())
        .wrap(Wrap { trim: true });
    frame.render_widget(reason.block(block), area);
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, state: &State, side: &Side) {
    let line = match state.mode {
        Mode::Filter => Line::from(vec![
            Span::styled("filter: ", side.strong()),
            state.filter.as_str().into(),
            "▏".into(),
        ]),
        _ if !state.filter.is_empty() => Line::from(format!(
            "only “{}”: Esc shows all, / changes it, ? help",
            state.filter
        )),
        _ => Line::styled(
            "q quit  ? help  / filter  s sort  t tree  space pause  ← → fold  Enter details",
            side.dim(),
        ),
    };
    frame.render_widget(line, area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, side: &Side) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (keys, what) in KEYS {
        lines.push(Line::from(vec![
            Span::styled(format!("{keys:<24}"), side.strong()),
            (*what).into(),
        ]));
    }
    lines.push(Line::default());
    lines.push(
        "✝ marks those that have exited since a few seconds ago, however short they lived:".into(),
    );
    lines.push("×12 of one name below one parent, ø how long they lived on average.".into());
    draw_popup(frame, area, " keys ", lines);
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if let Some((_, entry)) = state.selected() {
        let lines = state::details(entry, state.frame.now_ns);
        let lines = lines.into_iter().map(Line::from).collect();
        draw_popup(frame, area, " process ", lines);
    }
}

fn draw_popup(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    let inner = area.inner(Margin::new(area.width / 12, area.height / 12));
    // As wide as the text, as high as it gets once wrapped.
    let longest = lines.iter().map(Line::width).max().unwrap_or(0);
    let width = inner
        .width
        .min(u16::try_from(longest).unwrap_or(u16::MAX).saturating_add(2));
    let text = usize::from(width.saturating_sub(2).max(1));
    let wrapped: usize = lines
        .iter()
        .map(|line| line.width().div_ceil(text).max(1))
        .sum();
    let height = inner
        .height
        .min(u16::try_from(wrapped).unwrap_or(u16::MAX).saturating_add(3));
    let popup = Rect::new(
        inner.x + (inner.width - width) / 2,
        inner.y + (inner.height - height) / 2,
        width,
        height,
    );
    frame.render_widget(Clear, popup);
    let block = Block::bordered().title(title);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(block), popup);
}
