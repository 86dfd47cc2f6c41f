//! An HTTP/1.1 client that costs next to nothing.
//!
//! The attackers share two cores with the server, so what they do not spend is the server's. A reply is read into one small buffer and counted, not
//! kept; only its status, its headers and the first bytes of its body are looked at.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const BUFFER_BYTES: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// Addresses of the loopback network that connections come from in turn, so that no pair of addresses runs out of ports.
const SOURCES: u32 = 16;

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Whether a `Retry-After` says when to come back.
    pub says_when: bool,
    /// The seconds it says.
    pub retry_after_s: u64,
    /// Whether the body says why.
    pub says_why: bool,
    /// Whether all vectors were found in the cache.
    pub hit: bool,
    /// Whether the server closes the connection after it.
    pub closes: bool,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// One connection.
pub struct Client {
    tcp: TcpStream,
    buffer: Box<[u8]>,
    filled: usize,
}

impl Client {
    /// Connects. `number` chooses the address it comes from, `receive_bytes` the size of its receive buffer where it matters.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn connect(to: SocketAddr, number: u32, receive_bytes: Option<u32>) -> Result<Client> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let from = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
        socket.bind(SocketAddr::new(from.into(), 0))?;
        let tcp = socket.connect(to).await?;
        tcp.set_nodelay(true)?;
        Ok(Client {
            tcp,
            buffer: Box::default(),
            filled: 0,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The kernel's; as when the server has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.tcp.write_all(bytes).await
    }

    /// Ends without a goodbye: the server sees a reset.
    pub fn reset(self) {
        // A connection that is gone already needs no reset.
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Sends a request and reads its reply. A server that refuses may close before it has read all, so a failure to send counts only when no
    /// reply came.
    ///
    /// # Errors
    /// The kernel's, or a reply that is none.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Reply> {
        let sent = self.tcp.write_all(request).await;
        match self.reply().await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    /// Reads one reply to its end.
    ///
    /// # Errors
    /// The kernel's, an end too early, or a reply that is none.
    pub async fn reply(&mut self) -> Result<Reply> {
        let head = loop {
            if let Some(head) = parse(&self.buffer[..self.filled])? {
                break head;
            }
            self.fill().await?;
        };
        let mut reply = head.reply;
        self.consume(head.bytes);
        let mut seen = Seen::default();
        if head.chunked {
            loop {
                let chunk_bytes = self.chunk_head().await?;
                self.body(chunk_bytes, &mut seen).await?;
                self.skip(2).await?;
                if chunk_bytes == 0 {
                    break;
                }
            }
        } else {
            self.body(head.content_bytes, &mut seen).await?;
        }
        reply.body_bytes = seen.bytes;
        reply.says_why = seen.says_why();
        Ok(reply)
    }

    async fn chunk_head(&mut self) -> Result<u64> {
        loop {
            match httparse::parse_chunk_size(&self.buffer[..self.filled]) {
                Ok(httparse::Status::Complete((bytes, chunk_bytes))) => {
                    self.consume(bytes);
                    return Ok(chunk_bytes);
                }
                Ok(httparse::Status::Partial) => self.fill().await?,
                Err(_) => return Err(Error::new(ErrorKind::InvalidData, "no chunk")),
            }
        }
    }

    async fn body(&mut self, mut left: u64, seen: &mut Seen) -> Result<()> {
        while left > 0 {
            if self.filled == 0 {
                self.fill().await?;
            }
            let here = self.filled.min(usize::try_from(left).unwrap_or(usize::MAX));
            seen.see(&self.buffer[..here]);
            self.consume(here);
            left -= here as u64;
        }
        Ok(())
    }

    async fn skip(&mut self, bytes: u64) -> Result<()> {
        self.body(bytes, &mut Seen::default()).await
    }

    async fn fill(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES].into();
        }
        if self.filled == self.buffer.len() {
            return Err(Error::new(ErrorKind::InvalidData, "a head longer than 8 KiB"));
        }
        match self.tcp.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}

/// The beginning of a body.
#[derive(Default)]
struct Seen {
    start: Vec<u8>,
    bytes: u64,
}

impl Seen {
    fn see(&mut self, bytes: &[u8]) {
        let room = 64usize.saturating_sub(self.start.len());
        self.start.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
    }

    fn says_why(&self) -> bool {
        self.start.starts_with(b"{\"error\":") && self.start.len() > 12
    }
}

struct Head {
    reply: Reply,
    bytes: usize,
    content_bytes: u64,
    chunked: bool,
}

/// The head of a reply, once it is there.
fn parse(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Error::new(ErrorKind::InvalidData, "no HTTP reply")),
    };
    let mut head = Head {
        reply: Reply {
            status: response.code.unwrap_or(0),
            ..Reply::default()
        },
        bytes: end,
        content_bytes: 0,
        chunked: false,
    };
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("");
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => head.content_bytes = value.parse().unwrap_or(0),
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            "retry-after" => {
                head.reply.retry_after_s = value.parse().unwrap_or(0);
                head.reply.says_when = head.reply.retry_after_s > 0;
            }
            "x-plimsoll-cache" => head.reply.hit = value == "hit",
            "connection" => head.reply.closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(Some(head))
}

/// A `POST` of JSON.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let mut request = head(path, &format!("content-length: {}", body.len()));
    request.extend_from_slice(body.as_bytes());
    request
}

/// The head of a `POST` with one more header.
pub fn head(path: &str, header: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: drill\r\ncontent-type: application/json\r\n{header}\r\n\r\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn replies(bytes: &'static [u8], count: usize) -> Vec<Result<Reply>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(bytes).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let replies = runtime.block_on(async {
            let mut client = Client::connect(address, 3, None).await.unwrap();
            let mut replies = Vec::new();
            for _ in 0..count {
                replies.push(client.reply().await);
            }
            replies
        });
        server.join().unwrap();
        replies
    }

    #[test]
    fn replies_are_told_apart() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
            HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"error\":\"full\"}";
        let replies = replies(bytes, 2);
        let served = replies[0].as_ref().unwrap();
        assert_eq!(
            (served.status, served.body_bytes, served.says_when),
            (200, 5, false)
        );
        let refused = replies[1].as_ref().unwrap();
        assert_eq!(
            (
                refused.status,
                refused.says_when,
                refused.says_why,
                refused.closes
            ),
            (429, true, true, true)
        );
    }

    #[test]
    fn a_reply_that_breaks_off_is_an_error() {
        assert!(replies(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", 1)[0].is_err());
        assert!(replies(b"SSH-2.0\r\n\r\n", 1)[0].is_err());
    }
}
