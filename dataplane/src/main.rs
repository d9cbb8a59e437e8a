//! The `pnat` binary.

use std::process::ExitCode;

use pnat_dataplane::cli;
use pnat_dataplane::filters::Kinds;

fn main() -> ExitCode {
    cli::main(Kinds::default())
}
