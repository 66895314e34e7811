//! Every process on a Linux machine, the short-lived ones included.
//!
//! The binary holds no logic of its own: a subcommand reads its arguments, calls a library, prints.

mod cli;
mod columns;
mod commands;
mod filter;
mod link;
mod machine;
mod names;
mod output;
mod picture;
mod session;
mod view;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    output::exit(commands::run())
}
