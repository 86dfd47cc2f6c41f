//! The page's files, compressed when the binary was built (`build.rs`) and sent so: browsers take gzip, always.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::http::problem::{Family, Problem};

/// A file of the page.
#[derive(Clone, Copy)]
pub(super) struct Asset {
    /// Where it is served.
    pub(super) path: &'static str,
    kind: &'static str,
    gzip: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $kind:literal, $file:literal) => {
        Asset {
            path: $path,
            kind: $kind,
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".gz")),
        }
    };
}

/// Them all, the page itself first.
pub(super) const ASSETS: [Asset; 11] = [
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/page/page.css", "text/css", "page.css"),
    asset!("/page/page.js", "text/javascript", "page.js"),
    asset!("/page/figures.js", "text/javascript", "figures.js"),
    asset!("/page/request.js", "text/javascript", "request.js"),
    asset!("/page/hull.js", "text/javascript", "hull.js"),
    asset!("/page/charts.js", "text/javascript", "charts.js"),
    asset!("/page/try.js", "text/javascript", "try.js"),
    asset!("/page/icon.svg", "image/svg+xml", "icon.svg"),
    asset!("/page/uplot.js", "text/javascript", "uPlot.iife.min.js"),
    asset!("/page/uplot.css", "text/css", "uPlot.min.css"),
];

/// The text of a file, for pages that are written to disk whole.
///
/// # Panics
/// When there is no such file.
pub(crate) fn text(path: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.path == path);
    let gzip = asset.expect("the path is a constant of ours").gzip;
    std::io::read_to_string(flate2::read::GzDecoder::new(gzip)).expect("it was compressed from text")
}

/// Nothing comes from elsewhere, nothing runs that is not one of the files, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Asset {
    /// The response to whoever asks with these headers.
    pub(super) fn response(self, asked: &HeaderMap) -> Response {
        if !takes_gzip(asked) {
            return Problem::only_gzip().into_response(Family::Native);
        }
        let headers = [
            (header::CONTENT_TYPE, self.kind),
            (header::CONTENT_ENCODING, "gzip"),
            (header::VARY, "accept-encoding"),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
        ];
        (StatusCode::OK, headers, Body::from(Bytes::from_static(self.gzip))).into_response()
    }
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let all = asked.get_all(header::ACCEPT_ENCODING).iter();
    let mut words = all
        .filter_map(|value| HeaderValue::to_str(value).ok())
        .flat_map(|value| value.split(','));
    words.any(|word| matches!(word.split(';').next().unwrap_or("").trim(), "gzip" | "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 60 * 1024, "{bytes} bytes");
    }
}
