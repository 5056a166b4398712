//! The one binary: a node (`up`, `serve`), a command that talks to one, or one that needs none (`replay`, `split`).
//!
//! What was typed becomes a [`cli::meaning::Command`]; each is carried out by one module. Nothing is decided here.

mod cli;
mod client;
mod node;
mod replay;
mod running;
mod split;

use std::process::ExitCode;

use cli::meaning::{Command, Invocation};

/// Each request makes and frees a VM's worth of small objects on one of a few threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// First argument of the process that compiles; hidden, since only a node starts it.
const WORKER_ROLE: &str = "worker";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|role| role == WORKER_ROLE) {
        return forerun_specialize::worker_main(forerun_node::work);
    }
    match cli::parse() {
        Ok(invocation) => carry_out(invocation),
        Err(error) => {
            cli::output::Output::of_process().usage_error(&error);
            ExitCode::from(cli::EXIT_USAGE)
        }
    }
}

fn carry_out(Invocation { output, log, command }: Invocation) -> ExitCode {
    match command {
        Command::Replay(wanted) => replay::run(&output, &wanted),
        Command::Split(wanted) => split::run(&output, &wanted),
        Command::Up(up) => node::up(&output, &log, up),
        Command::Serve(settings) => node::serve(&output, &log, settings),
        Command::Completions(shell) => match cli::write_completions(shell, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_closed) => ExitCode::FAILURE,
        },
        command => client::run(&output, command),
    }
}
