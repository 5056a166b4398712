//! The cases, one file each: a function from arguments to a report.

pub(crate) mod chain;
pub(crate) mod compile;
pub(crate) mod idle;
pub(crate) mod isolation;
pub(crate) mod overhead;
pub(crate) mod overload;
pub(crate) mod peers;
pub(crate) mod restart;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod soak;
pub(crate) mod trials;

use anyhow::{Result, bail, ensure};

use crate::arguments::Arguments;
use crate::binaries::{Binaries, version};
use crate::contenders::Contender;
use crate::server::Server;
use crate::subjects::Handler;

/// Those asked for that are there; who is absent is named on stderr.
fn present(binaries: &Binaries, arguments: &Arguments) -> Result<Vec<Contender>> {
    let (present, absent): (Vec<Contender>, Vec<Contender>) =
        arguments.contenders.iter().partition(|contender| contender.program(binaries).is_some());
    for contender in absent {
        crate::say(&format!("left out, not installed: {}", contender.label()));
    }
    ensure!(!present.is_empty(), "nobody to measure");
    Ok(present)
}

/// The one handler that was asked for; otherwise Python's, whose start can be felt and whose requests cost more than the
/// load does, where it is built.
fn one_handler(arguments: &Arguments) -> Result<Handler> {
    match arguments.languages.as_deref() {
        Some([one]) => Ok(*one),
        Some(_) => bail!("--language: one at a time"),
        None if Handler::Python.component().is_file() => Ok(Handler::Python),
        None => Ok(Handler::Rust),
    }
}

/// The order of a round: every other one goes backwards, so that what drifts on the machine hits all alike.
fn order(contenders: &[Contender], round: u32) -> Vec<Contender> {
    let mut order = contenders.to_vec();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Everyone must give the same answer, or their speeds mean nothing beside each other.
async fn check_answer(server: &Server, expected: &mut Option<Vec<u8>>) -> Result<()> {
    let answer = server.ask().await?;
    let label = server.label;
    ensure!(answer.status == server.status, "{label} answers {}", answer.status);
    let expected = expected.get_or_insert_with(|| answer.body.clone());
    ensure!(
        *expected == answer.body,
        "{label} answers {:?}, others {:?}",
        String::from_utf8_lossy(&answer.body),
        String::from_utf8_lossy(expected)
    );
    Ok(())
}

/// A line for each contender: name, what it is, and its version.
async fn legend(contenders: &[Contender], binaries: &Binaries) -> Vec<String> {
    let mut lines = Vec::new();
    for contender in contenders {
        let version = match (contender, contender.program(binaries)) {
            (Contender::Forerun | Contender::Peer | Contender::PeerTuned, Some(program)) => {
                format!(" ({})", version(program, "--version").await)
            }
            (Contender::Limit, _) | (_, None) => String::new(),
        };
        lines.push(format!("**{}**: {}{version}", contender.label(), contender.description()));
    }
    lines.push(format!("load: {}", version(&binaries.wrk, "--version").await));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate() {
        let contenders = [Contender::Forerun, Contender::Peer];
        assert_eq!(order(&contenders, 0), [Contender::Forerun, Contender::Peer]);
        assert_eq!(order(&contenders, 1), [Contender::Peer, Contender::Forerun]);
        assert_eq!(order(&contenders, 2), order(&contenders, 0));
    }
}
