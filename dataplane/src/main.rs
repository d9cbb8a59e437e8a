//! The `pnat` binary.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use pnat_dataplane::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, the exit code alone has to say it.
            let _ = writeln!(io::stderr(), "{error}");
            error.exit_code()
        }
    }
}
