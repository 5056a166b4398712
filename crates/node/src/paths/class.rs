//! The class of a request: its method, the route it came by, and how large its body says it is.
//!
//! Every followed request has one, and few need its name, so that it is a number first and text when somebody asks. The
//! number is kept on disk: it must stay the hash of the text.

use std::fmt;

use forerun_driver::Body;
use forerun_predict::hash;
use forerun_types::{FunctionSpec, RoutePattern};
use http::{Request, header};

/// The route of calls that came by name.
const INTERNAL: &str = "internal";

/// The routes of a function, the more specific ones first, each with its text.
pub(super) struct Routes(Vec<(RoutePattern, String)>);

/// The class of one request.
pub(super) struct Class<'r> {
    /// A number for the map; never that of all others.
    pub(super) id: u32,
    method: &'static str,
    route: &'r str,
    size: Option<&'static str>,
}

impl Routes {
    pub(super) fn of(spec: &FunctionSpec) -> Self {
        let mut routes: Vec<_> = spec.routes.iter().map(|route| (route.clone(), route.to_string())).collect();
        routes.sort_by(|one, other| one.0.specificity(&other.0));
        Self(routes)
    }

    pub(super) fn class(&self, request: &Request<Body>) -> Class<'_> {
        let (method, route, size) = (method(request), self.route(request), size(request));
        let mut class = Class { id: 0, method, route, size };
        class.id = (hash::parts(class.parts().map(str::as_bytes)) as u32).max(1);
        class
    }

    fn route(&self, request: &Request<Body>) -> &str {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let is_lower = !host.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower = if is_lower { String::new() } else { host.to_ascii_lowercase() };
        let host = if is_lower { host } else { &lower };
        let path = request.uri().path();
        let found = self.0.iter().find(|(route, _)| route.matches(host, path));
        found.map_or(INTERNAL, |(_, text)| text)
    }
}

impl Class<'_> {
    /// The pieces of its text.
    fn parts(&self) -> [&str; 5] {
        let (before, size) = self.size.map_or(("", ""), |size| (" ", size));
        [self.method, " ", self.route, before, size]
    }
}

impl fmt::Display for Class<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

fn method(request: &Request<Body>) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "OTHER",
    }
}

/// Bodies of one order of magnitude are one class; none, or an empty one, has no size.
fn size(request: &Request<Body>) -> Option<&'static str> {
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    match length {
        0 => None,
        1..1_024 => Some("under 1 kB"),
        1_024..65_536 => Some("under 64 kB"),
        65_536..1_048_576 => Some("under 1 MB"),
        _ => Some("1 MB or more"),
    }
}

#[cfg(test)]
mod tests {
    use forerun_driver::empty_body;

    use super::*;

    #[test]
    fn the_number_is_that_of_the_text() {
        let mut spec = FunctionSpec::named("cart".parse().unwrap());
        spec.routes = ["/...", "/cart/...", "shop.example/cart/..."].map(|route| route.parse().unwrap()).to_vec();
        let routes = Routes::of(&spec);
        for (method, host, path, length, expected) in [
            ("GET", "h", "/cart/1", "", "GET /cart/..."),
            ("PUT", "Shop.Example:80", "/cart/1", "2000", "PUT shop.example/cart/... under 64 kB"),
            ("BREW", "h", "/", "0", "OTHER /..."),
            ("POST", "h", "/", "5000000", "POST /... 1 MB or more"),
        ] {
            let request = Request::builder().method(method).uri(path).header("host", host);
            let request = request.header("content-length", length).body(empty_body()).unwrap();
            let class = routes.class(&request);
            assert_eq!(class.to_string(), expected);
            assert_eq!(class.id, hash::bytes(expected.as_bytes()) as u32);
        }
        let none = Routes::of(&FunctionSpec::named("cart".parse().unwrap()));
        assert_eq!(none.class(&Request::get("/x").body(empty_body()).unwrap()).to_string(), "GET internal");
    }
}
