//! The command line, in two steps: what was typed ([`args`]), then what it means ([`meaning`]).
//!
//! Everything that can be refused without a node is refused here, with a hint; nothing is carried out. `--help` and
//! `--version` cannot fail: they are answered before anything is given meaning. Data goes to stdout, everything else
//! to stderr ([`output`]).

pub(crate) mod args;
pub(crate) mod environment;
pub(crate) mod meaning;
pub(crate) mod output;
pub(crate) mod paths;
pub(crate) mod table;
pub(crate) mod values;

use clap::{CommandFactory, Parser};

use args::Args;
use environment::Environment;
use meaning::Invocation;
use values::UsageError;

/// Exit code for a command line that makes no sense; the one clap uses.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Reads the command line of this process. Help, version and malformed arguments are printed and end the process.
///
/// # Errors
/// A well-formed command line that makes no sense, such as an address that is none.
pub(crate) fn parse() -> Result<Invocation, UsageError> {
    meaning::of(Args::parse(), &Environment::of_process())
}

/// Writes the completion script of a shell.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_completions(shell: clap_complete::Shell, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    // Through memory, because the generator panics when its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "forerun", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_explains_itself() {
        let mut root = Args::command();
        root.build();
        for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.len() > 10 && !about.ends_with('.'), "{name}: {about:?}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 5 && !help.ends_with('.'), "{name} {}: {help:?}", argument.get_id());
            }
            let text = command.clone().render_long_help().to_string();
            assert!(text.contains("Usage: forerun"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{name} is too wide:\n{text}");
        }
    }

    #[test]
    fn every_command_shows_an_example_that_parses() {
        let mut root = Args::command();
        root.build();
        for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("$ ")).collect();
            assert!(!examples.is_empty(), "{} has no example", command.get_name());
            for example in examples {
                let words = example.split_once(" > ").map_or(example, |(words, _)| words).split(' ');
                let words = words.map(|word| word.trim_matches('\''));
                if let Err(error) = Args::try_parse_from(words) {
                    panic!("{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn completions_are_written_for_each_shell() {
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            write_completions(*shell, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("rollback"), "{shell}");
        }
    }
}
