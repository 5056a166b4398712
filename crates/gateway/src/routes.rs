//! Which function answers: an immutable table from host and path, and from a name, to a function.
//!
//! Per host a tree of path segments: a lookup walks the request's path once, remembers the deepest
//! prefix route it passed, and prefers an exact route at the end. Routes with a host come before
//! those without, whatever their paths, as [`RoutePattern::specificity`] says. There is no pattern
//! matching here beyond whole segments, and no percent-decoding: routes match what was sent.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use forerun_driver::Program;
use forerun_telemetry::ArrivalTally;
use forerun_types::{FunctionName, FunctionSpec, PathPattern, RevisionNumber, RoutePattern};

use crate::admission::Admission;

/// One function as the request path sees it.
pub struct FunctionEntry {
    /// What the user asked for.
    pub spec: Arc<FunctionSpec>,
    /// The revision of `program`.
    pub revision: RevisionNumber,
    /// What is called.
    pub program: Arc<dyn Program>,
    /// Who may call now; one and the same for all revisions of a function.
    pub admission: Arc<Admission>,
    app: Arc<str>,
    arrivals: Arc<ArrivalTally>,
}

impl FunctionEntry {
    /// A function that is called with `program` from now on. Sets the limits of `admission` to those of `spec`.
    pub fn new(
        spec: Arc<FunctionSpec>,
        revision: RevisionNumber,
        program: Arc<dyn Program>,
        admission: Arc<Admission>,
    ) -> Self {
        admission.set_limits(&spec.limits);
        let app = spec.app.as_str().into();
        Self { spec, revision, program, admission, app, arrivals: Arc::default() }
    }

    /// Where its calls are counted, for those who predict.
    pub(crate) fn arrivals(&self) -> &Arc<ArrivalTally> {
        &self.arrivals
    }

    pub(crate) fn app(&self) -> &Arc<str> {
        &self.app
    }
}

/// Two functions claim the same name or route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteConflict {
    /// The same route.
    #[error("functions `{first}` and `{second}` both answer at `{route}`")]
    Route {
        /// The route.
        route: String,
        /// The function that was there first.
        first: FunctionName,
        /// The function that came later.
        second: FunctionName,
    },
    /// The same name.
    #[error("two functions are named `{name}`")]
    Name {
        /// The name.
        name: FunctionName,
    },
}

/// All routes of a node; made anew whenever one changes.
#[derive(Default)]
pub struct RouteTable {
    hosts: HashMap<Box<str>, Node, RandomState>,
    any_host: Node,
    names: HashMap<FunctionName, Target, RandomState>,
}

/// A function, and the label of the way it was found.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) function: Arc<FunctionEntry>,
    pub(crate) route: Arc<str>,
}

/// The place of one path segment.
#[derive(Default)]
struct Node {
    exact: Option<Target>,
    prefix: Option<Target>,
    children: HashMap<Box<str>, Node, RandomState>,
}

/// Label of calls by name.
const INTERNAL_ROUTE: &str = "internal";

impl RouteTable {
    /// A table of `functions` and their routes.
    ///
    /// # Errors
    /// Two functions with the same name, or on the same route; both are named.
    pub fn build(functions: impl IntoIterator<Item = Arc<FunctionEntry>>) -> Result<Self, RouteConflict> {
        let mut table = Self::default();
        let internal: Arc<str> = INTERNAL_ROUTE.into();
        for function in functions {
            let name = function.spec.name.clone();
            let by_name = Target { function: Arc::clone(&function), route: Arc::clone(&internal) };
            if table.names.insert(name.clone(), by_name).is_some() {
                return Err(RouteConflict::Name { name });
            }
            for pattern in &function.spec.routes {
                table.add(pattern, &function)?;
            }
        }
        Ok(table)
    }

    /// How many functions there are.
    pub fn functions_len(&self) -> usize {
        self.names.len()
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Arc<FunctionEntry>> {
        self.by_name(name).map(|target| &target.function)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Target> {
        self.names.get(name)
    }

    /// The most specific route for a request. `host` may carry a port and capitals.
    pub(crate) fn by_route(&self, host: &str, path: &str) -> Option<&Target> {
        let of_host = if self.hosts.is_empty() { None } else { self.hosts.get(&*normal_host(host)) };
        of_host.and_then(|node| node.find(path)).or_else(|| self.any_host.find(path))
    }

    fn add(&mut self, pattern: &RoutePattern, function: &Arc<FunctionEntry>) -> Result<(), RouteConflict> {
        let root = match &pattern.host {
            Some(host) => self.hosts.entry(host.as_str().into()).or_default(),
            None => &mut self.any_host,
        };
        let place = root.place(&pattern.path);
        if let Some(earlier) = place {
            return Err(RouteConflict::Route {
                route: pattern.to_string(),
                first: earlier.function.spec.name.clone(),
                second: function.spec.name.clone(),
            });
        }
        *place = Some(Target { function: Arc::clone(function), route: pattern.to_string().into() });
        Ok(())
    }
}

impl Node {
    fn place(&mut self, pattern: &PathPattern) -> &mut Option<Target> {
        let mut node = self;
        if let Some(segments) = pattern.as_str().strip_prefix('/') {
            for segment in segments.split('/') {
                node = node.children.entry(segment.into()).or_default();
            }
        }
        match pattern {
            PathPattern::Exact(_) => &mut node.exact,
            PathPattern::Prefix(_) => &mut node.prefix,
        }
    }

    fn find(&self, path: &str) -> Option<&Target> {
        let mut node = self;
        let mut deepest = node.prefix.as_ref();
        for segment in path.strip_prefix('/')?.split('/') {
            match node.children.get(segment) {
                Some(child) => node = child,
                None => return deepest,
            }
            deepest = node.prefix.as_ref().or(deepest);
        }
        node.exact.as_ref().or(deepest)
    }
}

/// `Shop.Example:8080` as `shop.example`; only a host in capitals is copied.
fn normal_host(host: &str) -> Cow<'_, str> {
    let end = match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) => colon,
        Some(_) | None => host.len(),
    };
    let host = &host[..end];
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn table(functions: &[(&str, &[&str])]) -> Result<RouteTable, RouteConflict> {
        RouteTable::build(functions.iter().map(|(name, routes)| testing::entry(name, routes)))
    }

    fn found<'a>(table: &'a RouteTable, host: &str, path: &str) -> Option<&'a str> {
        table.by_route(host, path).map(|target| target.function.spec.name.as_str())
    }

    #[test]
    fn prefers_the_more_specific_route() {
        let table = table(&[
            ("site", &["/..."]),
            ("cart", &["/cart/..."]),
            ("item", &["/cart/item"]),
            ("shop", &["shop.example/..."]),
            ("slash", &["/cart/"]),
        ])
        .unwrap();
        assert_eq!(found(&table, "h", "/"), Some("site"));
        assert_eq!(found(&table, "h", "/carts"), Some("site"));
        assert_eq!(found(&table, "h", "/cart"), Some("cart"));
        assert_eq!(found(&table, "h", "/cart/"), Some("slash"));
        assert_eq!(found(&table, "h", "/cart/item"), Some("item"));
        assert_eq!(found(&table, "h", "/cart/item/2"), Some("cart"));
        assert_eq!(found(&table, "SHOP.example:8080", "/cart/item"), Some("shop"));
        assert_eq!(table.function("cart").unwrap().spec.name.as_str(), "cart");
        assert!(table.function("nobody").is_none());
    }

    #[test]
    fn nothing_matches_where_nothing_is() {
        let table = table(&[("cart", &["/cart"])]).unwrap();
        for path in ["/", "/cart/", "/car", "", "*", "//cart"] {
            assert_eq!(found(&table, "h", path), None, "{path}");
        }
    }

    #[test]
    fn names_both_functions_on_one_route() {
        let error = table(&[("a", &["/x/..."]), ("b", &["/x/..."])]).err().unwrap();
        assert_eq!(error.to_string(), "functions `a` and `b` both answer at `/x/...`");
        assert!(matches!(table(&[("a", &[]), ("a", &[])]), Err(RouteConflict::Name { .. })));
    }

    fn pattern() -> impl Strategy<Value = String> {
        let host = prop_oneof![Just(""), Just("h.example"), Just("i.example")];
        (host, prop::collection::vec("[ab]", 0..4), 0..3u8).prop_map(|(host, segments, kind)| {
            let path: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
            match kind {
                0 => format!("{host}{path}/..."),
                1 if !path.is_empty() => format!("{host}{path}"),
                _ => format!("{host}{path}/"),
            }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_pattern_in_order(
            patterns in prop::collection::btree_set(pattern(), 0..12),
            host in prop_oneof![Just("h.example"), Just("I.example:1"), Just("other")],
            path in "(/[abc]?){1,5}",
        ) {
            let names: Vec<String> = (0..patterns.len()).map(|index| format!("f{index}")).collect();
            let entries = names.iter().zip(&patterns).map(|(name, route)| testing::entry(name, &[route]));
            let table = RouteTable::build(entries).unwrap();
            let mut naive: Vec<(RoutePattern, &String)> =
                patterns.iter().map(|route| route.parse().unwrap()).zip(&names).collect();
            naive.sort_by(|one, two| one.0.specificity(&two.0));
            let host_only = normal_host(host);
            let expected = naive.iter().find(|(route, _)| route.matches(&host_only, &path)).map(|(_, name)| name.as_str());
            prop_assert_eq!(found(&table, host, &path), expected);
        }
    }
}
