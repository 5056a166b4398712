//! Every option of `forerun` that a page names exists, and belongs to the command it is shown with.

use std::collections::{BTreeMap, BTreeSet};

use crate::pages::Page;
use crate::reference::commands;

/// Options by command; those of all commands under the empty name.
type Options = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_option_that_a_page_names_exists() {
    let options: Options = commands().into_iter().map(|(name, help)| (name, options_of(&help))).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in Page::for_users() {
        let spans = page.code_spans().into_iter().map(|(line, span)| (line, span.to_owned()));
        for (line, text) in spans.chain(page.command_lines()) {
            for problem in problems(&text, &options, &mut seen) {
                wrong.push(format!("{}:{line}: {problem}", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "options or commands that do not exist:\n{}", wrong.join("\n"));
    assert!(seen > 30, "only {seen} options were found");
}

/// What is wrong with a piece of code; nothing if it is not about `forerun`.
fn problems(text: &str, options: &Options, seen: &mut usize) -> Vec<String> {
    let text = text.trim().trim_start_matches("$ ");
    if text.starts_with("--") {
        let name = option_name(text);
        *seen += 1;
        let known = options.values().any(|own| own.contains(name));
        return if known { Vec::new() } else { vec![format!("no command has `{name}`")] };
    }
    text.split(['|', ';', '&', '(']).flat_map(|command| of_command(command, options, seen)).collect()
}

fn of_command(command: &str, options: &Options, seen: &mut usize) -> Vec<String> {
    let mut words = command.split_whitespace().skip_while(|word| is_before_program(word)).peekable();
    if words.next().is_none_or(|program| program != "forerun" && !program.ends_with("/forerun")) {
        return Vec::new();
    }
    let words: Vec<&str> = words.take_while(|word| !word.starts_with('#') && *word != ">").collect();
    let all = &options[""];
    let Some(name) = words.iter().find(|word| !word.starts_with('-')) else { return Vec::new() };
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Vec::new();
    }
    let Some(own) = options.get(*name) else { return vec![format!("there is no command `{name}`")] };
    let named = words.iter().filter(|word| word.starts_with("--")).map(|word| option_name(word));
    let named: Vec<&str> = named.collect();
    *seen += named.len();
    let unknown = named.into_iter().filter(|option| !own.contains(*option) && !all.contains(*option));
    unknown.map(|option| format!("`forerun {name}` has no `{option}`")).collect()
}

/// Variables that are set for the program, and programs that run it.
fn is_before_program(word: &str) -> bool {
    *word == *"sudo" || *word == *"exec" || (word.contains('=') && !word.starts_with('-'))
}

fn option_name(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    &text[..end]
}

/// The long options that begin lines of a help text.
fn options_of(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.filter_map(|line| Some(option_name(&line[line.find("--")?..]).to_owned())).collect()
}

#[test]
fn what_does_not_exist_is_found() {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let options = Options::from([(String::new(), own(&["--json"])), ("logs".to_owned(), own(&["--lines"]))]);
    let check = |text: &str| problems(text, &options, &mut 0);
    for fine in
        ["forerun logs cart --lines 3 --json", "$ X=1 forerun logs a | grep --color x", "--lines=3", "cargo --z"]
    {
        assert!(check(fine).is_empty(), "{fine}: {:?}", check(fine));
    }
    for wrong in ["forerun log", "forerun logs --line", "--line", "true && forerun logs --line"] {
        assert_eq!(check(wrong).len(), 1, "{wrong}");
    }
    assert_eq!(
        options_of("Options:\n  -n, --lines <N>\n          text --not\n      --json\n"),
        own(&["--json", "--lines"])
    );
}
