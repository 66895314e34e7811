//! Settings, as flags: one for each in [`SETTINGS`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};
use pidlist_config::{DEFAULT_FILE, SETTINGS, Sources};

/// `daemon`.
#[derive(Debug, Args)]
pub struct Daemon {
    #[command(flatten)]
    pub settings: Settings,
}

/// `config`.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the settings: exit 0 nothing, 1 something, 2 could not read them
    Check(ConfigCheck),
    /// Show every setting, where it comes from, and what it does; the output is a file of settings
    Show(Settings),
}

/// `config check`.
#[derive(Debug, Args)]
pub struct ConfigCheck {
    /// Check this file instead of the one that would be read, without the environment
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings that were given by flags.
#[derive(Clone, Debug)]
pub struct Settings(pub Sources);

const FILE: &str = "config";

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!("Read settings from this file [default: {DEFAULT_FILE}, if there]"))
            .long_help(format!(
                "Read settings from this file [default: {DEFAULT_FILE}, if there] [env: PIDLIST_CONFIG]\n\n\
                 A flag overrules the file, and a variable of the environment overrules a flag"
            ));
        SETTINGS.iter().fold(command.arg(file), |command, setting| {
            command.arg(
                Arg::new(setting.key)
                    .long(setting.key)
                    .value_name("VALUE")
                    .value_parser(value_parser!(OsString))
                    .allow_hyphen_values(true)
                    .help(setting.help)
                    .long_help(format!(
                        "{}: {} [env: {}]",
                        setting.help,
                        (setting.expected)(),
                        setting.variable
                    ))
                    .help_heading("Settings"),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let file = matches.get_one::<PathBuf>(FILE).cloned();
        let given = SETTINGS.iter().filter_map(|setting| {
            let value = matches.get_one::<OsString>(setting.key)?;
            Some((setting, value.clone()))
        });
        Ok(Self(Sources::of_process(file, given.collect())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
