//! One connection to the collector, over which one batch at a time is posted.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::AbortHandle;

use super::answer::{Verdict, over_grpc, over_http};
use super::settings::{OtlpSettings, Protocol};

/// Asked of the kernel for each direction.
const SOCKET_BUFFER_BYTES: u32 = 64 * 1024;
/// Hyper's buffers.
const BUFFER_BYTES: usize = 16 * 1024;
/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// What the connection takes: the kernel's two buffers (doubled by it), hyper's two, an answer and state.
pub(super) const CONNECTION_BYTES: usize =
    4 * SOCKET_BUFFER_BYTES as usize + 2 * BUFFER_BYTES + ANSWER_BYTES_MAX + 24 * 1024;
/// A gRPC message begins with so many bytes: that it is not compressed, and its length.
pub(super) const GRPC_HEAD_BYTES: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is posted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn path(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Signal::Traces, Protocol::Http) => "/v1/traces",
            (Signal::Metrics, Protocol::Http) => "/v1/metrics",
            (Signal::Traces, Protocol::Grpc) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Signal::Metrics, Protocol::Grpc) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
        }
    }
}

/// An open connection; closed when it is dropped.
pub(super) struct Client {
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(super) async fn connect(settings: &OtlpSettings) -> Result<Client, Failure> {
        let io = TokioIo::new(dial(settings).await?);
        let (sender, driver) = match settings.protocol {
            Protocol::Http => {
                let mut builder = http1::Builder::new();
                let (sender, connection) = builder.max_buf_size(BUFFER_BYTES).handshake(io).await?;
                (
                    Sender::Http(sender),
                    tokio::spawn(async { drop(connection.await) }),
                )
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                let (sender, connection) = builder
                    .initial_stream_window_size(BUFFER_BYTES as u32)
                    .initial_connection_window_size(BUFFER_BYTES as u32)
                    .max_send_buf_size(BUFFER_BYTES)
                    .handshake(io)
                    .await?;
                (
                    Sender::Grpc(sender),
                    tokio::spawn(async { drop(connection.await) }),
                )
            }
        };
        Ok(Client {
            sender,
            driver: driver.abort_handle(),
        })
    }

    /// Posts a message, which lies behind the head that gRPC wants.
    pub(super) async fn post(
        &mut self,
        settings: &OtlpSettings,
        signal: Signal,
        message: Bytes,
    ) -> Result<Verdict, Failure> {
        match &mut self.sender {
            Sender::Http(sender) => {
                sender.ready().await?;
                let request = request(settings, signal, message.slice(GRPC_HEAD_BYTES..))?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = collect(body).await?.to_bytes();
                Ok(over_http(head.status, &head.headers, body))
            }
            Sender::Grpc(sender) => {
                sender.ready().await?;
                let request = request(settings, signal, message)?;
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = collect(body).await?;
                let trailers = body.trailers().cloned();
                let body = body.to_bytes();
                Ok(over_grpc(head.status, &head.headers, trailers.as_ref(), body))
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn collect(body: Incoming) -> Result<http_body_util::Collected<Bytes>, Failure> {
    Limited::new(body, ANSWER_BYTES_MAX).collect().await
}

async fn dial(settings: &OtlpSettings) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in lookup_host((settings.host(), settings.port())).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn request(settings: &OtlpSettings, signal: Signal, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let path = format!("{}{}", settings.prefix, signal.path(settings.protocol));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = settings.headers.clone();
    let content_type = match settings.protocol {
        Protocol::Http => {
            *request.uri_mut() = path.parse()?;
            let host = HeaderValue::from_str(settings.authority.as_str())?;
            request.headers_mut().insert(header::HOST, host);
            "application/x-protobuf"
        }
        Protocol::Grpc => {
            let uri = Uri::builder()
                .scheme("http")
                .authority(settings.authority.clone());
            *request.uri_mut() = uri.path_and_query(path).build()?;
            request
                .headers_mut()
                .insert(header::TE, HeaderValue::from_static("trailers"));
            "application/grpc"
        }
    };
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("plimsoll"));
    Ok(request)
}
