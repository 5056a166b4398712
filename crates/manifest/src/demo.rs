//! `demo.toml`: how made-up visitors go through an application, for `forerun up --demo`.
//!
//! Steps and the chance of going from one to another; who has nowhere to go leaves. Nothing is sent here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Name of the file, beside the manifest.
pub const DEMO_FILE: &str = "demo.toml";
/// Bytes of the file; one that is written by hand has a few hundred.
const FILE_BYTES_MAX: u64 = 1 << 16;
/// Visitors at the same time: it is a demonstration, not a load test.
const VISITORS_MAX: u32 = 64;
/// Shortest pause, so that visitors stay people.
const PAUSE_MS_MIN: u64 = 10;

/// How visitors behave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    /// Visitors at the same time.
    pub visitors: u32,
    /// Shortest and longest pause between two requests of a visit.
    pub pause_ms: [u64; 2],
    /// Shortest and longest pause between two visits of one place.
    pub rest_ms: [u64; 2],
    /// The steps; a visit begins with the first.
    #[serde(rename = "step")]
    pub steps: Vec<DemoStep>,
}

/// One request of a visit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoStep {
    /// Name, for `then` of others.
    pub name: String,
    /// Method and path: `GET /cart`.
    pub request: String,
    /// Steps that may follow, each with its chance in per cent; what is missing to a hundred leaves.
    #[serde(default)]
    pub then: BTreeMap<String, u32>,
}

/// Why there is no demonstration.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It does not say what it should.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Demo {
    /// Reads the file beside a manifest.
    ///
    /// # Errors
    /// It is not there, too large, or wrong.
    pub fn load(folder: &Path) -> Result<Self, DemoError> {
        let path = folder.join(DEMO_FILE);
        let unreadable = |reason: String| DemoError::Read { path: path.clone(), reason };
        let bytes = std::fs::metadata(&path).map_err(|error| unreadable(error.to_string()))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(unreadable(format!("{bytes} bytes; at most {FILE_BYTES_MAX} are read")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text).map_err(|problem| DemoError::Wrong { path, problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let demo: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if !(1..=VISITORS_MAX).contains(&demo.visitors) {
            return Err(format!("`visitors` is {}; it may be 1 to {VISITORS_MAX}", demo.visitors));
        }
        for (name, [shortest, longest]) in [("pause_ms", demo.pause_ms), ("rest_ms", demo.rest_ms)] {
            if shortest < PAUSE_MS_MIN || longest < shortest {
                return Err(format!(
                    "`{name}` is [{shortest}, {longest}]: from {PAUSE_MS_MIN} up, the shorter one first"
                ));
            }
        }
        if demo.steps.is_empty() {
            return Err("no `[[step]]`".to_owned());
        }
        demo.steps.iter().try_for_each(|step| demo.check(step))?;
        Ok(demo)
    }

    fn check(&self, step: &DemoStep) -> Result<(), String> {
        let name = &step.name;
        if self.steps.iter().filter(|other| other.name == *name).count() > 1 {
            return Err(format!("two steps are named `{name}`"));
        }
        let is_request = step.request.split_once(' ').is_some_and(|(method, path)| {
            method.bytes().all(|byte| byte.is_ascii_uppercase()) && !method.is_empty() && path.starts_with('/')
        });
        if !is_request {
            return Err(format!("`request` of `{name}` is `{}`, not like `GET /path`", step.request));
        }
        if let Some(unknown) = step.then.keys().find(|next| self.steps.iter().all(|other| other.name != **next)) {
            return Err(format!("`{name}` goes to `{unknown}`, which is no step"));
        }
        match step.then.values().try_fold(0u32, |sum, chance| sum.checked_add(*chance)) {
            Some(0..=100) => Ok(()),
            Some(_) | None => Err(format!("the chances after `{name}` are more than 100 together")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        visitors = 2
        pause_ms = [100, 200]
        rest_ms = [100, 100]
        [[step]]
        name = "page"
        request = "GET /"
        then = { page = 40, buy = 20 }
        [[step]]
        name = "buy"
        request = "POST /checkout"
    "#;

    #[test]
    fn steps_and_chances_are_read() {
        let demo = Demo::parse(GOOD).unwrap();
        assert_eq!((demo.visitors, demo.steps.len(), demo.steps[0].then["buy"]), (2, 2, 20));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, says) in [
            ("visitors = 2", "visitors = 0", "visitors"),
            ("[100, 200]", "[200, 100]", "pause_ms"),
            ("rest_ms = [100, 100]", "rest_ms = [0, 1]", "rest_ms"),
            ("buy = 20", "sell = 20", "sell"),
            ("buy = 20", "buy = 80", "more than 100"),
            ("buy = 20", "buy = 4294967295", "more than 100"),
            ("GET /", "get /", "GET /path"),
            ("\"buy\"", "\"page\"", "two steps"),
            ("visitors", "visitor", "visitor"),
        ] {
            let error = Demo::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Demo::load(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/demo.toml"), "{error}");
    }
}
