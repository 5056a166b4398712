//! What requests have looked like lately: method, path, what a query asks for and size of the body, so that an image can be
//! tried with requests like them. No header, no body and nothing that was asked with is kept: of `?name=Ada&born=1815` it is
//! `?name=aaa&born=1111`, which most functions do the same for. Nothing is shown.

use std::collections::BTreeMap;

use forerun_driver::Body;
use http::{Request, header};

/// Paths kept of a class of requests.
const PER_CLASS_MAX: usize = 4;
/// Classes of which any are kept.
const CLASSES_MAX: usize = 16;
/// Longest path and query that are kept, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// Longest name in a query that is taken for one.
const NAME_BYTES_MAX: usize = 32;

/// What one request looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) method: String,
    /// With the query, if there was one, in which values are only as long as they were.
    pub(crate) path: String,
    pub(crate) body_bytes: u64,
}

/// Those of one function.
#[derive(Default)]
pub(super) struct Shapes(BTreeMap<u32, Vec<Shape>>);

impl Shapes {
    /// Takes note of the first few different requests of a class.
    pub(super) fn note(&mut self, class: u32, request: &Request<Body>) {
        let known = self.0.len();
        let uri = request.uri();
        let bytes = uri.path().len() + uri.query().map_or(0, str::len);
        let shapes = match self.0.get_mut(&class) {
            Some(shapes) => shapes,
            None if known < CLASSES_MAX => self.0.entry(class).or_default(),
            None => return,
        };
        if shapes.len() >= PER_CLASS_MAX || bytes > PATH_BYTES_MAX {
            return;
        }
        let path =
            uri.query().map_or_else(|| uri.path().to_owned(), |query| format!("{}?{}", uri.path(), masked(query)));
        if shapes.iter().any(|shape| shape.path == path) {
            return;
        }
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        shapes.push(Shape { method: request.method().to_string(), path, body_bytes: length.unwrap_or(0) });
    }

    pub(super) fn all(&self) -> Vec<Shape> {
        self.0.values().flatten().cloned().collect()
    }
}

/// A query in which whatever may say something is letters and digits like those that were there.
fn masked(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, value)) if is_name(name) => format!("{name}={}", mask(value)),
        _ => mask(part),
    });
    parts.collect::<Vec<_>>().join("&")
}

/// Whether it looks like what programs call something.
fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(of_a_name)
}

fn mask(value: &str) -> String {
    let like = |c: char| match c {
        '0'..='9' => '1',
        '=' | '-' | '.' | ',' | ':' | '/' | '+' => c,
        // What stood behind a sign for it is an escape no longer.
        _ => 'a',
    };
    value.chars().map(like).collect()
}

#[cfg(test)]
mod tests {
    use forerun_driver::full_body;
    use proptest::prelude::*;

    use super::*;

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).header("content-length", "3").body(full_body("abc")).unwrap()
    }

    #[test]
    fn a_few_of_each_class_and_nothing_that_was_asked_with() {
        let mut shapes = Shapes::default();
        for number in 0..100 {
            shapes.note(number % 20, &request(&format!("/{}?secret", number / 20)));
            shapes.note(1, &request("/0?better"));
        }
        let all = shapes.all();
        assert_eq!(all.len(), CLASSES_MAX * PER_CLASS_MAX);
        assert!(all.iter().all(|shape| shape.path.ends_with("?aaaaaa") && shape.body_bytes == 3), "{all:?}");
        assert_eq!(all.iter().filter(|shape| shape.path == "/0?aaaaaa").count(), CLASSES_MAX);
    }

    #[test]
    fn of_a_query_names_stay_and_what_values_look_like() {
        let cases = [
            ("name=Ada&born=1815-12-10", "name=aaa&born=1111-11-11"),
            ("q=a%20b+c", "q=aa11a+a"),
            ("filter[size]=XL&page=2", "filter[size]=aa&page=1"),
            ("%41da=&=x&&plain", "a11aa=&=a&&aaaaa"),
        ];
        for (query, expected) in cases {
            assert_eq!(masked(query), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_masked_makes_a_request_and_shows_no_value(value in "[ -~]{0,40}") {
            let path = format!("/p?{}", masked(&format!("key={value}")));
            let uri: http::Uri = path.parse().unwrap();
            let values = uri.query().unwrap().trim_start_matches("key=");
            let may_stay = |c: char| "a1=-.,:/+&".contains(c);
            let has_name = |part: &str| part.split_once('=').is_some_and(|(name, _)| is_name(name));
            prop_assert!(values.split('&').all(|part| has_name(part) || part.chars().all(may_stay)), "{}", path);
        }
    }
}
