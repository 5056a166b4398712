//! Products and pieces in one short text, `lamp.2-rug.1`, which a visitor
//! carries in a cookie and an order carries in its number. It has no prices:
//! those come from the catalog each time.

use std::fmt;
use std::str::FromStr;

/// A cookie has to stay small, and so has a page.
const PRODUCTS_MAX: usize = 20;
/// More pieces than this of one product are a mistake.
pub const PIECES_MAX: u32 = 99;

/// Product ids with their pieces, each id once, in the order they were added.
#[derive(Clone, Default)]
pub struct Basket(Vec<(String, u32)>);

/// The text is no basket: unknown form, too much of something, or an id twice.
pub struct NotABasket;

impl Basket {
    /// What the visitor's cookie says. A cookie that is no basket is an empty one.
    pub fn of_cookie(header: Option<&str>) -> Self {
        header
            .unwrap_or_default()
            .split(';')
            .find_map(|cookie| cookie.trim().strip_prefix("cart="))
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// The `Set-Cookie` value that makes the visitor carry this basket.
    pub fn to_cookie(&self) -> String {
        let age = if self.0.is_empty() { "; Max-Age=0" } else { "" };
        format!("cart={self}; Path=/; HttpOnly; SameSite=Lax{age}")
    }

    /// Adds pieces of a product, or says that the basket is full.
    pub fn add(&mut self, id: &str, pieces: u32) -> Result<(), NotABasket> {
        let mut more = self.clone();
        match more.0.iter_mut().find(|(there, _)| there == id) {
            Some((_, there)) => *there = there.saturating_add(pieces),
            None => more.0.push((id.to_owned(), pieces)),
        }
        let within = more.0.len() <= PRODUCTS_MAX && more.0.iter().all(|(_, pieces)| (1..=PIECES_MAX).contains(pieces));
        if !within {
            return Err(NotABasket);
        }
        *self = more;
        Ok(())
    }

    /// Id and pieces, product by product.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(id, pieces)| (id.as_str(), *pieces))
    }
}

impl fmt::Display for Basket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (id, pieces)) in self.iter().enumerate() {
            let dash = if index > 0 { "-" } else { "" };
            write!(f, "{dash}{id}.{pieces}")?;
        }
        Ok(())
    }
}

impl FromStr for Basket {
    type Err = NotABasket;

    fn from_str(text: &str) -> Result<Self, NotABasket> {
        let mut basket = Self::default();
        for part in text.split('-').filter(|part| !part.is_empty()) {
            let (id, pieces) = part.split_once('.').ok_or(NotABasket)?;
            let plain = !id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_lowercase());
            if !plain || basket.iter().any(|(there, _)| there == id) {
                return Err(NotABasket);
            }
            basket.add(id, pieces.parse().map_err(|_| NotABasket)?)?;
        }
        Ok(basket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, back) in [
            ("lamp.2-rug.1", Some("lamp.2-rug.1")),
            ("", Some("")),
            ("lamp.99", Some("lamp.99")),
            ("lamp.100", None),
            ("lamp.0", None),
            ("lamp.1-lamp.1", None),
            ("Lamp.1", None),
            ("lamp", None),
            (".1", None),
            ("lamp.-1", None),
        ] {
            let basket: Option<Basket> = text.parse().ok();
            assert_eq!(basket.map(|basket| basket.to_string()).as_deref(), back, "{text}");
        }
    }

    #[test]
    fn a_refused_addition_changes_nothing() {
        let mut basket: Basket = "lamp.98".parse().unwrap_or_default();
        assert!(basket.add("lamp", 2).is_err());
        assert!(basket.add("rug", 0).is_err());
        assert_eq!(basket.to_string(), "lamp.98");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let basket = Basket::of_cookie(Some("theme=dark; cart=rug.3; x=y"));
        assert_eq!(basket.to_string(), "rug.3");
        assert_eq!(Basket::of_cookie(Some("cart=<script>")).to_string(), "");
    }
}
