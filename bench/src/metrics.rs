//! The metrics of our node, as Prometheus reads them: looked up by name and labels, compared over time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::probe::Connection;

/// How a node stood at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Asks the admin port of a node.
    pub(crate) async fn read(admin: SocketAddr) -> Result<Self> {
        let answer = Connection::open(admin).await?.get("/metrics").await?;
        ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        Ok(Self::parse(&String::from_utf8_lossy(&answer.body)))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// Sum over all labels.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.0.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    }

    /// Sums by the value of one label.
    pub(crate) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_insert(0.0) += sample.value;
        }
        sums
    }

    /// What was added by one label since `before`; what has not changed is left out.
    pub(crate) fn since(&self, before: &Self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let earlier = before.by(name, label);
        let mut added = self.by(name, label);
        added.iter_mut().for_each(|(key, value)| *value -= earlier.get(key).copied().unwrap_or(0.0));
        added.retain(|_, value| *value > 0.0);
        added
    }
}

/// Shares of a whole, largest first: `rolled-back 99.6 %, generic-control 0.4 %`.
pub(crate) fn shares(counts: &BTreeMap<String, f64>) -> String {
    let all: f64 = counts.values().sum();
    let mut counts: Vec<(&String, &f64)> = counts.iter().collect();
    counts.sort_by(|one, other| other.1.total_cmp(one.1));
    let show = |(name, count): (&String, &f64)| format!("{name} {:.2} %", 100.0 * count / all.max(1.0));
    counts.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

/// `name{label="value",...} number`; what is something else is left out. Our names and values need no escapes.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: pairs.collect(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_by_label_and_compared() {
        let before = Metrics::parse("# HELP a x\na_total{f=\"x\",p=\"ready\"} 1\n");
        let text =
            "a_total{f=\"x\",p=\"ready\"} 3\na_total{f=\"y, z\",p=\"ready\"} 1.0\na_total{f=\"x\",p=\"cold\"} 1\nb 7\n";
        let after = Metrics::parse(text);
        assert_eq!((after.sum("a_total"), after.sum("b"), after.sum("c")), (5.0, 7.0, 0.0));
        assert_eq!(after.by("a_total", "f")["y, z"], 1.0);
        let added = after.since(&before, "a_total", "p");
        assert_eq!(shares(&added), "ready 75.00 %, cold 25.00 %");
    }
}
