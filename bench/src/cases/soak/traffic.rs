//! Requests whose answers are known, one after the other, and what became of them.
//!
//! An answer counts as wrong if it is not the one that was given before anything was broken. A request that was under way
//! while the node was down may be lost; one that was not may only be answered, or refused with a word about when to come
//! again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::probe::{Answer, Connection};

/// Between two requests of one client: the node is to be busy, and the chaos to have room.
const PAUSE: Duration = Duration::from_millis(10);
/// While there is no node.
const DOWN_PAUSE: Duration = Duration::from_millis(50);
/// Wrong answers that are kept to be shown.
const SHOWN_MAX: usize = 10;
const BODY_SHOWN_MAX: usize = 200;

/// A request and its answer.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) cookie: String,
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) right: BTreeMap<&'static str, u64>,
    pub(super) wrong: u64,
    /// By status and path.
    pub(super) refused: BTreeMap<(u16, &'static str), u64>,
    /// While the node was down.
    pub(super) lost_explained: u64,
    pub(super) lost: u64,
    pub(super) shown: Vec<String>,
}

/// Where the node is, and how often it came and went: an odd number while it is down.
#[derive(Default)]
pub(super) struct Whereabouts {
    epoch: AtomicU64,
    address: Mutex<Option<SocketAddr>>,
    stop: AtomicU64,
    counts: Mutex<Counts>,
}

impl Whereabouts {
    /// Before it goes down.
    pub(super) fn goes_down(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// When it is up.
    pub(super) fn is_up(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Its address and how often it came and went.
    pub(super) fn now(&self) -> (Option<SocketAddr>, u64) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        (*self.address.lock().unwrap_or_else(PoisonError::into_inner), epoch)
    }

    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::SeqCst);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) > 0
    }

    fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Asks once what is asked ever after; the answers are what is right.
pub(super) async fn learn(address: SocketAddr, paths: &[(&'static str, &'static str)]) -> Result<Vec<Question>> {
    let mut connection = Connection::open(address).await?;
    let cart = connection.send("POST", "/cart/lamp", "").await?;
    ensure!(cart.status == 200, "the cart answers {}", cart.status);
    let mut questions = Vec::new();
    for &(method, path) in paths {
        let cookie = if path == "/checkout" { cart.cookie.clone() } else { String::new() };
        let first = connection.send(method, path, &cookie).await.context(path)?;
        let second = connection.send(method, path, &cookie).await.context(path)?;
        ensure!(first.status < 300, "{path} answers {}", first.status);
        let body = certain(path, &first.body);
        ensure!(body == certain(path, &second.body), "two answers of {path} differ, so that none can be checked");
        questions.push(Question { method, path, cookie, status: first.status, body });
    }
    Ok(questions)
}

/// One client: asks in turn, each from another place in the list.
pub(super) async fn client(number: usize, questions: Arc<Vec<Question>>, node: Arc<Whereabouts>) {
    let mut connection: Option<(Connection, u64)> = None;
    for at in number.. {
        if node.is_stopped() {
            return;
        }
        let (address, epoch) = node.now();
        let (Some(address), true) = (address, epoch.is_multiple_of(2)) else {
            connection = None;
            tokio::time::sleep(DOWN_PAUSE).await;
            continue;
        };
        let question = &questions[at % questions.len()];
        let kept = connection.take().filter(|(_, since)| *since == epoch).map(|(connection, _)| connection);
        let outcome = ask(kept, address, question).await;
        let is_explained = node.now().1 != epoch;
        match outcome {
            Ok((open, answer)) => {
                connection = Some((open, epoch));
                node.note(|counts| counts.answered(question, &answer, is_explained));
            }
            Err(error) => node.note(|counts| counts.was_lost(question, &error, is_explained)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What of an answer is the same each time: an order has numbers of its own, whose form is all that can be checked.
fn certain(path: &str, body: &[u8]) -> Vec<u8> {
    let order: Value = match serde_json::from_slice(body) {
        Ok(order) if path == "/checkout" => order,
        Ok(_) | Err(_) => return body.to_vec(),
    };
    let (payment, receipt) = (order["payment"].as_str().unwrap_or(""), &order["receipt"]);
    let id = receipt["id"].as_str().unwrap_or("");
    let is_paid = payment.len() == 16 && payment.bytes().all(|byte| byte.is_ascii_hexdigit());
    let goods: Vec<&str> = id.split('-').skip(1).take(1).collect();
    let is_filed = receipt["path"] == format!("/receipt/{id}");
    format!("{} {} paid {is_paid} goods {goods:?} filed {is_filed}", order["currency"], order["total_cents"])
        .into_bytes()
}

async fn ask(kept: Option<Connection>, address: SocketAddr, question: &Question) -> Result<(Connection, Answer)> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let answer = connection.send(question.method, question.path, &question.cookie).await?;
    Ok((connection, answer))
}

impl Counts {
    /// A wrong body is wrong whatever happens to the node.
    fn answered(&mut self, question: &Question, answer: &Answer, is_explained: bool) {
        if answer.status == question.status && certain(question.path, &answer.body) == question.body {
            *self.right.entry(question.path).or_default() += 1;
        } else if matches!(answer.status, 429 | 503) && answer.retry_after {
            *self.refused.entry((answer.status, question.path)).or_default() += 1;
        } else if is_explained && answer.status >= 500 {
            self.lost_explained += 1;
        } else {
            self.wrong += 1;
            let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(BODY_SHOWN_MAX)]).into_owned();
            self.show(format!("{} answered {}: {body}", question.path, answer.status));
        }
    }

    fn was_lost(&mut self, question: &Question, error: &anyhow::Error, is_explained: bool) {
        if is_explained {
            self.lost_explained += 1;
        } else {
            self.lost += 1;
            self.show(format!("{} not answered: {error:#}", question.path));
        }
    }

    fn show(&mut self, line: String) {
        crate::say(&format!("WRONG: {line}"));
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_right_answer_is_wrong_unless_it_is_a_refusal_or_the_node_went_down() {
        let question = Question { method: "GET", path: "/a", cookie: String::new(), status: 200, body: b"a".to_vec() };
        let answer = |status, body: &[u8], retry_after| Answer {
            status,
            timing: String::new(),
            retry_after,
            cookie: String::new(),
            body: body.to_vec(),
        };
        let mut counts = Counts::default();
        counts.answered(&question, &answer(200, b"a", false), false);
        counts.answered(&question, &answer(200, b"b", false), true);
        counts.answered(&question, &answer(503, b"", true), false);
        counts.answered(&question, &answer(503, b"", false), false);
        counts.answered(&question, &answer(500, b"", false), true);
        counts.was_lost(&question, &anyhow::anyhow!("closed"), true);
        counts.was_lost(&question, &anyhow::anyhow!("closed"), false);
        assert_eq!((counts.right["/a"], counts.wrong, counts.refused[&(503, "/a")]), (1, 2, 1));
        assert_eq!((counts.lost_explained, counts.lost, counts.shown.len()), (2, 1, 3));
    }

    #[test]
    fn an_order_is_checked_without_its_numbers() {
        let order = |payment, id, cents| {
            let receipt = format!("{{\"id\":\"{id}\",\"path\":\"/receipt/{id}\"}}");
            let text = format!(
                "{{\"currency\":\"EUR\",\"total_cents\":{cents},\"payment\":\"{payment}\",\"receipt\":{receipt}}}"
            );
            certain("/checkout", text.as_bytes())
        };
        let right = order("61a66724c737d920", "6b08b807-lamp.1-4cd1", 4990);
        assert_eq!(right, order("abbf87c7909b4edb", "6b08b808-lamp.1-4cd2", 4990));
        assert_ne!(right, order("abbf87c7909b4edb", "6b08b808-lamp.1-4cd2", 4991));
        assert_ne!(right, order("abbf87c7909b4edb", "6b08b808-lamp.2-4cd2", 4990));
        assert_ne!(right, order("", "6b08b808-lamp.1-4cd2", 4990));
        assert_eq!(certain("/hello", b"{\"payment\":1}"), b"{\"payment\":1}");
    }

    #[test]
    fn the_node_is_down_between_going_and_coming() {
        let node = Whereabouts::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        node.goes_down();
        assert_eq!(node.now(), (None, 1));
        node.is_up(address);
        assert_eq!(node.now(), (Some(address), 2));
    }
}
