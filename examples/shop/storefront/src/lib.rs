//! The shop's page: `GET /` asks `catalog` and `cart` at the same time and
//! makes one HTML document of both. Without the catalog there is no shop;
//! without the cart there is one.

use kit::call::{self, CallError};
use kit::words::{Cart, Catalog, money};
use kit::{Reply, Request, host};
use std::fmt::Write;

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("GET", path) if path.is_empty() => page(request),
        _ => Reply::no_such_path(),
    }
}

fn page(request: &Request) -> Reply {
    let cookie = request.header("cookie");
    let catalog = call::get("catalog", "/catalog", None);
    let cart = call::get("cart", "/cart", cookie.as_deref());
    let catalog: Catalog = match catalog.and_then(call::Pending::json) {
        Ok(catalog) => catalog,
        Err(error) => {
            host::log(&format!("catalog: {error}"));
            return Reply::html(503, document("<p>The shop is closed. Please come back later.</p>"));
        }
    };
    let cart: Result<Cart, CallError> = cart.and_then(call::Pending::json);
    Reply::html(200, document(&(products(&catalog) + &summary(cart))))
}

fn document(content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>The Shop</title>\n\
         <style>body {{ font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em }} \
         li {{ margin: 0.5em 0 }} form {{ display: inline }}</style>\n</head>\n<body>\n<h1>The Shop</h1>\n\
         {content}</body>\n</html>\n"
    )
}

fn products(catalog: &Catalog) -> String {
    let mut list = String::from("<ul>\n");
    for product in &catalog.products {
        let price = money(product.cents);
        let (id, title, about) = (escaped(&product.id), escaped(&product.title), escaped(&product.about));
        let currency = escaped(&catalog.currency);
        let _ = writeln!(
            list,
            "<li><b>{title}</b> {about}. {price} {currency} \
             <form method=\"post\" action=\"/cart/{id}\"><button>Add</button></form></li>"
        );
    }
    list + "</ul>\n"
}

fn summary(cart: Result<Cart, CallError>) -> String {
    let cart = match cart {
        Ok(cart) => cart,
        Err(error) => {
            host::log(&format!("cart: {error}"));
            return "<p>The cart is not to be had at the moment.</p>\n".to_owned();
        }
    };
    if cart.lines.is_empty() {
        return "<p>Your cart is empty.</p>\n".to_owned();
    }
    let pieces: u32 = cart.lines.iter().map(|line| line.pieces).sum();
    format!(
        "<p>In your cart: {pieces} pieces, {} {}. \
         <form method=\"post\" action=\"/checkout\"><button>Buy</button></form></p>\n",
        money(cart.total_cents),
        escaped(&cart.currency)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
