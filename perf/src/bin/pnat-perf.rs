//! PNAT's load generator. Exit codes: 0 done, 1 failed, 2 the scenario or the command line is wrong (nothing was touched).

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use pnat_perf::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, the exit code alone has to say it.
            let _ = writeln!(io::stderr(), "{error:#}");
            pnat_perf::cli::exit_code(&error)
        }
    }
}
