//! `/metrics` and `/healthz`.
//!
//! Off unless the settings name an address: a port, even one on loopback, is open to every user and to
//! every container in the host's network, past the permissions of the socket. (dockerd and containerd
//! have theirs off for the same reason; 127.0.0.1:9750 is a good one.)

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Most connections at once: a Prometheus takes one.
const MAX_CONNECTIONS: usize = 16;
/// A connection has so long for its one request and answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served.
pub trait Pages: Send + Sync + 'static {
    /// The metrics, in the OpenMetrics format.
    fn metrics(&self) -> String;
    /// Whether all is well, and what there is to say about it.
    fn health(&self) -> Result<String, String>;
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, pages: Arc<dyn Pages>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = connections.clone().acquire_owned().await else {
            return; // nobody closes it
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &*pages);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .keep_alive(false)
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            match timeout(PATIENCE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an HTTP client was let go"),
                Err(_) => tracing::debug!("a slow HTTP client was let go"),
            }
            drop(slot);
        });
    }
}

/// There are no descriptors left, or a client was gone before it was taken: both pass.
pub async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "cannot take a client");
    sleep(Duration::from_millis(100)).await;
}

fn answer(request: &Request<Incoming>, pages: &dyn Pages) -> Response<Full<Bytes>> {
    let text = "text/plain; charset=utf-8";
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, OPEN_METRICS, pages.metrics())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => match pages.health() {
            Ok(said) => (StatusCode::OK, text, said + "\n"),
            Err(said) => (StatusCode::SERVICE_UNAVAILABLE, text, said + "\n"),
        },
        (_, "/metrics" | "/healthz") => (
            StatusCode::METHOD_NOT_ALLOWED,
            text,
            "only GET and HEAD\n".into(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            text,
            "there are /metrics and /healthz\n".into(),
        ),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
