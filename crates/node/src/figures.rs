//! Figures that are counted elsewhere and asked for when the metrics are scraped.
//!
//! Labels are names of functions, which are bounded, or closed lists. Whoever is asked is held weakly: it may hold the
//! metrics itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use forerun_driver::Program;
use forerun_gateway::Gateway;
use forerun_telemetry::{GuestLogs, Live, Metrics};

use crate::functions::Functions;
use crate::learning::Learning;
use crate::splitting::Splitting;
use crate::vms::{VmCounts, VmTotals};
use crate::workshop::Workshop;

/// Lets the metrics ask for what the request path and the programs count.
pub(crate) fn watch(
    metrics: &Metrics,
    functions: &Arc<Functions>,
    gateway: &Gateway,
    logs: &Arc<GuestLogs>,
    workshop: Option<&Arc<Workshop>>,
) {
    let own = Arc::downgrade(functions);
    let pressure = move || own.upgrade().map(|functions| functions.pressure()).unwrap_or_default();
    let (in_flight, queued, served) = (pressure.clone(), pressure.clone(), pressure);
    metrics
        .provide_each(Live::InFlight, move || in_flight().into_iter().map(|(name, n, _)| (name, n as f64)).collect());
    metrics.provide_each(Live::Queued, move || queued().into_iter().map(|(name, _, n)| (name, n as f64)).collect());
    metrics.provide_one(Live::Functions, "", move || served().len() as f64);
    watch_vms(metrics, functions);
    watch_refusals(metrics, functions, gateway, workshop);
    let gateway = gateway.clone();
    metrics.provide_one(Live::Connections, "", move || gateway.counters().connections as f64);
    let logs = Arc::clone(logs);
    metrics.provide_one(Live::LogBytesDropped, "", move || as_figure(logs.dropped_bytes_total()));
}

/// What became of VMs is counted by the programs they belong to.
fn watch_vms(metrics: &Metrics, functions: &Arc<Functions>) {
    let (own, totals) = (Arc::downgrade(functions), Arc::new(VmTotals::default()));
    let look = move || match own.upgrade() {
        Some(functions) => totals.look(functions.programs()),
        None => Vec::new(),
    };
    let (copies, rollbacks, restored, discards) = (look.clone(), look.clone(), look.clone(), look);
    let each = |of: fn(&VmCounts) -> u64| move |(name, counts): (Arc<str>, VmCounts)| (name, as_figure(of(&counts)));
    let warm_copies = each(|counts| counts.warm_copies);
    metrics.provide_each(Live::VmWarmCopies, move || copies().into_iter().map(warm_copies).collect());
    let rolled_back = each(|counts| counts.rolled_back);
    metrics.provide_each(Live::VmRollbacks, move || rollbacks().into_iter().map(rolled_back).collect());
    let restored_bytes = each(|counts| counts.restored_bytes);
    metrics.provide_each(Live::VmRestoredBytes, move || restored().into_iter().map(restored_bytes).collect());
    metrics.provide(Live::VmDiscards, move || {
        let of = |(name, counts): (Arc<str>, VmCounts)| {
            let labels = move |why: &str| vec![Arc::clone(&name), why.into()];
            counts.discarded.into_iter().map(move |(why, count)| (labels(why), as_figure(count)))
        };
        discards().into_iter().flat_map(of).collect()
    });
}

/// Who said no, and why: the gateway to requests, programs to rollback, the specializer to components.
fn watch_refusals(metrics: &Metrics, functions: &Arc<Functions>, gateway: &Gateway, workshop: Option<&Arc<Workshop>>) {
    let gateway = gateway.clone();
    metrics.provide_each(Live::Refusals, move || {
        let refused = gateway.counters().refused_total.into_iter();
        refused.map(|(refusal, count)| (refusal.label().into(), as_figure(count))).collect()
    });
    let own = Arc::downgrade(functions);
    metrics.provide_each(Live::NotRolledBack, move || {
        let programs = own.upgrade().map(|functions| functions.programs()).unwrap_or_default();
        let refusal = |(_, program): &(Arc<str>, Arc<dyn Program>)| Some(program.isolation().refusal?.label());
        counted(programs.iter().filter_map(refusal))
    });
    if let Some(workshop) = workshop {
        let own = Arc::downgrade(workshop);
        metrics.provide(Live::PassRefusals, move || {
            let refusals = own.upgrade().map(|workshop| workshop.refusals().all()).unwrap_or_default();
            refusals.into_iter().map(|(pass, reason, count)| (vec![pass, reason], as_figure(count))).collect()
        });
        let own = Arc::downgrade(workshop);
        metrics.provide_each(Live::Unguarded, move || {
            let missing = own.upgrade().map(|workshop| workshop.guards_missing()).unwrap_or_default();
            missing.into_iter().map(|(guard, count)| (guard.name().into(), as_figure(count))).collect()
        });
    }
}

/// Lets the metrics ask how prepared VMs are judged.
pub(crate) fn watch_learning(metrics: &Metrics, learning: &Arc<Learning>) {
    let own = Arc::downgrade(learning);
    metrics.provide_each(Live::GivenUp, move || {
        let given_up = own.upgrade().map(|learning| learning.given_up()).unwrap_or_default();
        given_up.map(|(prepared, functions)| (prepared.into(), functions as f64)).into()
    });
}

/// Lets the metrics ask what has become of split images.
pub(crate) fn watch_splitting(metrics: &Metrics, splitting: &Arc<Splitting>) {
    let own = Arc::downgrade(splitting);
    metrics.provide_each(Live::SplitStates, move || {
        let names = own.upgrade().map(|splitting| splitting.state_names()).unwrap_or_default();
        counted(names.into_iter())
    });
}

/// How often each label comes.
fn counted(labels: impl Iterator<Item = &'static str>) -> Vec<(Arc<str>, f64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    labels.for_each(|label| *counts.entry(label).or_default() += 1);
    counts.into_iter().map(|(label, count)| (label.into(), as_figure(count))).collect()
}

/// Counters are shown as floating point by the exposition format; they are exact up to 2^53.
pub(crate) fn as_figure(count: u64) -> f64 {
    count as f64
}
