//! Asks a server's debug listener.
//!
//! HTTP/1.0, so that an answer ends where the connection does and nothing needs to be unchunked.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// How long a connection may be silent beyond what was asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than this is no answer of a debug listener.
const ANSWER_BYTES_MAX: u64 = 2 << 30;

/// A debug listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port.
    authority: String,
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text.starts_with("https://") {
            return Err(
                "the debug listener speaks plain HTTP; reach it through a tunnel that ends on its host",
            );
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let authority = rest.split('/').next().unwrap_or_default();
        let authority = match authority.parse::<u16>() {
            Ok(port) => format!("127.0.0.1:{port}"),
            Err(_) => authority.to_owned(),
        };
        match authority.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Url { authority }),
            _ => Err("expected the address of --debug-listen, as http://127.0.0.1:6060"),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Url {
    /// The body of the answer, which may take so long to begin.
    ///
    /// # Errors
    /// The network's, or a status that is not 200, with what it says.
    pub(super) fn get(&self, path: &str, takes: Duration) -> Result<Vec<u8>> {
        let named = |error: Error| Error::new(error.kind(), format!("{self}{path}: {error}"));
        self.ask(path, takes).map_err(named)
    }

    fn ask(&self, path: &str, takes: Duration) -> Result<Vec<u8>> {
        let none = || Error::new(ErrorKind::NotFound, "no such address");
        let address = self.authority.to_socket_addrs()?.next().ok_or_else(none)?;
        let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(takes + PATIENCE))?;
        tcp.write_all(format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.authority).as_bytes())?;
        let mut answer = Vec::new();
        tcp.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| Error::new(ErrorKind::InvalidData, "not HTTP"))?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        match head.split(' ').nth(1) {
            Some("200") => Ok(body),
            _ => Err(Error::other(format!(
                "{}: {}",
                head.lines().next().unwrap_or_default(),
                String::from_utf8_lossy(&body).trim_end()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short() {
        let shown = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        for text in [
            "http://127.0.0.1:6060",
            "http://127.0.0.1:6060/debug/",
            "127.0.0.1:6060",
            "6060",
        ] {
            assert_eq!(shown(text).as_deref(), Ok("http://127.0.0.1:6060"), "{text}");
        }
        assert_eq!(shown("http://[::1]:1").as_deref(), Ok("http://[::1]:1"));
        for text in ["", "http://", "host", "https://host:1", "host:port", ":1"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
