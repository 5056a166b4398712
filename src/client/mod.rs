//! Commands that talk to a running node.

use std::process::ExitCode;

use crate::cli::meaning::Command;
use crate::cli::output::Output;

pub(crate) fn run(output: &Output, command: Command) -> ExitCode {
    let _ = command;
    output.error("not yet", "soon");
    ExitCode::FAILURE
}
