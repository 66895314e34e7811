//! `pidlist daemon`.

use crate::cli::Daemon;
use crate::output::Answer;

pub fn run(daemon: &Daemon) -> anyhow::Result<Answer> {
    pidlist_daemon::run(&daemon.settings.0)?;
    Ok(Answer::Yes)
}
