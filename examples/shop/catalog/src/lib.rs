//! The products and their prices. `GET /catalog` gives all of them,
//! `GET /catalog/<id>` one. Calls nobody.

use kit::words::{Catalog, Product};
use kit::{Reply, Request, host};

const PRODUCTS: [(&str, &str, &str, u64); 8] = [
    ("lamp", "Desk lamp", "Brass, with a linen shade", 4990),
    ("chair", "Oak chair", "Solid oak, oiled by hand", 12_900),
    ("desk", "Standing desk", "Goes up in eleven seconds", 34_950),
    ("rug", "Wool rug", "Two metres by three", 8995),
    ("shelf", "Wall shelf", "Holds sixty kilograms", 6400),
    ("clock", "Station clock", "Waits for the full minute", 7425),
    ("vase", "Stoneware vase", "No two are the same", 3800),
    ("stool", "Milking stool", "Stands on any floor", 5550),
];

kit::function!(answer);

fn answer(request: &Request) -> Reply {
    match request.route() {
        ("GET", path) if path == ["catalog"] => Reply::json(200, &catalog(|_| true)),
        ("GET", path) if path.len() == 2 && path[0] == "catalog" => one(path[1]),
        _ => Reply::no_such_path(),
    }
}

fn one(id: &str) -> Reply {
    let found = catalog(|candidate| candidate == id);
    match found.products.first() {
        Some(product) => Reply::json(200, product),
        None => Reply::error(404, "no such product"),
    }
}

fn catalog(wanted: impl Fn(&str) -> bool) -> Catalog {
    let products = PRODUCTS.iter().filter(|(id, ..)| wanted(id)).map(|&(id, title, about, cents)| Product {
        id: id.to_owned(),
        title: title.to_owned(),
        about: about.to_owned(),
        cents,
    });
    Catalog { currency: host::setting("currency", "EUR"), products: products.collect() }
}
