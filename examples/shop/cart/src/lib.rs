//! What a visitor means to buy. The cookie holds it, so any VM can serve any
//! visitor; prices come from the catalog.
//!
//! `GET /cart` shows it, `POST /cart/<id>?pieces=2` adds, `DELETE /cart`
//! empties. Calls `catalog`.

use kit::basket::{Basket, NotABasket, PIECES_MAX};
use kit::call::{self, CallError};
use kit::words::{Cart, Catalog, Line};
use kit::{Reply, Request, host};

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("GET", path) if path == ["cart"] => show(&basket(request), None),
        ("POST", path) if path.len() == 2 && path[0] == "cart" => add(request, path[1]),
        ("DELETE", path) if path == ["cart"] => show(&Basket::default(), None).with("set-cookie", empty()),
        _ => Reply::no_such_path(),
    }
}

fn basket(request: &Request) -> Basket {
    Basket::of_cookie(request.header("cookie").as_deref())
}

fn empty() -> String {
    Basket::default().to_cookie()
}

fn add(request: &Request, id: &str) -> Reply {
    let catalog = match catalog() {
        Ok(catalog) => catalog,
        Err(error) => return error.into_reply("catalog"),
    };
    if !catalog.products.iter().any(|product| product.id == id) {
        return Reply::error(404, "no such product");
    }
    let mut basket = basket(request);
    if let Err(NotABasket) = basket.add(id, request.number("pieces", 1)) {
        return Reply::error(400, &format!("a cart holds 1 to {PIECES_MAX} pieces of a product, and 20 products"));
    }
    match host::count_up(&format!("added/{id}")) {
        Ok(times) => host::log(&format!("{id} was added {times} times")),
        // A statistic is no reason to lose a sale.
        Err(error) => host::log(&format!("not counted: {error}")),
    }
    let cookie = basket.to_cookie();
    if request.from_browser() {
        return Reply::see("/".to_owned()).with("set-cookie", cookie);
    }
    show(&basket, Some(catalog)).with("set-cookie", cookie)
}

fn catalog() -> Result<Catalog, CallError> {
    call::get("catalog", "/catalog", None)?.json()
}

/// The priced cart. An empty one needs no prices and makes no call.
fn show(basket: &Basket, known: Option<Catalog>) -> Reply {
    if basket.iter().next().is_none() {
        return Reply::json(200, &Cart { currency: String::new(), lines: Vec::new(), total_cents: 0 });
    }
    match known.map_or_else(catalog, Ok) {
        Ok(catalog) => Reply::json(200, &priced(basket, &catalog)),
        Err(error) => error.into_reply("catalog"),
    }
}

/// Products that left the catalog since leave the cart too.
fn priced(basket: &Basket, catalog: &Catalog) -> Cart {
    let lines: Vec<_> = basket
        .iter()
        .filter_map(|(id, pieces)| {
            let product = catalog.products.iter().find(|product| product.id == id)?;
            Some(Line { id: id.to_owned(), title: product.title.clone(), pieces, cents: product.cents })
        })
        .collect();
    let total_cents = lines.iter().map(|line| line.cents * u64::from(line.pieces)).sum();
    Cart { currency: catalog.currency.clone(), lines, total_cents }
}
