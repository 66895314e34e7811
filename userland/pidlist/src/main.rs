//! Every process on a Linux machine, the short-lived ones included.
//!
//! The binary holds no logic of its own: a subcommand reads its arguments, calls a library, prints.

mod cli;
mod commands;
mod filter;
mod machine;
mod output;
mod session;
mod view;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    output::exit(commands::run())
}
