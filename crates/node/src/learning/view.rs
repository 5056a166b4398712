//! The loop's figures as the admin API shows them: the ledger, the prices, the switches.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use forerun_driver::Trust;
use forerun_types::FunctionName;
use serde_json::{Value, json};

use super::Learning;
use super::arm::Arm;
use super::costs::{Cost, Foresight};

const GIGABYTE: f64 = (1u64 << 30) as f64;

impl Learning {
    /// What is known of one function's costs and of the comparison with its control group.
    pub(crate) fn cost(&self, function: &FunctionName) -> Option<Value> {
        self.shared.costs.lock().get(function).map(view)
    }

    /// Ledger, prices and switches.
    pub(crate) fn view(&self) -> Value {
        let shared = &self.shared;
        let costs = shared.costs.lock();
        let functions: BTreeMap<_, _> = costs.iter().map(|(name, cost)| (name.to_string(), view(cost))).collect();
        let ledger = total(costs.values());
        drop(costs);
        json!({
            "mode": shared.switches.mode(),
            "function_modes": shared.switches.setting().functions,
            "budget": {
                "memory_bytes": shared.budget.memory_bytes,
                "processor_share": shared.budget.processor_share,
                "keep_alive_ms": shared.budget.keep_alive.map(|time| time.as_millis() as u64),
            },
            "ledger": ledger,
            "functions": functions,
            "prices": *shared.prices.lock(),
            "held": {
                "vms": shared.vms_held.load(Ordering::Relaxed),
                "memory_bytes": shared.memory_bytes_held.load(Ordering::Relaxed),
            },
            "vms_made_total": shared.vms_asked.load(Ordering::Relaxed),
            "learning_ms_total": shared.worked_us.load(Ordering::Relaxed) / 1_000,
            "path_samples_dropped_total": shared.paths_dropped.load(Ordering::Relaxed),
            "plans_refused_total": shared.learnt.lock().plans_refused_total(),
        })
    }
}

fn view(cost: &Cost) -> Value {
    json!({
        "generic_deploy_us": cost.generic_deploy_us.round(),
        "ready_deploy_us": cost.ready_deploy_us.round(),
        "memory_bytes": cost.memory_bytes.round(),
        "served_ready_total": cost.ready,
        "saved_us_total": cost.saved_us.round(),
        "ledger": total([cost]),
        "arms": {
            "ready": arm(&cost.arms.ready),
            "rolled_back": arm(&cost.arms.rolled_back),
            "specialized": arm(&cost.arms.specialized),
        },
    })
}

/// One way of preparing VMs: how it stands, and why.
fn arm(arm: &Arm) -> Value {
    let [prepared, control] = arm.groups().map(|group| {
        json!({ "requests": group.requests(), "errors": group.errors(), "typical_us": group.typical_us().round() })
    });
    let given_up = arm.given_up().map(|given_up| {
        json!({
            "why": given_up.fault.in_words(),
            "fault": given_up.fault,
            "until_unix_ms": given_up.until_unix_ms,
            "times": given_up.times,
        })
    });
    let control_one_in = match arm.trust() {
        Trust::Compared { control_one_in } => Some(control_one_in),
        Trust::Full | Trust::Withdrawn | Trust::SwitchedOff => None,
    };
    json!({
        "verdict": arm.label(),
        "prepared": prepared,
        "control": control,
        "control_one_in": control_one_in,
        "given_up": given_up,
    })
}

/// What was won and what it cost, of some functions together.
fn total<'a>(costs: impl IntoIterator<Item = &'a Cost>) -> Value {
    let (mut saved_us, mut held_byte_s, mut make_us) = (0.0, 0.0, 0.0);
    let mut foresight = Foresight::default();
    for cost in costs {
        saved_us += cost.saved_us;
        held_byte_s += cost.held_byte_s;
        make_us += cost.make_us_total;
        foresight.hit += cost.foresight.hit;
        foresight.late += cost.foresight.late;
        foresight.missed += cost.foresight.missed;
    }
    json!({
        "saved_ms": (saved_us * 1e-3).round(),
        "held_gb_s": (held_byte_s / GIGABYTE * 1e3).round() / 1e3,
        "making_cpu_ms": (make_us * 1e-3).round(),
        "predictions": { "hit": foresight.hit, "late": foresight.late, "missed": foresight.missed },
    })
}
