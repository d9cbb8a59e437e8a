//! Runs one row of the regression guard and prints how many packets counted; without a name, tells the names. Meant to be watched
//! by valgrind: `pnat-perf compare`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use pnat_scenes::rows::{ROWS, Row};

fn main() -> ExitCode {
    let name = env::args().nth(1);
    let told = match name.as_deref().map(Row::named) {
        Some(Some(row)) => writeln!(io::stdout(), "{}", row.run()),
        Some(None) => return ExitCode::from(2),
        None => ROWS.iter().try_for_each(|row| writeln!(io::stdout(), "{}", row.name)),
    };
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
