//! The HTTP client of the exporters. Counts what the collector does not take and logs it once until it works again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use super::Counts;

/// An answer says what was refused, in a few words.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct CollectorClient(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Exporters call from threads of their own, which have no runtime.
    runtime: Handle,
    timeout: Duration,
    counts: Arc<Counts>,
    failing: AtomicBool,
}

impl CollectorClient {
    pub(super) fn new(runtime: Handle, timeout: Duration, counts: Arc<Counts>) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .expect("the provider knows the default protocol versions")
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self(Arc::new(Inner { client, runtime, timeout, counts, failing: AtomicBool::new(false) }))
    }
}

impl Inner {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    async fn send_in_time(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        match tokio::time::timeout(self.timeout, self.send(request)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} ms", self.timeout.as_millis()).into()),
        }
    }

    fn note(&self, endpoint: &str, result: &Result<Response<Bytes>, HttpError>) {
        let failure = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(chain(error.as_ref())),
        };
        let was_failing = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            None if was_failing => tracing::info!(endpoint, "OpenTelemetry collector answers again"),
            None => {}
            Some(detail) => {
                let traces = endpoint.ends_with("/traces");
                let count = if traces { &self.counts.trace_failures } else { &self.counts.metric_failures };
                count.fetch_add(1, Ordering::Relaxed);
                if !was_failing {
                    tracing::warn!(endpoint, detail, "OpenTelemetry collector does not take what is exported");
                }
            }
        }
    }
}

/// An error with its causes: hyper hides the useful part in them.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let endpoint = request.uri().to_string();
        let inner = Arc::clone(&self.0);
        let result = match self.0.runtime.spawn(async move { inner.send_in_time(request).await }).await {
            Ok(result) => result,
            Err(error) => Err(error.into()),
        };
        self.0.note(&endpoint, &result);
        result
    }
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorClient")
    }
}
