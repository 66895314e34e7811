//! `pidlist config`.

use std::io::Write as _;

use anyhow::Context as _;
use pidlist_config::{Complaint, Error, Origin, Sources, Toml};
use serde::Serialize;

use crate::cli::{Config, ConfigCheck, ConfigCommand, Settings};
use crate::output::{self, Answer};

/// A setting of `config show --json`.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'static str,
    /// As it would stand in the file.
    value: Toml,
    from: &'a Origin,
    help: &'static str,
}

/// `config check --json`.
#[derive(Serialize)]
struct Checked<'a> {
    /// `null` if there is none.
    file: Option<String>,
    wrong: &'a [Complaint],
    /// What looks like a mistake, but may be meant for another program.
    doubtful: &'a [Complaint],
}

pub fn run(config: &Config, json: bool) -> anyhow::Result<Answer> {
    match &config.command {
        ConfigCommand::Check(wish) => check(wish, json),
        ConfigCommand::Show(settings) => show(settings, json),
    }
}

fn check(wish: &ConfigCheck, json: bool) -> anyhow::Result<Answer> {
    let sources = match &wish.file {
        Some(file) => Sources {
            file: Some(file.clone()),
            flags: wish.settings.0.flags.clone(),
            environment: Vec::new(),
        },
        None => wish.settings.0.clone(),
    };
    let (file, wrong, doubtful) = match sources.load() {
        Ok(config) => (config.file, Vec::new(), config.notes),
        Err(Error::Bad(wrong)) => (Some(sources.path().into()), wrong, Vec::new()),
        Err(error) => return Err(error).context("checking the settings"),
    };
    let file = file.map(|path| path.to_string_lossy().into_owned());
    if json {
        output::json(&Checked {
            file,
            wrong: &wrong,
            doubtful: &doubtful,
        })?;
    } else {
        let mut out = output::stdout();
        for complaint in &wrong {
            writeln!(out, "{complaint}")?;
        }
        for complaint in &doubtful {
            writeln!(out, "note: {complaint}")?;
        }
        if wrong.is_empty() {
            match file {
                Some(file) => writeln!(out, "{file}: good")?,
                None => writeln!(out, "no file of settings; flags and environment are good")?,
            }
        }
        out.flush()?;
    }
    Ok(wrong.is_empty().into())
}

fn show(settings: &Settings, json: bool) -> anyhow::Result<Answer> {
    let config = settings.0.load()?;
    if json {
        let shown = config.iter().map(|(setting, value, from)| Shown {
            key: setting.key,
            value,
            from,
            help: setting.help,
        });
        return output::json(&shown.collect::<Vec<_>>());
    }
    let mut out = output::stdout();
    for (setting, value, from) in config.iter() {
        writeln!(
            out,
            "# {}\n{} = {value} # {from}\n",
            setting.help, setting.key
        )?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}
