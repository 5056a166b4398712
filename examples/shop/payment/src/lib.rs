//! Says whether an amount can be charged: up to the setting `limit_cents`. No
//! bank hears of it. `POST /payment` with a charge. Calls nobody.

use kit::words::{Charge, Charged, money};
use kit::{Reply, Request, host};

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("POST", path) if path == ["payment"] => charge(request),
        _ => Reply::no_such_path(),
    }
}

fn charge(request: &Request) -> Reply {
    let charge: Charge = match request.json() {
        Ok(charge) => charge,
        Err(reply) => return reply,
    };
    let limit: u64 = host::setting("limit_cents", "500000").parse().unwrap_or(0);
    let charged = if charge.cents <= limit {
        let code = kit::wasi::random::random::get_random_u64();
        Charged { accepted: true, message: format!("{code:016x}") }
    } else {
        Charged { accepted: false, message: format!("more than {} {}", money(limit), charge.currency) }
    };
    Reply::json(200, &charged)
}
