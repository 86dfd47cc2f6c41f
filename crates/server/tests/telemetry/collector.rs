//! A small OpenTelemetry collector that speaks both protocols, keeps what it is sent, and can be unwell.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use prost::Message;

use super::messages::{Metrics, Span, Traces};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// It says never to every batch.
    Refusing,
    /// It takes connections and requests and says nothing.
    Silent,
}

/// What it was sent.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) spans: Vec<Span>,
    pub(crate) metrics: Vec<String>,
    pub(crate) batches: Vec<usize>,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) requests: usize,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) kept: Arc<Mutex<Kept>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub(crate) fn start(health: Health) -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let all = Arc::clone(&kept);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let kept = Arc::clone(&all);
                let service = service_fn(move |request| answer(health, Arc::clone(&kept), request));
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    // A client that goes away is no news.
                    let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        Collector {
            address,
            kept,
            _runtime: runtime,
        }
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(
    health: Health,
    kept: Arc<Mutex<Kept>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("the server sends all").to_bytes();
    kept.lock().unwrap().requests += 1;
    let is_grpc = head.headers["content-type"] == "application/grpc";
    if health == Health::Silent {
        std::future::pending::<()>().await;
    }
    if health == Health::Refusing {
        return Ok(reply(is_grpc, StatusCode::BAD_REQUEST, "3"));
    }
    let message = if is_grpc {
        assert_eq!(head.headers["te"], "trailers");
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        assert_eq!((body[0], length), (0, body.len() - 5));
        body.slice(5..)
    } else {
        body
    };
    let mut kept = kept.lock().unwrap();
    kept.headers = Some(head.headers);
    match head.uri.path() {
        "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            let traces = Traces::decode(message).expect("spans");
            let before = kept.spans.len();
            for resource in traces.resource_spans {
                let name = &resource.resource.unwrap().attributes[0];
                assert_eq!((name.key.as_str(), name.text()), ("service.name", "a test"));
                let scopes = resource.scope_spans;
                kept.spans
                    .extend(scopes.into_iter().flat_map(|scope| scope.spans));
            }
            let count = kept.spans.len() - before;
            kept.batches.push(count);
        }
        "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            let metrics = Metrics::decode(message).expect("metrics");
            let scopes = metrics
                .resource_metrics
                .into_iter()
                .flat_map(|resource| resource.scope_metrics);
            let names = scopes
                .flat_map(|scope| scope.metrics)
                .map(|metric| metric.checked_name());
            kept.metrics.extend(names);
        }
        path => panic!("{path}"),
    }
    Ok(reply(is_grpc, StatusCode::OK, "0"))
}

fn reply(is_grpc: bool, status: StatusCode, code: &'static str) -> Response<Body> {
    if !is_grpc {
        let mut response = Response::new(Full::default().boxed());
        *response.status_mut() = status;
        return response;
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))]);
    // One empty message.
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
