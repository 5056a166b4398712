//! Names that users meet and look up: each has its place in a page.

use std::fs;

use forerun_gateway::Refusal;
use forerun_types::{Draw, LEARNING_MODES, NoCopy, NoRoom, Outcome, RollbackRefusal, VmDiscard, WarmRefusal};

use crate::pages::Page;
use crate::support::repository;

#[test]
fn every_refusal_is_explained_with_its_status() {
    let page = Page::read("docs/troubleshooting.md");
    for refusal in Refusal::ALL {
        let row = format!("| {} | `{}` |", refusal.status().as_u16(), refusal.label());
        assert!(page.text.contains(&row), "docs/troubleshooting.md has no row that begins with {row}");
    }
}

/// What stands in the first column of the tables of messages, cut at `...`, stands in the code as well.
#[test]
fn every_message_that_is_explained_is_one_of_ours() {
    let code = said_by_the_code();
    let page = Page::read("docs/troubleshooting.md");
    let mut in_messages = false;
    let (mut unknown, mut messages) = (Vec::new(), 0);
    for (number, line) in page.prose() {
        match line.strip_prefix("| ") {
            None => in_messages &= line.starts_with("|-"),
            Some(row) if row.starts_with("message |") => in_messages = true,
            Some(row) if in_messages => {
                messages += 1;
                let message = row.split('`').nth(1).unwrap_or_default();
                let strange = message.split("...").map(str::trim).find(|part| !code.contains(part));
                unknown.extend(strange.map(|part| format!("docs/troubleshooting.md:{number}: `{part}`")));
            }
            Some(_) => {}
        }
    }
    assert!(unknown.is_empty(), "nothing in the code says this:\n{}", unknown.join("\n"));
    assert!(messages > 30, "only {messages} messages were found");
}

/// `path/of/file.rs::name_of_a_test`.
#[test]
fn every_test_that_a_page_names_exists() {
    let (mut missing, mut named) = (Vec::new(), 0);
    for page in Page::for_users() {
        for (line, span) in page.code_spans() {
            let Some((file, test)) = span.split_once("::").filter(|(file, _)| file.ends_with(".rs")) else { continue };
            named += 1;
            let text = fs::read_to_string(repository(file)).unwrap_or_default();
            if !text.contains(&format!("fn {test}(")) {
                missing.push(format!("{}:{line}: {span}", page.path));
            }
        }
    }
    assert!(missing.is_empty(), "these tests do not exist:\n{}", missing.join("\n"));
    assert!(named > 50, "only {named} tests are named");
}

/// All sources as one text: without backquotes, which a page cannot show inside of others, and with long texts joined.
fn said_by_the_code() -> String {
    let mut code = String::new();
    let mut folders = vec![repository("src"), repository("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let joined: Vec<&str> =
        code.split("\\\n").enumerate().map(|(at, part)| if at > 0 { part.trim_start() } else { part }).collect();
    joined.concat().replace('`', "").replace("\\\\", "\\").replace("\\\"", "\"")
}

#[test]
fn every_outcome_mode_and_reason_is_explained() {
    let explain = Page::read("docs/explain.md");
    for outcome in Outcome::ALL {
        let row = format!("| `{}` |", outcome.label());
        assert!(explain.text.contains(&row), "docs/explain.md has no row that begins with {row}");
    }
    let tuning = Page::read("docs/tuning.md");
    for mode in LEARNING_MODES {
        let row = format!("| `{}` |", mode.label());
        assert!(tuning.text.contains(&row), "docs/tuning.md has no row that begins with {row}");
    }
    for why in NO_ROOM {
        let row = format!("| `{}` |", why.label());
        assert!(explain.text.contains(&row), "docs/explain.md has no row that begins with {row}");
    }
    let (cold, not_warm, no_copy) = (refusals(), not_warm(), no_copy());
    let labels = cold.iter().map(RollbackRefusal::label).chain(not_warm.iter().map(WarmRefusal::label));
    let labels = labels.chain(no_copy.iter().map(NoCopy::label));
    for label in labels {
        let row = format!("| `{label}` |");
        assert!(explain.text.contains(&row), "docs/explain.md has no row that begins with {row}");
    }
}

const NO_ROOM: [NoRoom; 6] = [
    NoRoom::NoAllocator,
    NoRoom::Trapped,
    NoRoom::HostCalled,
    NoRoom::ColdCode,
    NoRoom::NotEnough,
    NoRoom::NotRolledBack,
];

/// One of each. A new one does not compile here until it is added to both lists.
fn refusals() -> Vec<RollbackRefusal> {
    let detail = String::new;
    vec![
        RollbackRefusal::Kernel { detail: detail() },
        RollbackRefusal::Tasks,
        RollbackRefusal::OwnResources,
        RollbackRefusal::Instruction { name: "table.set" },
        RollbackRefusal::SharedMemory,
        RollbackRefusal::Unprepared,
        RollbackRefusal::TooLarge { bytes: 2, max: 1 },
        RollbackRefusal::HostCalledAtStart,
        RollbackRefusal::StartsDiffer,
        RollbackRefusal::AlwaysDiscarded { last: VmDiscard::Failed },
        RollbackRefusal::CheckFailed,
        RollbackRefusal::Unreadable { detail: detail() },
    ]
}

/// One of each, as above.
fn not_warm() -> Vec<WarmRefusal> {
    vec![
        WarmRefusal::Drew { what: Draw::Time },
        WarmRefusal::Failed { detail: String::new() },
        WarmRefusal::AnswersDiffer { request: String::new(), after: 0 },
        WarmRefusal::HandlesKept,
        WarmRefusal::StatesDiffer,
        WarmRefusal::Discarded { why: VmDiscard::HandlesLeft },
        WarmRefusal::CheckFailed,
        WarmRefusal::TookTooLong { max_ms: 1 },
        WarmRefusal::NoState { why: Box::new(RollbackRefusal::Tasks) },
    ]
}

/// One of each, as above.
fn no_copy() -> Vec<NoCopy> {
    vec![NoCopy::StreamsOpen, NoCopy::HostCalledAtStart, NoCopy::NotAlike, NoCopy::Failed { detail: String::new() }]
}

#[test]
fn the_list_of_refusals_is_whole() {
    let listed = |refusal: &RollbackRefusal| match refusal {
        RollbackRefusal::Kernel { .. }
        | RollbackRefusal::Tasks
        | RollbackRefusal::OwnResources
        | RollbackRefusal::Instruction { .. }
        | RollbackRefusal::SharedMemory
        | RollbackRefusal::Unprepared
        | RollbackRefusal::TooLarge { .. }
        | RollbackRefusal::HostCalledAtStart
        | RollbackRefusal::StartsDiffer
        | RollbackRefusal::AlwaysDiscarded { .. }
        | RollbackRefusal::CheckFailed
        | RollbackRefusal::Unreadable { .. } => true,
    };
    assert!(refusals().iter().all(listed));
    let listed = |refusal: &WarmRefusal| match refusal {
        WarmRefusal::Drew { .. }
        | WarmRefusal::Failed { .. }
        | WarmRefusal::AnswersDiffer { .. }
        | WarmRefusal::HandlesKept
        | WarmRefusal::StatesDiffer
        | WarmRefusal::Discarded { .. }
        | WarmRefusal::CheckFailed
        | WarmRefusal::TookTooLong { .. }
        | WarmRefusal::NoState { .. } => true,
    };
    assert!(not_warm().iter().all(listed));
    let listed = |why: &NoCopy| match why {
        NoCopy::StreamsOpen | NoCopy::HostCalledAtStart | NoCopy::NotAlike | NoCopy::Failed { .. } => true,
    };
    assert!(no_copy().iter().all(listed));
    let listed = |why: NoRoom| match why {
        NoRoom::NoAllocator
        | NoRoom::Trapped
        | NoRoom::HostCalled
        | NoRoom::ColdCode
        | NoRoom::NotEnough
        | NoRoom::NotRolledBack => true,
    };
    assert!(NO_ROOM.into_iter().all(listed));
}
