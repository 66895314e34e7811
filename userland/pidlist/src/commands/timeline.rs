//! `pidlist timeline`.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pidlist_process_cache::{Cache, Change, Key, Process, What, clock};
use pidlist_timeline::{End, Exec, How, Life, Settings, Timeline};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::cli::{self, Picture};
use crate::filter;
use crate::output::{self, Advice, Answer};
use crate::session::Session;
use crate::view::{self, Summary, signal_name};

/// What `timeline --json` prints beside the picture.
#[derive(Serialize)]
struct Document {
    /// Those in the picture.
    processes: usize,
    length_ns: u64,
    /// Of those in the picture, while they were watched.
    cpu_ns: u64,
    mean_alive: f64,
    most_alive: u64,
    summary: Summary,
}

/// Most execs noted: a picture of so many shows nothing.
const MOST_EXECS: usize = 1 << 18;
/// Most bytes of a name: a program is called what it likes.
const NAME: usize = 255;

/// The programs each process began to run, and when.
#[derive(Default)]
struct Execs {
    of: HashMap<Key, Vec<Exec>>,
    noted: usize,
    /// Beyond [`MOST_EXECS`].
    left_out: usize,
}

/// Where the picture goes.
enum Destination {
    Stdout,
    /// A device or a pipe, say.
    Special(File),
    /// A file beside it, which takes its place when the picture is whole: until then, an old one is kept.
    File(NamedTempFile, PathBuf),
}

pub fn run(timeline: &cli::Timeline, json: bool) -> anyhow::Result<Answer> {
    let (format, destination) = destination(timeline, json)?;
    let observe = &timeline.observe;
    // Without a path, stdout is for the picture.
    let keep_stdout = json || matches!(destination, Destination::Stdout);
    let mut session = Session::open(observe.source, true)?;
    let mut execs = Execs::default();
    // A command is a child of this process; without a wish, all processes are in the picture.
    let head = match observe.until_exit {
        None if !observe.command.is_empty() => Some(std::process::id()),
        until_exit => until_exit,
    };
    let spent_before: HashMap<Key, u64> = session
        .collector
        .cache()
        .iter()
        .map(|process| (process.key(), cpu_ns(process)))
        .collect();
    let began_ns = clock::boottime_ns();
    session.observe(observe, keep_stdout, true, &mut |change, cache| {
        execs.note(change, cache, head);
        Ok(())
    })?;
    let ended_ns = clock::boottime_ns();
    // Events tell what the dead have spent, a walk what the living have.
    session
        .collector
        .walk(&mut |_, _| ())
        .context("following the processes")?;

    let cache = session.collector.cache();
    let command = session.command.as_ref();
    let head = match (command, observe.until_exit) {
        (Some(command), _) => filter::started(cache, command.pid),
        (None, Some(pid)) => cache.by_pid(pid).map(Process::key),
        (None, None) => None,
    };
    let (keys, from_ns) = match head {
        Some(head) if command.is_some() => (family(cache, head), head.start_ns.max(began_ns)),
        Some(head) => (family(cache, head), began_ns),
        // Polling may have missed it altogether.
        None if command.is_some() => (Vec::new(), began_ns),
        None => (changed(cache, began_ns), began_ns),
    };
    let shortest_ns = timeline
        .min
        .map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX));
    let keys = match format {
        Picture::Svg => keys,
        Picture::Json => keys
            .into_iter()
            .filter(|key| {
                let process = cache.get(*key);
                process.is_some_and(|process| lived_ns(process, ended_ns) >= shortest_ns)
            })
            .collect(),
    };
    let lives = lives(cache, &keys, &mut execs.of, &spent_before);
    let picture = Timeline::new(title(observe), lives, from_ns, ended_ns);

    if execs.left_out > 0 {
        eprintln!("pidlist: note: {} execs are not shown", execs.left_out);
    }
    let to = timeline.output.as_deref().unwrap_or(Path::new("stdout"));
    let put = |mut out: &mut dyn Write| write(&mut out, &picture, format, shortest_ns);
    destination
        .write(put)
        .with_context(|| format!("writing {}", to.display()))?;
    report(&picture, Summary::new(&session), json, keep_stdout)
}

/// What to write, and where to: opened before anything runs, for a build takes long.
fn destination(timeline: &cli::Timeline, json: bool) -> anyhow::Result<(Picture, Destination)> {
    let path = timeline.output.as_deref().filter(|path| *path != "-");
    let Some(path) = path else {
        let what = if json {
            "--json prints a summary to standard output, where the picture was to go"
        } else if timeline.output.is_none() && io::stdout().is_terminal() {
            "standard output is a terminal, which shows no pictures"
        } else {
            let format = timeline.format.unwrap_or(Picture::Svg);
            return Ok((format, Destination::Stdout));
        };
        return Err(Advice {
            what: what.into(),
            hint: "name a file: -o build.svg, or -o build.json for Perfetto".into(),
            source: None,
        }
        .into());
    };
    let suffix = path.extension().unwrap_or_default().to_ascii_lowercase();
    let format = match (timeline.format, suffix.to_str()) {
        (Some(format), _) => format,
        (None, Some("svg")) => Picture::Svg,
        (None, Some("json")) => Picture::Json,
        (None, _) => {
            return Err(Advice {
                what: format!("cannot tell a format from the name {}", path.display()),
                hint: "name it .svg or .json, or give --format".into(),
                source: None,
            }
            .into());
        }
    };
    let destination =
        Destination::open(path).with_context(|| format!("creating {}", path.display()))?;
    Ok((format, destination))
}

impl Destination {
    fn open(path: &Path) -> io::Result<Self> {
        let path = match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let options = OpenOptions::new().write(true).open(path)?;
                return Ok(Self::Special(options));
            }
            // A link stays one.
            Ok(_) => path.canonicalize()?,
            Err(_) => path.into(),
        };
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".pidlist-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory.unwrap_or(Path::new(".")))?;
        Ok(Self::File(file, path))
    }

    fn write(self, put: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Stdout => put(&mut output::stdout()),
            Self::Special(file) => put(&mut io::BufWriter::new(file)),
            Self::File(mut file, path) => {
                put(&mut io::BufWriter::new(&mut file))?;
                file.persist(path)?;
                Ok(())
            }
        }
    }
}

impl Execs {
    /// Notes an exec of the process of the pid `head` or of a descendant; of any process, without one.
    fn note(&mut self, change: &Change, cache: &Cache, head: Option<u32>) {
        if change.what != What::Executed {
            return;
        }
        let mut line = std::iter::successors(Some(change.key), |key| cache.lineage(*key));
        if head.is_some_and(|head| line.all(|key| key.tgid != head)) {
            return;
        }
        if self.noted == MOST_EXECS {
            self.left_out += 1;
        } else if let Some(process) = cache.get(change.key) {
            self.noted += 1;
            self.of.entry(change.key).or_default().push(Exec {
                at_ns: change.time_ns,
                name: name(process),
            });
        }
    }
}

/// A process and its descendants, parents before their children.
fn family(cache: &Cache, head: Key) -> Vec<Key> {
    let mut keys = vec![head];
    keys.extend(cache.descendants(head));
    keys
}

/// Who came or went since then, and their ancestors; parents before their children.
fn changed(cache: &Cache, since_ns: u64) -> Vec<Key> {
    let mut wanted = HashSet::new();
    for process in cache.iter() {
        let is_new = process.key().start_ns >= since_ns;
        if is_new || process.exit.is_some_and(|exit| exit.noticed_ns >= since_ns) {
            let line = std::iter::successors(Some(process.key()), |key| cache.lineage(*key));
            // Whoever is there already has its ancestors there.
            for key in line.take_while(|key| cache.get(*key).is_some()) {
                if !wanted.insert(key) {
                    break;
                }
            }
        }
    }
    let is_root = |key: &Key| {
        cache
            .lineage(*key)
            .is_none_or(|parent| !wanted.contains(&parent))
    };
    let mut keys: Vec<Key> = wanted.iter().copied().filter(is_root).collect();
    keys.sort_unstable();
    let mut next = 0;
    while let Some(&key) = keys.get(next) {
        let children = cache.children(key).map(Process::key);
        keys.extend(children.filter(|child| wanted.contains(child)));
        next += 1;
    }
    keys
}

/// Those processes as a timeline takes them; the children of one that is left out belong to its parent.
fn lives(
    cache: &Cache,
    keys: &[Key],
    execs: &mut HashMap<Key, Vec<Exec>>,
    spent_before: &HashMap<Key, u64>,
) -> Vec<Life> {
    let index: HashMap<Key, usize> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| (*key, at))
        .collect();
    let processes = keys.iter().filter_map(|key| cache.get(*key));
    processes
        .map(|process| {
            let key = process.key();
            let mut ancestors =
                std::iter::successors(cache.lineage(key), |key| cache.lineage(*key));
            Life {
                pid: key.tgid,
                parent: ancestors.find_map(|key| index.get(&key).copied()),
                start_ns: key.start_ns,
                end: process.exit.map(|exit| End {
                    at_ns: exit.time_ns.unwrap_or(exit.noticed_ns),
                    how: match (exit.code(), exit.signal()) {
                        (Some(code), _) => How::Code(code),
                        (None, Some(signal)) => How::Signal(
                            signal_name(signal)
                                .map_or_else(|| format!("signal {signal}"), str::to_owned),
                        ),
                        (None, None) => How::Unknown,
                    },
                }),
                execs: execs.remove(&key).unwrap_or_default(),
                name: name(process),
                command: view::command(process),
                uid: process.seen.ids.uid,
                cpu_ns: cpu_ns(process)
                    .saturating_sub(spent_before.get(&key).copied().unwrap_or(0)),
            }
        })
        .collect()
}

/// The last part of its first argument, or what the kernel calls it.
fn name(process: &Process) -> String {
    let image = process.image.as_deref();
    let first = image.and_then(|image| image.args().next());
    let name = first.and_then(|first| first.rsplit(|byte| *byte == b'/').next());
    let name = name
        .filter(|name| !name.is_empty())
        .unwrap_or(process.comm());
    output::text(&name[..name.len().min(NAME)])
}

fn cpu_ns(process: &Process) -> u64 {
    process.seen.usage.utime_ns + process.seen.usage.stime_ns
}

fn lived_ns(process: &Process, now_ns: u64) -> u64 {
    process.lifetime_ns(now_ns).unwrap_or(u64::MAX)
}

fn title(observe: &cli::Observe) -> String {
    if observe.command.is_empty() {
        return match observe.until_exit {
            Some(pid) => format!("process {pid} and its descendants"),
            None => "all that came or went".into(),
        };
    }
    let words = observe
        .command
        .iter()
        .map(|word| output::text(word.as_encoded_bytes()));
    words.collect::<Vec<_>>().join(" ")
}

fn write(out: &mut dyn Write, picture: &Timeline, format: Picture, min_ns: u64) -> io::Result<()> {
    match format {
        Picture::Svg => {
            let settings = Settings {
                min_ns,
                ..Settings::default()
            };
            out.write_all(picture.svg(&settings).as_bytes())?;
        }
        Picture::Json => serde_json::to_writer(&mut *out, &picture.trace())?,
    }
    writeln!(out)?;
    out.flush()
}

fn report(
    picture: &Timeline,
    summary: Summary,
    json: bool,
    keep_stdout: bool,
) -> anyhow::Result<Answer> {
    let length_ns = picture.length_ns();
    let alive = picture.parallelism();
    let document = Document {
        processes: picture.lives().len(),
        length_ns,
        cpu_ns: picture.cpu_ns(),
        mean_alive: alive.mean(length_ns),
        most_alive: alive.most(),
        summary,
    };
    if json {
        return output::json(&document);
    }
    let line = format!(
        "{} processes in {}, {} of CPU; {:.1} alive on average, {} at most; machine: {}",
        document.processes,
        output::span(length_ns),
        output::span(document.cpu_ns),
        document.mean_alive,
        document.most_alive,
        document.summary.line()
    );
    if keep_stdout {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
    Ok(Answer::Yes)
}
