//! Turns a cart into an order. `POST /checkout` calls `cart`, `stock`,
//! `payment` and `receipt`, each with what the one before it said, and stops at
//! the first that says no: the longest chain of the shop.

use kit::basket::Basket;
use kit::call;
use kit::words::{Cart, Charge, Charged, NewReceipt, Order, Receipt, Reservation, Reserved};
use kit::{Reply, Request};
use miniserde::{Deserialize, Serialize};

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("POST", path) if path == ["checkout"] => match order(request) {
            Ok(order) => done(request, &order),
            Err(reply) => reply,
        },
        _ => Reply::no_such_path(),
    }
}

fn order(request: &Request) -> Result<Order, Reply> {
    let cookie = request.header("cookie");
    let cart: Cart = call::get("cart", "/cart", cookie.as_deref())
        .and_then(call::Pending::json)
        .map_err(|error| error.into_reply("cart"))?;
    if cart.lines.is_empty() {
        return Err(Reply::error(409, "the cart is empty"));
    }
    let reserved: Reserved = ask("stock", "/stock/reserve", &Reservation { lines: cart.lines.clone() })?;
    if !reserved.complete {
        return Err(Reply::error(409, &format!("not enough of: {}", reserved.missing.join(", "))));
    }
    let charge = Charge { currency: cart.currency.clone(), cents: cart.total_cents };
    let charged: Charged = ask("payment", "/payment", &charge)?;
    if !charged.accepted {
        return Err(Reply::error(402, &format!("payment declined: {}", charged.message)));
    }
    let receipt: Receipt = ask("receipt", "/receipt", &NewReceipt { lines: cart.lines })?;
    Ok(Order { currency: cart.currency, total_cents: cart.total_cents, payment: charged.message, receipt })
}

fn ask<T: Deserialize>(function: &str, path: &str, word: &impl Serialize) -> Result<T, Reply> {
    call::post(function, path, word).and_then(call::Pending::json).map_err(|error| error.into_reply(function))
}

/// The cart is empty once its order went through.
fn done(request: &Request, order: &Order) -> Reply {
    let reply = if request.from_browser() { Reply::see(order.receipt.path.clone()) } else { Reply::json(201, order) };
    reply.with("set-cookie", Basket::default().to_cookie())
}
