//! What the functions of the shop tell each other, as JSON. Money is in cents.

use miniserde::{Deserialize, Serialize};

/// Something to buy.
#[derive(Clone, Serialize, Deserialize)]
pub struct Product {
    pub id: String,
    pub title: String,
    pub about: String,
    pub cents: u64,
}

/// Everything there is to buy, and in which currency.
#[derive(Serialize, Deserialize)]
pub struct Catalog {
    pub currency: String,
    pub products: Vec<Product>,
}

/// Some pieces of one product, at the price of one.
#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    pub id: String,
    pub title: String,
    pub pieces: u32,
    pub cents: u64,
}

/// A priced cart.
#[derive(Serialize, Deserialize)]
pub struct Cart {
    pub currency: String,
    pub lines: Vec<Line>,
    pub total_cents: u64,
}

/// What an order needs from the shelves.
#[derive(Serialize, Deserialize)]
pub struct Reservation {
    pub lines: Vec<Line>,
}

/// What the shelves say to it.
#[derive(Serialize, Deserialize)]
pub struct Reserved {
    pub complete: bool,
    /// Titles of what is short.
    pub missing: Vec<String>,
}

/// An amount to take.
#[derive(Serialize, Deserialize)]
pub struct Charge {
    pub currency: String,
    pub cents: u64,
}

/// What the bank says to it.
#[derive(Serialize, Deserialize)]
pub struct Charged {
    pub accepted: bool,
    /// The bank's code, or its reason.
    pub message: String,
}

/// An order to be numbered.
#[derive(Serialize, Deserialize)]
pub struct NewReceipt {
    pub lines: Vec<Line>,
}

/// A numbered order.
#[derive(Serialize, Deserialize)]
pub struct Receipt {
    pub id: String,
    pub path: String,
}

/// An order that went through.
#[derive(Serialize, Deserialize)]
pub struct Order {
    pub currency: String,
    pub total_cents: u64,
    pub payment: String,
    pub receipt: Receipt,
}

/// Why a request could not be served.
#[derive(Serialize)]
pub struct Problem {
    pub error: String,
}

/// `12345` as `123.45`.
pub fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
