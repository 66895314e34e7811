//! A file a subcommand; those about lists in the kernel are in `set/`.

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::output::{Answer, stdout};

mod ancestors;
mod audit;
mod config;
mod daemon;
mod doctor;
mod get;
mod history;
pub mod ps;
pub mod set;
mod slabs;
mod stats;
mod timeline;
mod top;
mod tree;
mod watch;

/// Parses the command line and does what it says.
pub fn run() -> anyhow::Result<Answer> {
    let cli = Cli::parse();
    let json = cli.json;
    match cli.command {
        Command::Ps(ps) => ps::run(&ps, json),
        Command::Tree(tree) => tree::run(&tree, json),
        Command::Get(get) => get::run(&get, json),
        Command::Ancestors(ancestors) => ancestors::run(&ancestors, json),
        Command::History(history) => history::run(&history, json),
        Command::Watch(watch) => watch::run(&watch, json),
        Command::Timeline(timeline) => timeline::run(&timeline, json),
        Command::Top(top) => top::run(&top, json),
        Command::Slabs(slabs) => slabs::run(&slabs, json),
        Command::Audit(audit) => audit::run(&audit, json),
        Command::Doctor => doctor::run(json),
        Command::Lists => set::lists::run(json),
        Command::Create(create) => set::create::run(&create, json),
        Command::Delete(delete) => set::delete::run(&delete, json),
        Command::Rules(rules) => set::rules::run(&rules, json),
        Command::Add(add) => set::add::run(&add, json),
        Command::Rm(rm) => set::rm::run(&rm, json),
        Command::Has(has) => set::has::run(&has, json),
        Command::List(list) => set::list::run(&list, json),
        Command::Clear(clear) => set::clear::run(&clear, json),
        Command::Follow(follow) => set::follow::run(&follow, json),
        Command::Stats(stats) => stats::run(&stats, json),
        Command::Events(events) => set::events::run(&events, json),
        Command::Daemon(daemon) => daemon::run(&daemon),
        Command::Config(config) => config::run(&config, json),
        Command::Completions(completions) => {
            let mut script = Vec::new();
            clap_complete::generate(
                completions.shell,
                &mut Cli::command(),
                "pidlist",
                &mut script,
            );
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            man(&mut page)?;
            print(&page)
        }
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<Answer> {
    use std::io::Write as _;
    let mut out = stdout();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// One page for all subcommands: theirs follow the main one as sections of options.
fn man(page: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut command = Cli::command();
    command.build();
    let main = clap_mangen::Man::new(command.clone());
    main.render(page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let man = clap_mangen::Man::new(sub.clone());
        writeln!(page, ".SH \"PIDLIST {}\"", sub.get_name().to_uppercase())?;
        let mut section = Vec::new();
        man.render_description_section(&mut section)?;
        man.render_synopsis_section(&mut section)?;
        man.render_options_section(&mut section)?;
        // Sections of the subcommand become its subsections.
        let section = String::from_utf8_lossy(&section).replace(".SH ", ".SS ");
        page.write_all(section.as_bytes())?;
    }
    Ok(())
}
