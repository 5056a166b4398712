//! `allowed_outbound_hosts` of `spin.toml`, translated: which entries allow what here, and which mean nothing.
//!
//! Only ever narrower than what Spin allows: an entry that cannot be translated allows nothing and is named.

use forerun_types::{OutboundHost, OutboundHostError};

/// Ports of one range that are turned into entries of their own; a longer range is not translated.
const RANGE_PORTS_MAX: u16 = 64;

/// What an entry comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Translated {
    /// These hosts.
    Allowed(Vec<OutboundHost>),
    /// Calls to a component of the application, or to all of them (`None`): these need no entry here.
    OfTheApplication(Option<String>),
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Not an entry at all.
    Malformed(OutboundHostError),
}

/// Translates one entry, templates filled in.
pub(crate) fn translate(text: &str) -> Translated {
    let Some((scheme, rest)) = text.split_once("://") else { return parsed(text) };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    };
    if !matches!(scheme, "http" | "https" | "*") {
        return Translated::Nothing("functions call by HTTP only");
    }
    if matches!(host, "self" | "self.alt") {
        return Translated::Nothing("call a function of the node by its name, http://<name>.forerun.internal/");
    }
    if let Some(name) = host.strip_suffix(".spin.internal") {
        return Translated::OfTheApplication((name != "*").then(|| name.to_owned()));
    }
    if host.split_once('/').is_some_and(|(_, bits)| bits.chars().all(|c| c.is_ascii_digit())) {
        return Translated::Nothing("ranges of addresses are not supported, list the hosts");
    }
    match port.and_then(|port| port.split_once("..")) {
        Some((from, to)) => range(scheme, host, from, to).unwrap_or_else(|| parsed(text)),
        None => parsed(text),
    }
}

/// An entry of the older `allowed_http_hosts`, in the form of the newer key.
pub(crate) fn of_http_host(text: &str) -> String {
    match text {
        "insecure:allow-all" => "*://*:*".to_owned(),
        _ if text.contains("://") => text.to_owned(),
        _ => format!("*://{text}"),
    }
}

fn parsed(text: &str) -> Translated {
    match text.parse() {
        Ok(host) => Translated::Allowed(vec![host]),
        Err(error) => Translated::Malformed(error),
    }
}

/// Spin's `from..to`, without `to`; `None` if these are no numbers.
fn range(scheme: &str, host: &str, from: &str, to: &str) -> Option<Translated> {
    let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
    if to.saturating_sub(from) > RANGE_PORTS_MAX {
        return Some(Translated::Nothing(
            "a range of more than 64 ports is not supported, list the ports or write `*`",
        ));
    }
    let entries = (from..to).map(|port| format!("{scheme}://{host}:{port}").parse());
    Some(entries.collect::<Result<_, _>>().map_or_else(Translated::Malformed, Translated::Allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Vec<String> {
        match translate(text) {
            Translated::Allowed(hosts) => hosts.iter().map(ToString::to_string).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn translates_the_forms_of_the_reference() {
        for same in ["https://a.example", "http://127.0.0.1:*", "*://a.example:4567", "https://*:*", "https://*"] {
            assert_eq!(allowed(same), [same]);
        }
        assert_eq!(allowed("https://*.a.example/"), ["https://*.a.example"]);
        assert_eq!(allowed("http://[::1]:80..82"), ["http://[::1]:80", "http://[::1]:81"]);
        assert_eq!(translate("http://cart.spin.internal"), Translated::OfTheApplication(Some("cart".into())));
        assert_eq!(translate("https://*.spin.internal"), Translated::OfTheApplication(None));
    }

    #[test]
    fn what_cannot_be_translated_allows_nothing() {
        for text in ["redis://a:6379", "http://self", "https://self.alt", "https://10.0.0.0/8", "http://a:1..65535"] {
            assert!(matches!(translate(text), Translated::Nothing(_)), "{text}");
        }
        for text in ["a.example", "http://a/b", "http://a:x..y", "http://a:0..3", ""] {
            assert!(matches!(translate(text), Translated::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn older_entries_allow_both_schemes() {
        assert_eq!(of_http_host("a.example:81"), "*://a.example:81");
        assert_eq!(of_http_host("insecure:allow-all"), "*://*:*");
    }
}
