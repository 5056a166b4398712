//! Numbers orders and prints their receipts. The number holds the order, so no
//! store is needed: `<seconds>-<basket>-<check>`, for example
//! `6745f1c2-lamp.2-rug.1-5d1e`. Prices are those of today's catalog.
//!
//! `POST /receipt` with the lines numbers an order; `GET /receipt/<id>` streams
//! the receipt line by line, `?pause_ms=` apart. Calls `catalog`.

mod date;

use kit::basket::Basket;
use kit::call;
use kit::words::{Catalog, NewReceipt, Receipt, money};
use kit::{Reply, Request, host};
use std::time::{SystemTime, UNIX_EPOCH};

/// The printer is slow, but not that slow.
const PAUSE_MS_MAX: u32 = 5000;

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("POST", path) if path == ["receipt"] => number(request),
        ("GET", path) if path.len() == 2 && path[0] == "receipt" => print(request, path[1]),
        _ => Reply::no_such_path(),
    }
}

fn number(request: &Request) -> Reply {
    let order: NewReceipt = match request.json() {
        Ok(order) => order,
        Err(reply) => return reply,
    };
    let mut basket = Basket::default();
    for line in &order.lines {
        if basket.add(&line.id, line.pieces).is_err() {
            return Reply::error(400, "no such order");
        }
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let order = format!("{seconds:x}-{basket}");
    let id = format!("{order}-{:04x}", check(&order));
    let path = format!("/receipt/{id}");
    Reply::json(201, &Receipt { id, path })
}

/// Finds typing errors, as the last digit of a card number does; FNV-1a folded
/// to 16 bits. It is no signature.
fn check(order: &str) -> u16 {
    let hash = order.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ((hash >> 16) ^ (hash & 0xffff)) as u16
}

fn parsed(id: &str) -> Option<(u64, Basket)> {
    let (order, digits) = id.rsplit_once('-')?;
    let (seconds, basket) = order.split_once('-')?;
    let right = u16::from_str_radix(digits, 16).ok()? == check(order);
    let seconds = u64::from_str_radix(seconds, 16).ok()?;
    right.then_some(())?;
    Some((seconds, basket.parse().ok()?))
}

fn print(request: &Request, id: &str) -> Reply {
    let Some((seconds, basket)) = parsed(id) else {
        return Reply::error(404, "no such receipt");
    };
    let catalog: Catalog = match call::get("catalog", "/catalog", None).and_then(call::Pending::json) {
        Ok(catalog) => catalog,
        Err(error) => return error.into_reply("catalog"),
    };
    let pause_ms = request.number("pause_ms", 0).min(PAUSE_MS_MAX);
    let lines = lines(seconds, &basket, &catalog);
    Reply::lines(lines.into_iter().enumerate().map(move |(index, line)| {
        if index > 0 && pause_ms > 0 {
            host::pause(pause_ms);
        }
        line + "\n"
    }))
}

fn lines(seconds: u64, basket: &Basket, catalog: &Catalog) -> Vec<String> {
    let mut lines = vec!["THE SHOP".to_owned(), date::text(seconds), "-".repeat(40)];
    let mut total_cents = 0;
    for (id, pieces) in basket.iter() {
        let Some(product) = catalog.products.iter().find(|product| product.id == id) else {
            lines.push(format!("{pieces:>3} {id} (no longer sold)"));
            continue;
        };
        let cents = product.cents * u64::from(pieces);
        total_cents += cents;
        lines.push(format!("{pieces:>3} {:<25} {:>10}", product.title, money(cents)));
    }
    lines.push("-".repeat(40));
    lines.push(format!("    {:<25} {:>10}", format!("TOTAL {}", catalog.currency), money(total_cents)));
    lines.push("Thank you. Come again.".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_typing_error_is_no_number() {
        let order = "6745f1c2-lamp.2-rug.1";
        let id = format!("{order}-{:04x}", check(order));
        assert!(
            parsed(&id).is_some_and(|(seconds, basket)| seconds == 0x6745_f1c2 && basket.to_string() == "lamp.2-rug.1")
        );
        for wrong in [id.replace("lamp.2", "lamp.3"), id.replace("6745", "6746"), "x".to_owned(), String::new()] {
            assert!(parsed(&wrong).is_none(), "{wrong}");
        }
    }
}
