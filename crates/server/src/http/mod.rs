//! The routes.
//!
//! Every `POST` takes the same road ([`road`]): admitted by its `Content-Length` before a byte of its body is read, read into its leased
//! slot, parsed there, submitted, answered. A route is a row of a table: its path, what its body means and the format of its errors. The
//! bodies are JSON whatever their `Content-Type` says.

mod caching;
mod docs;
pub mod grpc;
pub mod guard;
pub mod oip;
pub mod openai;
pub mod others;
pub mod own;
pub mod problem;
pub mod road;
pub mod tei;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{Method, Uri, header};
use plimsoll_engine::{Inputs, Tasks};
use serde_json::Value;

use crate::app::App;
use crate::page;
use crate::wire::{self, Abilities, Read, WireError};
use problem::{Family, Problem};

/// A `POST` route.
#[derive(Clone, Copy)]
pub struct Route {
    /// Its path; also its name in the metrics.
    pub path: &'static str,
    /// How its errors look.
    pub family: Family,
    /// What its body means.
    pub read: Reader,
    /// The most that a request may ask for, which is what it is admitted for.
    pub tasks: fn(&Abilities) -> Tasks,
    /// What it needs the model for, in words.
    pub purpose: &'static str,
    /// The most inputs of one request.
    pub inputs_max: fn(&Abilities) -> usize,
}

/// What reads a body.
#[derive(Clone, Copy)]
pub enum Reader {
    /// All of it is one document.
    Whole(Read),
    /// It may begin with JSON of the length that a header tells, with raw bytes behind.
    Tensors(ReadTensors),
}

/// As [`Read`], told how many bytes of the body are JSON, where a header says so.
pub type ReadTensors =
    fn(&mut [u8], &mut Inputs<'_>, &Abilities, Option<usize>) -> Result<wire::Request, WireError>;

/// All routes that take the road. The alias `/` comes on top, see [`tei::main_route`].
pub fn routes() -> impl Iterator<Item = &'static Route> {
    let all = own::ROUTES.iter().chain(tei::ROUTES).chain(openai::ROUTES);
    all.chain(others::ROUTES).chain([&oip::INFER, &grpc::INFER])
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let aliased = Route {
        path: "/",
        ..*tei::main_route(&app.abilities)
    };
    let plain = routes().filter(|route| !route.path.contains('{') && route.family != Family::Grpc);
    let router = plain
        .copied()
        .chain([aliased])
        .fold(Router::new(), |router, route| {
            router.route(
                route.path,
                post(move |State(app): State<Arc<App>>, request: Request| road::travel(app, route, request)),
            )
        });
    router
        .merge(own::pages())
        .merge(openai::pages())
        .merge(page::pages())
        .merge(oip::pages())
        .merge(docs::pages())
        .merge(grpc::routes(&app))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

/// What a connection gets when all places for connections are taken: health, metrics and diagnosis answer, all else is told to come again.
pub fn reserve_router(app: Arc<App>) -> Router {
    own::pages()
        .merge(oip::health())
        .merge(grpc::probes(&app))
        .fallback(|State(app): State<Arc<App>>, uri: Uri| async move {
            app.metrics
                .connections_refused
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Problem::no_connection().into_response(Family::of(uri.path()))
        })
        .layer(from_fn_with_state(Arc::clone(&app), guard::check_key))
        .with_state(app)
}

/// What the listener for scrapers serves.
pub fn scrape_router(app: Arc<App>) -> Router {
    own::pages()
        .merge(oip::health())
        .fallback(no_route)
        .layer(from_fn_with_state(Arc::clone(&app), guard::check_key))
        .with_state(app)
}

async fn no_route(uri: Uri) -> Response {
    Problem::no_route(uri.path()).into_response(Family::of(uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    Problem::wrong_method(&method, uri.path()).into_response(Family::of(uri.path()))
}

/// A page of JSON.
fn json_response(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
