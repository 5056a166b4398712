//! The dashboard: a page, its script and its style, in the binary, served on the admin port.
//!
//! The files need no token, for they hold no data; what they show comes from the admin API, with the token that the
//! page asks for. [`live`] is the one thing made for the page alone. The page loads nothing from anywhere else, and
//! its policy says so to the browser.

mod live;

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

pub(crate) use live::{Feed, TooMany};

/// Scripts and styles from here only, none in the page, and nobody else's frame: whatever a function's name or route
/// holds, it is not run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the dashboard.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

const ASSETS: [Asset; 8] = [
    Asset { path: "/", content_type: HTML, bytes: include_bytes!("../../dashboard/index.html") },
    Asset { path: "/dashboard/app.js", content_type: SCRIPT, bytes: include_bytes!("../../dashboard/app.js") },
    Asset { path: "/dashboard/code.js", content_type: SCRIPT, bytes: include_bytes!("../../dashboard/code.js") },
    Asset { path: "/dashboard/style.css", content_type: STYLE, bytes: include_bytes!("../../dashboard/style.css") },
    Asset {
        path: "/dashboard/icon.svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("../../dashboard/icon.svg"),
    },
    Asset {
        path: "/dashboard/uplot.js",
        content_type: SCRIPT,
        bytes: include_bytes!("../../dashboard/uplot/uPlot.iife.min.js"),
    },
    Asset {
        path: "/dashboard/uplot.css",
        content_type: STYLE,
        bytes: include_bytes!("../../dashboard/uplot/uPlot.min.css"),
    },
    Asset {
        path: "/dashboard/uplot-licence.txt",
        content_type: TEXT,
        bytes: include_bytes!("../../dashboard/uplot/LICENSE"),
    },
];

/// Routes of the files.
pub(crate) fn assets<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, asset| router.route(asset.path, get(|| async { answer(asset) })))
}

fn answer(asset: &'static Asset) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the binary has other files at the same paths.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (headers, asset.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        let asset = ASSETS.iter().find(|asset| asset.path == path).unwrap();
        std::str::from_utf8(asset.bytes).unwrap()
    }

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let page = text("/");
        let named: Vec<_> = page.split('"').filter(|part| part.starts_with("/dashboard/")).collect();
        assert!(named.len() >= 5, "{named:?}");
        for path in named {
            assert!(ASSETS.iter().any(|asset| asset.path == path), "{path}");
        }
    }

    /// The policy would stop them too, but then the page would be broken.
    #[test]
    fn nothing_is_inline_and_no_data_becomes_markup() {
        let page = text("/");
        for (number, _) in page.match_indices("<script") {
            assert!(page[number..].starts_with("<script src=\"/dashboard/"), "{}", &page[number..]);
        }
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            let scripts = ["/dashboard/app.js", "/dashboard/code.js"];
            assert!(scripts.iter().all(|script| !text(script).contains(markup)), "{markup}");
        }
    }
}
