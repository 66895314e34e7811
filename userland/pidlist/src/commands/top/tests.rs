use pidlist_process_cache::{Image, ImageSource, Precision, Settings, Sighting};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::{Side, draw};
use super::state::{Act, Entry, FADE_NS, Fold, Mode, Sort, State};
use pidlist_process_cache::{Cache, Key};

const SECOND: u64 = 1_000_000_000;

/// A machine whose processes do as a test says.
struct Machine {
    cache: Cache,
    now_ns: u64,
    state: State,
}

impl Machine {
    /// Init and a shell below it, and the first frame.
    fn new() -> Self {
        let mut machine = Self {
            cache: Cache::new(Settings::default()),
            now_ns: SECOND,
            state: State::default(),
        };
        let init = machine.fork(1, None);
        machine.fork(10, Some(init));
        machine.frame();
        machine
    }

    fn sighting(&self, key: Key, parent: Option<Key>) -> Sighting {
        let mut sighting = Sighting::new(key, Precision::Nanosecond);
        sighting.parent = parent;
        sighting.comm[..4].copy_from_slice(b"task");
        sighting
    }

    fn fork(&mut self, tgid: u32, parent: Option<Key>) -> Key {
        self.now_ns += 1;
        let start_ns = self.now_ns;
        let key = Key { start_ns, tgid };
        let sighting = self.sighting(key, parent);
        self.cache.on_fork(self.now_ns, &sighting, parent);
        key
    }

    fn exec(&mut self, key: Key, command: &str) {
        self.now_ns += 1;
        let mut block: Vec<u8> = command.replace(' ', "\0").into();
        block.push(0);
        let parent = self.cache.get(key).and_then(|process| process.seen.parent);
        let sighting = self.sighting(key, parent);
        let image = Image::new(ImageSource::Exec, None, block.into());
        self.cache.on_exec(self.now_ns, &sighting, image);
    }

    fn exit(&mut self, key: Key, status: u32, cpu_ns: u64) {
        self.now_ns += 1;
        let parent = self.cache.get(key).and_then(|process| process.seen.parent);
        let mut sighting = self.sighting(key, parent);
        sighting.dead = true;
        sighting.exit_status = Some(status);
        sighting.usage.utime_ns = cpu_ns;
        self.cache.on_exit(self.now_ns, &sighting);
    }

    fn shell(&self) -> Key {
        self.cache.by_pid(10).unwrap().key()
    }

    /// A second later.
    fn frame(&mut self) {
        self.now_ns = self.now_ns.next_multiple_of(SECOND);
        self.state.update(&self.cache, 0, self.now_ns);
    }

    fn press(&mut self, code: KeyCode) -> Act {
        self.state.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn write(&mut self, text: &str) {
        for character in text.chars() {
            self.press(KeyCode::Char(character));
        }
    }

    /// The pids in the list, ghosts below zero.
    fn pids(&self) -> Vec<i64> {
        let entries = &self.state.frame.entries;
        let pid = |entry: &Entry| match entry {
            Entry::Living(living) => i64::from(living.key.tgid),
            Entry::Ghosts(ghosts) => -i64::from(ghosts.last.tgid),
        };
        self.state
            .rows
            .iter()
            .map(|row| pid(&entries[row.entry]))
            .collect()
    }

    fn screen(&mut self, width: u16, height: u16) -> String {
        self.draw(width, height).backend().to_string()
    }

    fn draw(&mut self, width: u16, height: u16) -> Terminal<TestBackend> {
        let mut side = Side::new("bpf", true);
        side.lists = Ok(vec![("web".into(), 12, 4096)]);
        side.slabs = Ok(vec![("dentry".into(), 1 << 20)]);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| draw(frame, &mut self.state, &side))
            .unwrap();
        terminal
    }
}

#[test]
fn who_came_and_went_between_two_frames_is_shown_and_fades() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    for (pid, status) in [(100, 0), (101, 0), (102, 3 << 8)] {
        let child = machine.fork(pid, Some(shell));
        machine.exec(child, "/usr/bin/cc -c /tmp/a.c");
        machine.exit(child, status, 100_000_000);
    }
    machine.frame();
    assert_eq!(machine.pids(), [1, 10, -102]);
    let (count, failed, cpu) = match &machine.state.frame.entries[machine.state.rows[2].entry] {
        Entry::Ghosts(ghosts) => (ghosts.count, ghosts.failed, ghosts.cpu),
        Entry::Living(_) => panic!("it is dead"),
    };
    assert_eq!((count, failed), (3, 1));
    assert!((0.29..0.31).contains(&cpu), "{cpu}");
    assert_eq!(machine.state.frame.rates.forks.round(), 3.0);
    let screen = machine.screen(100, 20);
    let row = screen
        .lines()
        .find(|line| line.contains("✝ cc -c /tmp/a.c"))
        .unwrap();
    assert!(
        row.contains("×3") && row.contains("1 bad") && row.contains("30.0"),
        "{row}"
    );

    machine.now_ns += 1;
    machine.frame();
    assert_eq!(machine.pids(), [1, 10, -102]);
    assert_eq!(machine.state.frame.entries[2].cpu(), 0.0, "it counts once");
    machine.now_ns += FADE_NS;
    machine.frame();
    assert_eq!(machine.pids(), [1, 10]);
}

#[test]
fn the_dead_hang_from_whoever_lives() {
    let mut machine = Machine::new();
    let make = machine.fork(20, Some(machine.shell()));
    let compiler = machine.fork(21, Some(make));
    machine.exit(compiler, 0, 0);
    machine.exit(make, 0, 0);
    machine.frame();
    // One name, below one living process: together.
    assert_eq!(machine.pids(), [1, 10, -20]);
}

#[test]
fn cpu_is_what_was_spent_since_the_frame_before() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    for (spent_ns, wanted) in [(250_000_000, 0.25), (750_000_000, 0.5)] {
        let mut seen = machine.sighting(shell, None);
        seen.usage.utime_ns = spent_ns;
        machine.now_ns += 1;
        machine.cache.preload(&seen, machine.now_ns);
        machine.frame();
        let shell = machine
            .state
            .frame
            .entries
            .iter()
            .find(|entry| entry.key() == shell);
        let cpu = shell.unwrap().cpu();
        assert!((cpu - wanted).abs() < 0.01, "{cpu}");
    }
}

#[test]
fn a_tree_folds_and_keeps_the_selection() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    let child = machine.fork(20, Some(shell));
    machine.fork(30, Some(child));
    machine.frame();
    assert_eq!(machine.pids(), [1, 10, 20, 30]);
    machine.press(KeyCode::End);
    assert_eq!(machine.state.selected().unwrap().1.key().tgid, 30);
    machine.press(KeyCode::Left);
    assert_eq!(
        machine.state.selected().unwrap().1.key().tgid,
        20,
        "to its parent"
    );
    machine.press(KeyCode::Up);
    machine.press(KeyCode::Left);
    assert_eq!(machine.pids(), [1, 10]);
    assert_eq!(machine.state.rows[1].fold, Some(Fold::Closed(2)));
    assert!(machine.screen(80, 24).contains("▸ (+2) (task)"));
    machine.fork(5, machine.cache.by_pid(1).map(|init| init.key()));
    machine.frame();
    assert_eq!(machine.pids(), [1, 5, 10], "still closed");
    assert_eq!(machine.state.selected().unwrap().1.key().tgid, 10);
    machine.press(KeyCode::Right);
    assert_eq!(machine.pids(), [1, 5, 10, 20, 30]);
    machine.press(KeyCode::Char('-'));
    assert_eq!(machine.pids(), [1, 5, 10]);
    machine.press(KeyCode::Char('+'));
    assert_eq!(machine.pids().len(), 5);
}

#[test]
fn the_top_of_the_list_stays_selected_whoever_is_there() {
    let mut machine = Machine::new();
    machine.write("t");
    for (orders, top) in [("", 1), ("ss", 10)] {
        machine.write(orders);
        assert_eq!(machine.state.selected, 0);
        assert_eq!(machine.state.selected().unwrap().1.key().tgid, top);
    }
    machine.fork(20, None);
    machine.frame();
    assert_eq!(machine.state.selected().unwrap().1.key().tgid, 20);
    machine.press(KeyCode::Down);
    machine.fork(30, None);
    machine.frame();
    assert_eq!(
        machine.state.selected().unwrap().1.key().tgid,
        10,
        "chosen by hand"
    );
}

#[test]
fn a_filter_keeps_those_above_and_escape_ends_it() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    for (pid, command) in [(20, "vi Notes"), (30, "make all")] {
        let child = machine.fork(pid, Some(shell));
        machine.exec(child, command);
    }
    machine.frame();
    machine.write("/NOTESq");
    assert_eq!(machine.state.mode, Mode::Filter);
    assert!(machine.pids().is_empty(), "q is a letter here");
    machine.press(KeyCode::Backspace);
    assert_eq!(machine.pids(), [1, 10, 20]);
    machine.press(KeyCode::Enter);
    assert!(machine.screen(80, 24).contains("only “NOTES”"));
    machine.write("t");
    assert_eq!(machine.pids(), [20], "a flat list has none above");
    machine.press(KeyCode::Esc);
    assert_eq!(machine.pids().len(), 4);
    machine.write("/30");
    assert_eq!(machine.pids(), [30]);
}

#[test]
fn a_pause_is_one() {
    let mut machine = Machine::new();
    machine.write(" ");
    let shell = machine.shell();
    machine.fork(20, Some(shell));
    machine.frame();
    assert_eq!(machine.pids(), [1, 10]);
    assert!(machine.screen(80, 24).contains("paused"));
    machine.write(" ");
    machine.frame();
    assert_eq!(machine.pids(), [1, 10, 20]);
}

#[test]
fn each_order_is_what_it_says() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    for (pid, command, cpu_ns, kib) in [(30, "b", 1, 7), (20, "c", 300, 5), (40, "a", 20, 9)] {
        let child = machine.fork(pid, Some(shell));
        machine.exec(child, command);
        let mut seen = machine.sighting(child, Some(shell));
        seen.usage.utime_ns = cpu_ns * 1_000_000;
        seen.usage.maxrss_kib = kib;
        machine.now_ns += 1;
        machine.cache.preload(&seen, machine.now_ns);
    }
    machine.frame();
    machine.write("t");
    let mut orders = Vec::new();
    for _ in 0..5 {
        let pids = machine.pids().into_iter().filter(|pid| *pid >= 20);
        orders.push((machine.state.sort, pids.collect::<Vec<_>>()));
        machine.write("s");
    }
    assert_eq!(
        orders,
        [
            (Sort::Cpu, vec![20, 40, 30]),
            (Sort::Peak, vec![40, 30, 20]),
            (Sort::Newest, vec![40, 20, 30]),
            (Sort::Pid, vec![20, 30, 40]),
            (Sort::Command, vec![40, 30, 20]),
        ]
    );
}

#[test]
fn it_ends_by_q_and_by_control_c_and_by_nothing_else() {
    let mut machine = Machine::new();
    assert_eq!(machine.press(KeyCode::Char('k')), Act::Stay);
    assert_eq!(machine.press(KeyCode::Char('c')), Act::Stay);
    assert_eq!(machine.press(KeyCode::Esc), Act::Stay);
    assert_eq!(machine.press(KeyCode::Char('q')), Act::Quit);
    machine.write("/");
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(machine.state.press(control_c), Act::Quit);
}

#[test]
fn a_screen_has_all_of_it() {
    let mut machine = Machine::new();
    machine.frame();
    let screen = machine.screen(130, 30);
    for wanted in [
        "2 alive  lost 0  repaired 0  source bpf",
        "forks 0/s",
        "PID",
        "PEAK",
        "tree by cpu, 2 of 2",
        "lists in the kernel",
        "web",
        "4.0 KiB",
        "dentry",
        "1.0 MiB",
        "q quit",
    ] {
        assert!(screen.contains(wanted), "{wanted} in\n{screen}");
    }
    machine.write("?");
    assert!(
        machine
            .screen(130, 30)
            .contains("show or hide its children")
    );
    machine.write("x");
    machine.press(KeyCode::Enter);
    assert!(machine.screen(130, 30).contains("alive for "));
}

#[test]
fn a_tiny_screen_shows_the_list() {
    let mut machine = Machine::new();
    let screen = machine.screen(20, 6);
    assert!(
        screen.contains("2 alive") && screen.contains("task"),
        "{screen}"
    );
    assert!(!screen.contains("dentry"));
}

#[test]
fn the_selected_row_is_in_sight() {
    let mut machine = Machine::new();
    let shell = machine.shell();
    for pid in 100..200 {
        machine.fork(pid, Some(shell));
    }
    machine.frame();
    machine.screen(80, 24);
    machine.press(KeyCode::PageDown);
    machine.press(KeyCode::PageDown);
    let pid = machine.state.selected().unwrap().1.key().tgid.to_string();
    assert!(machine.screen(80, 24).contains(&pid));
    machine.press(KeyCode::End);
    assert!(machine.screen(80, 24).contains("199"));
    machine.press(KeyCode::Home);
    assert!(machine.screen(80, 24).contains("tree by cpu"));
    assert_eq!(machine.state.offset, 0);
}

#[test]
fn a_long_chain_is_drawn_no_deeper_than_a_screen() {
    let mut machine = Machine::new();
    let mut last = machine.shell();
    for pid in 100..2000 {
        last = machine.fork(pid, Some(last));
    }
    machine.frame();
    let rows = &machine.state.rows;
    assert_eq!(rows.len(), 1902);
    assert!(
        rows.iter()
            .all(|row| row.branch.chars().count() <= 2 * 128 + 2)
    );
    machine.screen(80, 24);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_size_and_no_key_breaks_it(
        steps in prop::collection::vec((0..140_u16, 0..60_u16, 0..19_usize, any::<bool>()), 1..20)
    ) {
        const KEYS: [KeyCode; 19] = [
            KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::PageUp,
            KeyCode::PageDown, KeyCode::Home, KeyCode::End, KeyCode::Enter, KeyCode::Esc,
            KeyCode::Backspace, KeyCode::Char('s'), KeyCode::Char('t'), KeyCode::Char('/'),
            KeyCode::Char('?'), KeyCode::Char(' '), KeyCode::Char('+'), KeyCode::Char('-'),
            KeyCode::Char('1'),
        ];
        let mut machine = Machine::new();
        let shell = machine.shell();
        let mut last = shell;
        for (width, height, key, dies) in steps {
            let child = machine.fork(u32::from(width) + 100, Some(last));
            if dies {
                machine.exit(child, 9, 5);
            } else {
                last = child;
            }
            machine.frame();
            machine.press(KEYS[key]);
            machine.draw(width, height);
            let rows = &machine.state.rows;
            prop_assert!(machine.state.selected < rows.len().max(1));
            let mut shown: Vec<usize> = rows.iter().map(|row| row.entry).collect();
            shown.sort_unstable();
            shown.dedup();
            prop_assert_eq!(shown.len(), rows.len(), "nobody is shown twice");
        }
    }
}
