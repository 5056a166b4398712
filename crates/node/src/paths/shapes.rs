//! What requests have looked like lately: method, path and size of the body, so that an image can be tried with requests
//! like them. No header, no query, no body is kept, nothing is written to disk, and nothing is shown.

use std::collections::BTreeMap;

use forerun_driver::Body;
use http::{Request, header};

/// Paths kept of a class of requests.
const PER_CLASS_MAX: usize = 4;
/// Classes of which any are kept.
const CLASSES_MAX: usize = 16;
/// Longest path that is kept, in bytes.
const PATH_BYTES_MAX: usize = 512;

/// What one request looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) method: String,
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
        let path = request.uri().path();
        let shapes = match self.0.get_mut(&class) {
            Some(shapes) => shapes,
            None if known < CLASSES_MAX => self.0.entry(class).or_default(),
            None => return,
        };
        let is_new = shapes.len() < PER_CLASS_MAX && path.len() <= PATH_BYTES_MAX;
        if !is_new || shapes.iter().any(|shape| shape.path == path) {
            return;
        }
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        shapes.push(Shape {
            method: request.method().to_string(),
            path: path.to_owned(),
            body_bytes: length.unwrap_or(0),
        });
    }

    pub(super) fn all(&self) -> Vec<Shape> {
        self.0.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::full_body;

    use super::*;

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).header("content-length", "3").body(full_body("abc")).unwrap()
    }

    #[test]
    fn a_few_of_each_class_without_query() {
        let mut shapes = Shapes::default();
        for number in 0..100 {
            shapes.note(number % 20, &request(&format!("/{}?secret", number / 20)));
            shapes.note(1, &request("/0?another"));
        }
        let all = shapes.all();
        assert_eq!(all.len(), CLASSES_MAX * PER_CLASS_MAX);
        assert!(all.iter().all(|shape| !shape.path.contains('?') && shape.body_bytes == 3), "{all:?}");
        assert_eq!(all.iter().filter(|shape| shape.path == "/0").count(), CLASSES_MAX);
    }
}
