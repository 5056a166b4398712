//! The cold side of one split image at work: where the code of its groups is, and how often it was needed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use forerun_runtime::{CodeFrom, ColdCode, ColdSource, Miss, MissListener};
use serde::Serialize;

use crate::workshop::Parts;

/// One per split image that is loaded.
pub(super) struct Cold {
    groups: Arc<Parts>,
    /// Machine code of the groups, once it is made.
    code: OnceLock<Parts>,
    requests: AtomicU64,
    misses: AtomicU64,
    compiled: AtomicU64,
    waited_us: AtomicU64,
}

/// How a split image fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ColdCounts {
    /// Requests it has served.
    pub(crate) requests: u64,
    /// Groups that were loaded because a function was called that nobody expected.
    pub(crate) misses: u64,
    /// Those of them whose code had to be compiled while the request waited.
    pub(crate) compiled: u64,
    /// Time that requests waited for groups, in microseconds.
    pub(crate) waited_us: u64,
    /// Whether the groups' machine code is there.
    pub(crate) is_cold_code_ready: bool,
}

impl ColdCounts {
    /// Groups loaded for each thousand requests.
    pub(crate) fn misses_per_thousand(&self) -> f64 {
        self.misses as f64 * 1000.0 / self.requests.max(1) as f64
    }
}

impl Cold {
    pub(super) fn new(groups: Arc<Parts>) -> Self {
        Self {
            groups,
            code: OnceLock::new(),
            requests: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
        }
    }

    /// The code of the groups is there; it must be that of these groups.
    pub(super) fn publish(&self, code: Parts) {
        if code.parts.len() == self.groups.parts.len() {
            // Whoever was first has the same.
            let _ = self.code.set(code);
        }
    }

    /// Counts from nothing.
    pub(super) fn forget_counts(&self) {
        for count in [&self.requests, &self.misses, &self.compiled, &self.waited_us] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// A request is about to be served.
    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> ColdCounts {
        ColdCounts {
            requests: self.requests.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            compiled: self.compiled.load(Ordering::Relaxed),
            waited_us: self.waited_us.load(Ordering::Relaxed),
            is_cold_code_ready: self.code.get().is_some(),
        }
    }
}

impl ColdSource for Cold {
    fn code(&self, group: u32) -> ColdCode {
        let compiled = self.code.get().and_then(|code| Some((&code.file, code.parts.get(group as usize)?)));
        if let Some((file, bytes)) = compiled {
            return ColdCode::Image(Arc::clone(file), bytes.clone());
        }
        match self.groups.read(group) {
            Ok(module) => ColdCode::Source(module),
            Err(error) => ColdCode::Missing(error.to_string()),
        }
    }
}

impl MissListener for Cold {
    fn missed(&self, miss: Miss) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(miss.code_us + miss.link_us, Ordering::Relaxed);
        if miss.from == CodeFrom::Compiler {
            self.compiled.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(?miss, "cold code was called");
    }
}
