//! A [`Timeline`] as SVG: one file, no script, for light and dark pages.

use std::fmt::Write as _;

use svg::node::element::path::Data;
use svg::node::element::{Element, Group, Path, Rectangle, Style};
use svg::{Document, Node as _};
use unicode_width::UnicodeWidthStr as _;

use crate::layout::{Grain, Item, Layout, Short, What};
use crate::{Fate, Life, Timeline, time};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Width of the picture, pixels; 300 at least.
    pub width: u32,
    /// Lives shorter than this get no bar of their own, nanoseconds; nor do those below a pixel.
    pub min_ns: u64,
    /// The most bars. If more are long enough, the longest get one.
    pub max_bars: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            width: 1200,
            min_ns: 0,
            max_bars: 4000,
        }
    }
}

const MARGIN: f64 = 16.0;
/// Top and height of the curve.
const CURVE: (f64, f64) = (92.0, 48.0);
/// Top of the first row.
const ROWS: f64 = CURVE.0 + CURVE.1 + 30.0;
/// From row to row. Where there are more rows than fit in the greatest height, they come closer.
const ROW: f64 = 18.0;
const LOW_ROW: f64 = 4.0;
const GREATEST_HEIGHT: f64 = 16_000.0;
/// Rows lower than this bear no text.
const TEXT_ROW: f64 = 12.0;
/// Width of a character, at 11 pixels of any of the fonts.
const CHARACTER: f64 = 6.63;
/// The most room for a text beside its bar.
const BESIDE: f64 = 240.0;
/// What all command lines may take together, bytes, and each of them at least and at most.
const COMMANDS: usize = 4 << 20;
const COMMAND: (usize, usize) = (200, 8192);
/// The most programs in one description.
const EXECS: usize = 8;
/// Most bytes of a name in a description: a program calls itself what it likes.
const NAME: usize = 64;

impl Timeline {
    /// Draws it.
    ///
    /// Each process is a bar below its parent, in the colour of its end. The size of the picture is
    /// bounded: what is too short for a bar is counted in marks.
    #[must_use]
    pub fn svg(&self, settings: &Settings) -> String {
        Picture::new(self, settings).draw().to_string()
    }
}

/// A timeline and where things are.
struct Picture<'a> {
    timeline: &'a Timeline,
    layout: Layout,
    width: f64,
    /// Pixels for a nanosecond.
    scale: f64,
    row: f64,
    most_command: usize,
}

impl<'a> Picture<'a> {
    fn new(timeline: &'a Timeline, settings: &Settings) -> Self {
        let width = f64::from(settings.width.max(300));
        let scale = (width - 2.0 * MARGIN) / timeline.length_ns() as f64;
        let grain = Grain {
            pixel_ns: ((1.0 / scale) as u64).max(1),
            shortest_ns: settings.min_ns,
            most: settings.max_bars,
        };
        let layout = Layout::new(timeline, grain);
        let row = (GREATEST_HEIGHT / layout.rows.max(1) as f64).clamp(LOW_ROW, ROW);
        let most_command = (COMMANDS / layout.items.len().max(1)).clamp(COMMAND.0, COMMAND.1);
        Self {
            timeline,
            layout,
            width,
            scale,
            row,
            most_command,
        }
    }

    fn draw(&self) -> Document {
        let bottom = ROWS + self.layout.rows as f64 * self.row;
        let height = bottom + MARGIN;
        let mut document = Document::new()
            .set("width", px(self.width))
            .set("height", px(height))
            .set("viewBox", (0.0, 0.0, px(self.width), px(height)))
            .add(title(&self.timeline.title))
            .add(Style::new(include_str!("style.css")))
            .add(rectangle(0.0, 0.0, self.width, height).set("class", "paper"))
            .add(self.header())
            .add(self.legend())
            .add(self.axis(bottom))
            .add(self.curve())
            .add(self.kinship());
        let room = self.room();
        for (item, room) in self.layout.items.iter().zip(room) {
            document = document.add(match item.what {
                What::Life(life) => self.bar(item, life, room),
                What::Short(short) => self.mark(item, short),
            });
        }
        document
    }

    fn x(&self, ns: u64) -> f64 {
        MARGIN + (ns as f64 * self.scale).min(self.width - 2.0 * MARGIN)
    }

    fn y(&self, row: usize) -> f64 {
        ROWS + row as f64 * self.row
    }

    fn bar_height(&self) -> f64 {
        (self.row - 3.0).max(self.row * 0.75)
    }

    fn header(&self) -> Group {
        let timeline = self.timeline;
        let length = timeline.length_ns();
        let lives = timeline.parallelism();
        let facts = format!(
            "{} processes in {} · {} of CPU · {:.1} alive on average, {} at most",
            timeline.lives.len(),
            time::span(length),
            time::span(timeline.cpu_ns()),
            lives.mean(length),
            lives.most(),
        );
        // Bold, and larger than a label.
        let room = (self.width - 2.0 * MARGIN) / 1.4;
        let heading = fitting(&timeline.title, room).unwrap_or_default();
        let mut heading = text(&heading, MARGIN, 28.0);
        heading.assign("class", "title");
        Group::new().add(heading).add(dim(&facts, MARGIN, 48.0))
    }

    fn legend(&self) -> Group {
        let mut group = Group::new();
        let mut x = MARGIN;
        let mut entry = |name: String, swatch: Option<(&str, f64)>| {
            let y = 70.0;
            if let Some((class, height)) = swatch {
                let swatch = rectangle(x, y - 4.0 - height / 2.0, 14.0, height);
                group.append(swatch.set("class", class).set("rx", 2));
                x += 20.0;
            }
            group.append(text(&name, x, y));
            x += name.width() as f64 * CHARACTER + 18.0;
        };
        for fate in [
            Fate::Success,
            Fate::Failure,
            Fate::Killed,
            Fate::Alive,
            Fate::Unknown,
        ] {
            let lives = self.timeline.lives.iter();
            let count = lives.filter(|life| life.fate() == fate).count();
            if count != 0 {
                let name = match fate {
                    Fate::Success => "exit 0",
                    Fate::Failure => "other exit code",
                    Fate::Killed => "killed by a signal",
                    Fate::Alive => "still alive",
                    Fate::Unknown => "end not seen",
                };
                entry(format!("{name}: {count}"), Some((class(fate), 11.0)));
            }
        }
        let shorts = self.layout.items.iter().filter_map(|item| match item.what {
            What::Short(short) => Some(short.count),
            What::Life(_) => None,
        });
        let (marks, short) = shorts.fold((0, 0), |(marks, sum), count| (marks + 1, sum + count));
        if short != 0 {
            let limit = time::span(self.layout.shortest_ns);
            let marks = if marks == 1 { "mark" } else { "marks" };
            entry(
                format!("low {marks}: {short} that lived less than {limit}, by their start"),
                Some(("unseen", 6.0)),
            );
        }
        if self
            .timeline
            .lives
            .iter()
            .any(|life| !life.execs.is_empty())
        {
            entry("| exec".into(), None);
        }
        group
    }

    /// Lines at round times, through the curve and the rows.
    fn axis(&self, bottom: f64) -> Group {
        let length = self.timeline.length_ns();
        let step = time::step(length, (self.width / 90.0) as u64);
        let mut lines = Data::new();
        let mut group = Group::new();
        let ticks = std::iter::successors(Some(0_u64), |ns| ns.checked_add(step));
        for ns in ticks.take_while(|ns| *ns <= length) {
            let x = self.x(ns);
            lines = lines
                .move_to((sharp(x), CURVE.0))
                .vertical_line_to(px(bottom));
            let label = time::tick(ns, step, length);
            // The last label ends with the picture.
            let x = (x + 3.0).min(self.width - label.width() as f64 * CHARACTER - 2.0);
            group = group.add(dim(&label, x, CURVE.0 + CURVE.1 + 14.0));
        }
        Group::new()
            .add(Path::new().set("class", "grid").set("d", lines))
            .add(group)
    }

    /// How many lived at a time: the mean as an area, the maximum as a line.
    fn curve(&self) -> Group {
        let count = (self.width - 2.0 * MARGIN) as usize;
        let lives = self.timeline.parallelism();
        let parts = lives.parts(self.timeline.length_ns(), count);
        let most = lives.most().max(1);
        let (top, height) = CURVE;
        let y = |alive: f64| px(top + height - alive / most as f64 * height);
        let mut area = Data::new().move_to((px(MARGIN), y(0.0)));
        let mut line = Data::new();
        let mut last = None;
        for (part, (mean, maximum)) in parts.iter().enumerate() {
            let x = px(MARGIN + part as f64);
            let here = (y(*mean), y(*maximum as f64));
            // Equal neighbours are one line.
            match last {
                None => line = line.move_to((x, here.1)),
                Some((_, before)) if before != here.1 => {
                    line = line.horizontal_line_to(x).vertical_line_to(here.1);
                }
                Some(_) => {}
            }
            if last.is_none_or(|(before, _)| before != here.0) {
                area = area.horizontal_line_to(x).vertical_line_to(here.0);
            }
            last = Some(here);
        }
        let right = px(MARGIN + count as f64);
        area = area
            .horizontal_line_to(right)
            .vertical_line_to(y(0.0))
            .close();
        line = line.horizontal_line_to(right);
        let label = format!("alive at a time: line up to {most}, area on average");
        Group::new()
            .add(Path::new().set("class", "mean").set("d", area))
            .add(Path::new().set("class", "most").set("d", line))
            .add(dim(&label, MARGIN + 3.0, top - 4.0))
    }

    /// Lines from bars down to those that hang from them.
    fn kinship(&self) -> Path {
        let mut lines = Data::new();
        for item in &self.layout.items {
            // Marks stand close to theirs, and are many.
            if let (What::Life(_), Some(under)) = (item.what, item.under) {
                let parent = &self.layout.items[under];
                lines = lines
                    .move_to((
                        sharp(self.x(item.start_ns)),
                        px(self.y(parent.row) + self.bar_height()),
                    ))
                    .vertical_line_to(px(self.y(item.row) + 1.0));
            }
        }
        Path::new().set("class", "kin").set("d", lines)
    }

    /// How far it is from the end of each item to the next one in its row, pixels.
    fn room(&self) -> Vec<f64> {
        let items = &self.layout.items;
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_unstable_by_key(|&place| (items[place].row, items[place].start_ns));
        let mut room: Vec<f64> = items
            .iter()
            .map(|item| self.width - MARGIN - self.x(item.end_ns))
            .collect();
        for pair in order.windows(2) {
            let [left, right] = [&items[pair[0]], &items[pair[1]]];
            if left.row == right.row {
                room[pair[0]] = self.x(right.start_ns) - self.x(left.end_ns);
            }
        }
        room
    }

    fn bar(&self, item: &Item, index: usize, room: f64) -> Group {
        let life = &self.timeline.lives[index];
        let (x, y) = (self.x(item.start_ns), self.y(item.row));
        let width = self.x(item.end_ns) - x;
        let height = self.bar_height();
        // A hair of paper keeps neighbours apart.
        let drawn = if width > 4.0 {
            width - 1.0
        } else {
            width.max(1.0)
        };
        let mut bar =
            rectangle(x, y, drawn, height).set("class", format!("bar {}", class(life.fate())));
        if width > 4.0 {
            bar = bar.set("rx", 2);
        } else {
            // The frame of a thin bar would be wider than the bar.
            bar = bar.set("stroke-width", 0.3);
        }
        let mut group = Group::new().add(title(self.describe(index))).add(bar);
        let mut ticks = Data::new();
        let mut last = x;
        for exec in &life.execs {
            let at = exec.at_ns.clamp(self.timeline.from_ns, self.timeline.to_ns);
            let tick = self.x(at - self.timeline.from_ns);
            if tick >= last + 3.0 && tick < x + drawn {
                ticks = ticks
                    .move_to((px(tick), px(y + 1.0)))
                    .vertical_line_to(px(y + height - 1.0));
                last = tick;
            }
        }
        if last > x {
            group = group.add(Path::new().set("class", "exec").set("d", ticks));
        }
        if self.row < TEXT_ROW {
            return group;
        }
        let baseline = y + height - 4.0;
        let whole = label(life);
        let inside = width - 8.0;
        if let Some(label) = fitting(&whole, inside).filter(|label| {
            // A word that is cut says less than a whole one beside the bar.
            label.width() >= life.name.width().min(6) || room < inside
        }) {
            group = group.add(text(&label, x + 4.0, baseline));
        } else if let Some(label) = fitting(&whole, (room - 6.0).min(BESIDE))
            && label.width() >= life.name.width().min(6)
        {
            group = group.add(dim(&label, x + width + 3.0, baseline));
        }
        group
    }

    fn mark(&self, item: &Item, short: Short) -> Group {
        let Short {
            count,
            longest_ns,
            fate,
        } = short;
        let (x, y) = (self.x(item.start_ns), self.y(item.row));
        let width = (self.x(item.end_ns) - x).max(1.0);
        let height = self.bar_height();
        let described = match count {
            1 => format!("1 short process: {}", time::span(longest_ns)),
            _ => format!(
                "{count} short processes: {} at most",
                time::span(longest_ns)
            ),
        };
        Group::new().add(title(described)).add(
            rectangle(x, y + height * 0.3, (width - 0.6).max(1.0), height * 0.5)
                .set("class", format!("bar {}", class(fate)))
                .set("stroke-width", 0.5),
        )
    }

    /// All there is to know about a process.
    fn describe(&self, index: usize) -> String {
        let life = &self.timeline.lives[index];
        let (start, end) = self.timeline.interval(index);
        let (command, more) = cut(&life.command, self.most_command);
        let length = life
            .end
            .as_ref()
            .map_or(self.timeline.to_ns, |end| end.at_ns)
            .saturating_sub(life.start_ns);
        let mut lines = format!("{} {command}{more}\n{}", life.pid, life.exit());
        // Writing to a String does not fail.
        let _ = write!(lines, " after {}", time::span(length));
        if life.cpu_ns != 0 {
            let share = life.cpu_ns as f64 / (end - start).max(1) as f64 * 100.0;
            let _ = write!(lines, ", {} of CPU ({share:.0} %)", time::span(life.cpu_ns));
        }
        let _ = write!(lines, "\nfrom {} to {}", time::span(start), time::span(end));
        if life.start_ns < self.timeline.from_ns {
            lines.push_str(" (it is older)");
        }
        if let Some(parent) = self.timeline.parent(index) {
            let parent = &self.timeline.lives[parent];
            let (name, more) = cut(&parent.name, NAME);
            let _ = write!(lines, "\nparent {} {name}{more}", parent.pid);
        }
        let _ = write!(lines, "\nuid {}", life.uid);
        for exec in life.execs.iter().take(EXECS) {
            let at = exec.at_ns.saturating_sub(self.timeline.from_ns);
            let (name, more) = cut(&exec.name, NAME);
            let _ = write!(lines, "\nexec {name}{more} at {}", time::span(at));
        }
        if let Some(more) = life
            .execs
            .len()
            .checked_sub(EXECS)
            .filter(|more| *more != 0)
        {
            let _ = write!(lines, "\n{more} more execs");
        }
        lines
    }
}

fn class(fate: Fate) -> &'static str {
    match fate {
        Fate::Success => "ok",
        Fate::Alive => "alive",
        Fate::Unknown => "unseen",
        Fate::Failure => "failed",
        Fate::Killed => "killed",
    }
}

/// The name of a program and its arguments; how it ended, if not well.
fn label(life: &Life) -> String {
    let arguments = life.command.split_once(' ').map_or("", |(_, rest)| rest);
    let name = match life.fate() {
        Fate::Success | Fate::Alive | Fate::Unknown => life.name.clone(),
        Fate::Failure | Fate::Killed => format!("{} ✗ {}", life.name, life.exit()),
    };
    if arguments.is_empty() {
        name
    } else {
        format!("{name} {arguments}")
    }
}

/// At most so many bytes of a text, and a sign if that is not all of it.
fn cut(text: &str, most: usize) -> (&str, &'static str) {
    if text.len() <= most {
        (text, "")
    } else {
        (&text[..text.floor_char_boundary(most)], "…")
    }
}

/// As much of a text as fits, with a sign that it was cut; `None` if that is hardly anything.
fn fitting(text: &str, room: f64) -> Option<String> {
    let most = (room / CHARACTER).max(0.0) as usize;
    if text.len() <= most || text.width() <= most {
        return Some(text.to_owned());
    }
    if most < 4 {
        return None;
    }
    let mut cut = String::new();
    let mut width = 1;
    for character in text.chars() {
        width += unicode_width::UnicodeWidthChar::width(character).unwrap_or(1);
        if width > most {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    Some(cut)
}

/// Without the characters that XML has no way to write.
fn clean(text: &str) -> String {
    let legal = |character: char| match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => !character.is_control(),
    };
    text.chars()
        .map(|character| {
            if legal(character) {
                character
            } else {
                '\u{fffd}'
            }
        })
        .collect()
}

fn text(content: &str, x: f64, y: f64) -> Element {
    let mut text = around("text", content);
    text.assign("x", px(x));
    text.assign("y", px(y));
    text
}

fn dim(content: &str, x: f64, y: f64) -> Element {
    let mut text = text(content, x, y);
    text.assign("class", "dim");
    text
}

/// What a browser shows of the element around it, on hovering.
fn title(content: impl AsRef<str>) -> Element {
    around("title", content.as_ref())
}

/// An element around a text, without the line ends that [`svg::node::element::Text`] adds.
fn around(name: &str, content: &str) -> Element {
    let mut element = Element::new(name);
    element.append(svg::node::Text::new(clean(content)));
    element
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("x", px(x))
        .set("y", px(y))
        .set("width", px(width))
        .set("height", px(height))
}

/// In tenths of a pixel: more digits are bytes that nobody sees.
fn px(value: f64) -> f32 {
    ((value * 10.0).round() / 10.0) as f32
}

/// In the middle of a pixel, where a thin line is sharp.
fn sharp(value: f64) -> f32 {
    (value.floor() + 0.5) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roxmltree::{Document, Node};

    use super::*;
    use crate::{Exec, How, samples};

    /// Class, x and width of the bars, from top to bottom.
    fn bars(document: &Document<'_>) -> Vec<(String, f64, f64)> {
        let number = |node: &Node<'_, '_>, name| node.attribute(name).unwrap().parse().unwrap();
        let bars = document.descendants().filter_map(|node| {
            let class = node.attribute("class")?.strip_prefix("bar ")?;
            Some((class.to_owned(), number(&node, "x"), number(&node, "width")))
        });
        bars.collect()
    }

    fn texts(document: &Document<'_>, tag: &str) -> Vec<String> {
        let nodes = document.descendants().filter(|node| node.has_tag_name(tag));
        nodes
            .filter_map(|node| node.text().map(str::to_owned))
            .collect()
    }

    fn build() -> Timeline {
        let mut lives = vec![
            samples::life(1, None, 0, 1_000_000_000),
            samples::life(2, Some(0), 100_000_000, 400_000_000),
            samples::life(3, Some(0), 400_000_000, 700_000_000),
            samples::life(4, Some(0), 800_000_000, 800_001_000),
            samples::life(5, Some(0), 900_000_000, 0),
        ];
        lives[1].end.as_mut().unwrap().how = How::Code(2);
        lives[1].cpu_ns = 150_000_000;
        lives[2].end.as_mut().unwrap().how = How::Signal("SIGSEGV".into());
        lives[2].execs = vec![Exec {
            at_ns: 500_000_000,
            name: "cc1".into(),
        }];
        lives[4].end = None;
        Timeline::new("make -j8", lives, 0, 1_000_000_000)
    }

    #[test]
    fn each_life_is_a_bar_of_its_length_and_colour() {
        let settings = Settings {
            width: 1032,
            ..Settings::default()
        };
        let svg = build().svg(&settings);
        let document = Document::parse(&svg).unwrap();
        let wanted = [
            ("ok", 16.0, 999.0),
            ("failed", 116.0, 299.0),
            ("killed", 416.0, 299.0),
            ("alive", 916.0, 99.0),
            ("ok", 814.0, 2.4),
        ];
        let wanted = wanted.map(|(class, x, width)| (class.to_owned(), x, width));
        assert_eq!(bars(&document), wanted);

        let text = texts(&document, "text").join("\n");
        for wanted in [
            "make -j8",
            "5 processes in 1 s · 150 ms of CPU · 1.7 alive on average, 2 at most",
            "exit 0: 2",
            "killed by a signal: 1",
            "low mark: 1 that lived less than 1 ms, by their start",
            "p2 ✗ exit 2 --now",
            "0.2 s",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        let titles = texts(&document, "title");
        assert_eq!(
            titles[2],
            "2 p2 --now\nexit 2 after 300 ms, 150 ms of CPU (50 %)\n\
             from 100 ms to 400 ms\nparent 1 p1\nuid 0"
        );
        assert!(titles[3].ends_with("exec cc1 at 500 ms"), "{}", titles[3]);
        let exec = document
            .descendants()
            .find(|node| node.attribute("class") == Some("exec"));
        assert!(exec.unwrap().attribute("d").unwrap().starts_with("M516,"));
    }

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        let mut life = samples::life(1, None, 0, 1000);
        life.name = "</text><script>".into();
        life.command = "a\u{0}\u{1b}\u{ffff}]]>&amp; \"b\" 漢字".into();
        let svg = Timeline::new("<&\u{8}", vec![life.clone()], 0, 1000).svg(&Settings::default());
        let document = Document::parse(&svg).unwrap();
        assert_eq!(texts(&document, "title")[0], "<&\u{fffd}");
        let described = &texts(&document, "title")[1];
        let command = "a\u{fffd}\u{fffd}\u{fffd}]]>&amp; \"b\" 漢字";
        assert!(
            described.starts_with(&format!("1 {command}\n")),
            "{described}"
        );
        assert!(
            texts(&document, "text")
                .iter()
                .any(|text| text.starts_with(&life.name))
        );
        assert!(
            !document
                .descendants()
                .any(|node| node.has_tag_name("script"))
        );
    }

    #[test]
    fn a_text_is_cut_to_its_room() {
        assert_eq!(fitting("make", 100.0).as_deref(), Some("make"));
        assert_eq!(
            fitting("make all", 6.0 * CHARACTER + 1.0).as_deref(),
            Some("make …")
        );
        assert_eq!(
            fitting("漢字漢字", 6.0 * CHARACTER + 1.0).as_deref(),
            Some("漢字…")
        );
        assert_eq!(fitting("make", 3.0 * CHARACTER), None);
    }

    #[test]
    fn whatever_there_is_the_picture_is_bounded() {
        let mut lives = vec![samples::life(1, None, 0, 1 << 40)];
        lives[0].name = "n".repeat(100_000);
        for pid in 0..20_000_u64 {
            let start = pid << 20;
            let mut life = samples::life(pid as u32 + 2, Some(0), start, start + (pid << 22));
            life.command = format!("cc {}", "x".repeat(1_000));
            life.execs = vec![Exec {
                at_ns: start,
                name: "é".repeat(1_000),
            }];
            lives.push(life);
        }
        let svg = Timeline::new("", lives, 0, 1 << 40).svg(&Settings::default());
        let document = Document::parse(&svg).unwrap();
        assert!(bars(&document).len() <= 8_000);
        assert!(svg.len() < 12 << 20, "{}", svg.len());
        let height: f64 = document
            .root_element()
            .attribute("height")
            .unwrap()
            .parse()
            .unwrap();
        assert!(height < 33_000.0, "{height}");
    }

    proptest! {
        #[test]
        fn any_lives_make_a_picture(lives in samples::lives(), length in 0..2000_u64, max_bars in 1..90_usize) {
            let settings = Settings { max_bars, ..Settings::default() };
            let svg = Timeline::new("any", lives.clone(), 100, 100 + length).svg(&settings);
            let document = Document::parse(&svg).unwrap();
            prop_assert!(bars(&document).len() <= lives.len());
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf\""));
            for (_, x, width) in bars(&document) {
                prop_assert!(x >= 16.0 && x + width <= 1200.0, "{x} {width}");
            }
        }
    }
}
