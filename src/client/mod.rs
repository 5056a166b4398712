//! Commands that talk to a running node, over its admin API.
//!
//! In the order of the flow: `find` says where the node is and with which token, `api` speaks HTTP with it and turns
//! its problems into errors with a hint, and each command has a file of its own. Nothing here knows how a node works
//! inside, so that the node may be on another machine; `doctor` alone looks at this one.

mod answers;
mod api;
mod code_paths;
mod deploy;
mod doctor;
mod error;
mod explain;
mod export;
mod find;
mod functions;
mod images;
mod invoke;
mod learning;
mod local;
mod logs;
mod profile;
mod revisions;
#[cfg(test)]
mod testing;
mod text;
mod top;

use std::io;
use std::process::ExitCode;

use crate::cli::environment::Environment;
use crate::cli::meaning::{Command, Connection};
use crate::cli::output::Output;
use crate::cli::paths;

use api::Api;
use error::ClientError;

/// What became of a command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// All is well.
    Well,
    /// The work is done, and what it found is not well: exit with this code.
    Code(u8),
}

/// Carries out a command that talks to a node, and says what became of it.
pub(crate) fn run(output: &Output, command: Command) -> ExitCode {
    match carry_out(output, command) {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::Code(code)) => ExitCode::from(code),
        // Whoever read our output has seen enough of it.
        Err(ClientError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(ClientError::Manifest(error)) => {
            output.manifest_error(&error);
            ExitCode::FAILURE
        }
        Err(error) => {
            output.error(&error.to_string(), &error.hint());
            ExitCode::FAILURE
        }
    }
}

fn carry_out(output: &Output, command: Command) -> Result<Done, ClientError> {
    let well = |()| Done::Well;
    match command {
        Command::Deploy(connection, wanted) => deploy::deploy(output, &connect(&connection)?, wanted).map(well),
        Command::Functions(connection) => functions::list(output, &connect(&connection)?).map(well),
        Command::Revisions(connection, name) => revisions::list(output, &connect(&connection)?, &name).map(well),
        Command::Rollback(connection, name, to) => {
            revisions::rollback(output, &connect(&connection)?, &name, to).map(well)
        }
        Command::Remove(connection, name, consent) => {
            functions::remove(output, &connect(&connection)?, &name, consent).map(well)
        }
        Command::Logs(connection, wanted) => logs::logs(output, &connect(&connection)?, &wanted).map(well),
        Command::Images(connection, of) => images::list(output, &connect(&connection)?, of.as_ref()).map(well),
        Command::Invoke(connection, request) => invoke::invoke(output, &connect(&connection)?, request),
        Command::Explain(connection, id) => explain::explain(output, &connect(&connection)?, id).map(well),
        Command::Predict(connection, name) => explain::predict(output, &connect(&connection)?, &name).map(well),
        Command::Expect(connection, name, seconds) => {
            learning::expect(output, &connect(&connection)?, &name, seconds).map(well)
        }
        Command::Learning(connection, switch) => learning::learning(output, &connect(&connection)?, switch).map(well),
        Command::Export(connection, wanted) => export::export(output, &connect(&connection)?, &wanted).map(well),
        Command::Top(connection, frames) => top::top(output, &connect(&connection)?, frames).map(well),
        Command::Calls(connection) => learning::calls(output, &connect(&connection)?).map(well),
        Command::Paths(connection, wanted) => code_paths::show(output, &connect(&connection)?, &wanted).map(well),
        Command::Profile(connection, name) => profile::show(output, &connect(&connection)?, &name).map(well),
        Command::Doctor(connection) => doctor::doctor(output, &connection, &Environment::of_process()),
        Command::Up(_) | Command::Serve(_) | Command::Replay(_) | Command::Split(_) | Command::Completions(_) => {
            Err(ClientError::NotOurs)
        }
    }
}

/// The node of a command.
fn connect(connection: &Connection) -> Result<Api, ClientError> {
    let user_folder = paths::of_user(&Environment::of_process()).ok();
    let found = find::find(connection, user_folder.as_deref())?;
    Ok(Api::new(found.url, found.token))
}
