//! Where to export to, and how.

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// How bytes get to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// gRPC; collectors listen on port 4317.
    #[default]
    Grpc,
    /// Protocol buffers over HTTP/1.1; collectors listen on port 4318.
    #[value(name = "http/protobuf")]
    Http,
}

/// What is wrong with a setting. Values of headers may be secrets and are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The endpoint.
    #[error("--otlp-endpoint {0}: expected http://HOST:PORT")]
    Endpoint(String),
    /// TLS.
    #[error(
        "--otlp-endpoint {0}: TLS is not spoken; send to a collector on this host or in this pod, which can"
    )]
    Tls(String),
    /// A header.
    #[error("--otlp-headers: item {0} is not NAME=VALUE")]
    Header(usize),
}

/// Where to export to, and how.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Host and port.
    pub(super) authority: Authority,
    /// What paths begin with, without a slash at its end.
    pub(super) prefix: String,
    pub(super) protocol: Protocol,
    pub(super) headers: HeaderMap,
    pub(super) service_name: String,
}

impl OtlpSettings {
    /// Reads the settings as the command line and OpenTelemetry's environment variables have them: an address, and `NAME=VALUE,NAME=VALUE`.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn new(
        endpoint: &str,
        protocol: Protocol,
        headers: &str,
        service_name: String,
    ) -> Result<OtlpSettings, SettingError> {
        let bad = || SettingError::Endpoint(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(SettingError::Tls(endpoint.to_owned()));
        }
        if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) || uri.query().is_some() {
            return Err(bad());
        }
        Ok(OtlpSettings {
            authority: uri.authority().cloned().ok_or_else(bad)?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            protocol,
            headers: parse_headers(headers)?,
            service_name,
        })
    }

    /// The port, where none is said the protocol's own.
    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.protocol {
            Protocol::Grpc => 4317,
            Protocol::Http => 4318,
        })
    }

    /// The host, without the brackets of an address.
    pub(super) fn host(&self) -> &str {
        self.authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }
}

fn parse_headers(text: &str) -> Result<HeaderMap, SettingError> {
    let mut headers = HeaderMap::new();
    let items = text.split(',').map(str::trim).enumerate();
    for (index, item) in items.filter(|(_, item)| !item.is_empty()) {
        let bad = || SettingError::Header(index + 1);
        let (name, value) = item.split_once('=').ok_or_else(bad)?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
        let value = decode_percent(value.trim()).ok_or_else(bad)?;
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn decode_percent(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, headers: &str) -> Result<OtlpSettings, SettingError> {
        OtlpSettings::new(endpoint, Protocol::Grpc, headers, "test".to_owned())
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        let read = |endpoint| settings(endpoint, "").map(|s| (s.host().to_owned(), s.port(), s.prefix));
        let is = |host: &str, port, prefix: &str| Ok((host.to_owned(), port, prefix.to_owned()));
        assert_eq!(read("http://collector:4319"), is("collector", 4319, ""));
        assert_eq!(read("collector:4319"), is("collector", 4319, ""));
        assert_eq!(read("http://[::1]/otlp/"), is("::1", 4317, "/otlp"));
        assert!(matches!(read("https://collector"), Err(SettingError::Tls(_))));
        for bad in ["", "/path", "ftp://collector", "http://", "http://a b"] {
            assert!(matches!(read(bad), Err(SettingError::Endpoint(_))), "{bad}");
        }
    }

    #[test]
    fn headers_are_decoded_and_their_values_kept_secret() {
        let headers = settings("a:1", "Authorization=Bearer%20x, b=c=d,")
            .unwrap()
            .headers;
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["b"], "c=d");
        assert!(!format!("{headers:?}").contains("Bearer"));
        for bad in ["a", "a b=c", "a=%4", "a=%0a"] {
            assert_eq!(
                settings("a:1", &format!("ok=1,{bad}")).unwrap_err(),
                SettingError::Header(2)
            );
        }
    }
}
