//! Says whether the shelves hold what an order needs. The shelves refill
//! overnight and nothing is written down, so the same order gets the same
//! answer. `POST /stock/reserve` with a reservation. Calls nobody.

use kit::words::{Line, Reservation, Reserved};
use kit::{Reply, Request, host};

/// Pieces on the shelf; what is not listed is made to order.
const SHELVES: [(&str, u32); 3] = [("desk", 4), ("clock", 12), ("vase", 1)];

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("POST", path) if path == ["stock", "reserve"] => reserve(request),
        _ => Reply::no_such_path(),
    }
}

fn reserve(request: &Request) -> Reply {
    let reservation: Reservation = match request.json() {
        Ok(reservation) => reservation,
        Err(reply) => return reply,
    };
    let missing: Vec<_> =
        reservation.lines.iter().filter(|line| is_short(line)).map(|line| line.title.clone()).collect();
    if !missing.is_empty() {
        host::log(&format!("short of {}", missing.join(", ")));
    }
    Reply::json(200, &Reserved { complete: missing.is_empty(), missing })
}

fn is_short(line: &Line) -> bool {
    SHELVES.iter().any(|(id, pieces)| *id == line.id && *pieces < line.pieces)
}
