//! Several passes, one behind the other, each over what the one before it made.
//!
//! A pass that refuses, or breaks, changes nothing: the next one takes what that one was given. Each says what came
//! of it. A new pass is a row of [`PASSES`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::interrupt;
use super::prelink::{self, PrelinkBounds};
use super::report::PassReport;
use super::state;

/// A pass, as it is called by name.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Its name, for jobs, lists and logs.
    pub name: &'static str,
    /// Goes up whenever it makes other bytes of some component than before: images made with it are then made anew.
    pub revision: u32,
    run: fn(&[u8]) -> Result<Changed, PassReport>,
}

/// What a pass made.
struct Changed {
    component: Vec<u8>,
    /// What became of it, in figures.
    detail: String,
}

/// All passes.
const PASSES: &[Pass] = &[
    Pass { name: "prelink", revision: prelink::REVISION, run: run_prelink },
    Pass { name: "state", revision: state::REVISION, run: run_state },
    Pass { name: "interrupt", revision: interrupt::REVISION, run: run_interrupt },
];

/// The pass of that name.
pub fn known(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|pass| pass.name == name)
}

/// What tells images apart that were made with other passes, or with other revisions of them.
pub fn revision(passes: &[&Pass]) -> String {
    let each: Vec<_> = passes.iter().map(|pass| format!("{} {}", pass.name, pass.revision)).collect();
    if each.is_empty() { "no passes".to_owned() } else { each.join(", ") }
}

/// Applies `passes` in their order: the component they made, if any of them made one, and what came of each.
pub fn apply(component: &[u8], passes: &[&Pass]) -> (Option<Vec<u8>>, Vec<PassReport>) {
    let mut made: Option<Vec<u8>> = None;
    let mut reports = Vec::with_capacity(passes.len());
    for pass in passes {
        let current = made.as_deref().unwrap_or(component);
        // A pass must not panic; if one does all the same, the component is served as it was.
        let outcome = catch_unwind(AssertUnwindSafe(|| (pass.run)(current)));
        reports.push(match outcome {
            Ok(Ok(changed)) => {
                made = Some(changed.component);
                PassReport::applied(pass.name, &changed.detail)
            }
            Ok(Err(refused)) => refused,
            Err(_panic) => PassReport::refused(pass.name, "panicked", "internal: the pass broke off"),
        });
    }
    (made, reports)
}

fn run_prelink(component: &[u8]) -> Result<Changed, PassReport> {
    match prelink::prelink(component, &PrelinkBounds::default()) {
        Ok(prelinked) => Ok(Changed { component: prelinked.bytes, detail: prelinked.figures.to_string() }),
        Err(refusal) => Err(PassReport::refused("prelink", refusal.name(), &refusal.to_string())),
    }
}

fn detail_of_state(stated: &state::Stated) -> String {
    format!(
        "{} globals of {} core modules, {} memories can be put back",
        stated.globals, stated.modules, stated.memories
    )
}

fn run_state(component: &[u8]) -> Result<Changed, PassReport> {
    match state::add_state_calls(component) {
        Ok(stated) => {
            let detail = detail_of_state(&stated);
            Ok(Changed { component: stated.component, detail })
        }
        Err(refusal) => Err(PassReport::refused("state", refusal.name(), &refusal.to_string())),
    }
}

fn detail_of_interrupt(checked: &interrupt::Checked) -> String {
    format!(
        "{} loops, {} indirect calls, {} calls in circles and {} long stretches look at a flag",
        checked.loops, checked.indirect, checked.circles, checked.stretches
    )
}

fn run_interrupt(component: &[u8]) -> Result<Changed, PassReport> {
    match interrupt::add_checks(component) {
        Ok(checked) => {
            let detail = detail_of_interrupt(&checked);
            Ok(Changed { component: checked.component, detail })
        }
        Err(refusal) => Err(PassReport::refused("interrupt", refusal.name(), &refusal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: Pass = Pass { name: "broken", revision: 3, run: |_| panic!("this is a test") };
    const MARK: Pass = Pass {
        name: "mark",
        revision: 1,
        run: |bytes| Ok(Changed { component: [bytes, b"!"].concat(), detail: "1 byte more".to_owned() }),
    };

    #[test]
    fn a_pass_that_breaks_or_refuses_changes_nothing() {
        let prelink = known("prelink").unwrap();
        let (made, reports) = apply(b"no component", &[prelink, &MARK, &BROKEN, &MARK]);
        assert_eq!(made.as_deref(), Some(&b"no component!!"[..]));
        let refusals: Vec<_> = reports.iter().map(|report| report.refusal.as_deref()).collect();
        assert_eq!(refusals, [Some("invalid_component"), None, Some("panicked"), None]);
        let (made, reports) = apply(b"x", &[&BROKEN]);
        assert_eq!((made, reports.len()), (None, 1));
    }

    #[test]
    fn images_are_told_apart_by_passes_and_their_revisions() {
        assert_eq!(revision(&[]), "no passes");
        assert_eq!(revision(&[&BROKEN, &MARK]), "broken 3, mark 1");
        assert!(known("no-such-pass").is_none());
    }
}
