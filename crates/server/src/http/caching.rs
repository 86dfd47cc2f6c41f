//! The cache of vectors, as requests and answers see it: two headers in, one out.
//!
//! | header | what |
//! |---|---|
//! | `x-plimsoll-cache`, request | `on` (default), `refresh`: computed anew and kept, `off`: neither read nor kept |
//! | `x-plimsoll-session`, request | whose vectors may be found, at most 128 bytes; the `session` of a body goes first |
//! | `x-plimsoll-cache`, answer | `hit`: every vector was found, `partial`, `miss`, `off` |

use http::{HeaderMap, HeaderName, HeaderValue};
use plimsoll_engine::{CacheUse, Cached, Engine, JobOptions, SessionId};

use super::problem::Problem;
use crate::wire::analyze::SESSION_BYTES_MAX;

const CACHE: HeaderName = HeaderName::from_static("x-plimsoll-cache");
const SESSION: HeaderName = HeaderName::from_static("x-plimsoll-session");

/// What a request's headers say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caching {
    cache: CacheUse,
    session: SessionId,
}

impl Caching {
    /// Reads the headers.
    pub(super) fn of(engine: &Engine, headers: &HeaderMap) -> Result<Caching, Problem> {
        let cache = match headers.get(CACHE).map(HeaderValue::as_bytes) {
            None | Some(b"on") => CacheUse::On,
            Some(b"refresh") => CacheUse::Refresh,
            Some(b"off") => CacheUse::Off,
            Some(_) => return Err(Problem::bad_header(&CACHE, "expected on, refresh or off")),
        };
        let session = match headers.get(SESSION).map(HeaderValue::as_bytes) {
            None => SessionId::NONE,
            Some(name) if name.len() <= SESSION_BYTES_MAX => engine.session(name),
            Some(_) => return Err(Problem::bad_header(&SESSION, "expected at most 128 bytes")),
        };
        Ok(Caching { cache, session })
    }

    /// The options of a request whose body names the session `named`, or none.
    pub(super) fn apply(self, options: JobOptions, named: Option<SessionId>) -> JobOptions {
        JobOptions {
            cache: self.cache,
            session: named.unwrap_or(self.session),
            ..options
        }
    }
}

/// Says in an answer what the cache did.
pub(super) fn tell(headers: &mut HeaderMap, cached: Cached) {
    let word = match cached {
        Cached::Off => "off",
        Cached::Miss => "miss",
        Cached::Partial => "partial",
        Cached::Hit => "hit",
    };
    headers.insert(CACHE, HeaderValue::from_static(word));
}
