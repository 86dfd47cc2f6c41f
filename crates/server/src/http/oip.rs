//! The Open Inference Protocol, version 2, over HTTP: what KServe's and Triton's clients speak.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::problem::{Family, Problem};
use super::{Reader, Route, json_response, own, road};
use crate::app::App;
use crate::wire::oip::{self, MODEL_VERSION, Output};
use crate::wire::{Abilities, WireError, analyze};

/// `POST /v2/models/{model}[/versions/{version}]/infer`
pub const INFER: Route = Route {
    path: "/v2/models/{model}/infer",
    family: Family::Native,
    read: Reader::Tensors(oip::json::read),
    tasks: analyze::all_tasks,
    purpose: "inference",
    inputs_max: |abilities| abilities.inputs_max,
};

/// Extensions of the protocol.
pub const EXTENSIONS: [&str; 1] = ["binary_tensor_data"];

/// All of it but health.
pub fn pages() -> Router<Arc<App>> {
    // The name of a model may hold slashes, so that what follows it is found from the end.
    Router::new()
        .route("/v2", get(server))
        .route("/v2/models/{*rest}", any(below_models))
        .merge(health())
}

/// `/v2/health/live` and `/v2/health/ready`: they hold no request's bytes, and answer while everything else is refused.
pub fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(ready))
}

/// What an address below `/v2/models/` means.
struct Address<'a> {
    model: &'a str,
    version: Option<&'a str>,
    action: &'a str,
}

impl<'a> Address<'a> {
    /// Reads `{model}[/versions/{version}][/{action}]`.
    fn read(rest: &'a str) -> Self {
        let (rest, action) = match rest.rsplit_once('/') {
            Some((rest, action @ ("infer" | "ready"))) => (rest, action),
            _ => (rest, ""),
        };
        let versioned = rest.rsplit_once('/').and_then(|(rest, version)| {
            let model = rest.strip_suffix("/versions")?;
            Some((model, version))
        });
        match versioned {
            Some((model, version)) => Address {
                model,
                version: Some(version),
                action,
            },
            None => Address {
                model: rest,
                version: None,
                action,
            },
        }
    }

    fn check(&self, app: &App) -> Result<(), Problem> {
        check_model(app, self.model, self.version.unwrap_or_default()).map_err(Problem::from)
    }
}

/// Checks that it is this model, and the version, where one is named, that there is.
pub(super) fn check_model(app: &App, name: &str, version: &str) -> Result<(), WireError> {
    app.abilities.check_model(name.as_bytes())?;
    if !["", MODEL_VERSION].contains(&version) {
        return Err(WireError::UnknownVersion);
    }
    Ok(())
}

/// What is below `/v2/models/`: which method is right depends on where the address ends.
async fn below_models(
    State(app): State<Arc<App>>,
    rest: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(rest)) = rest else {
        return Problem::no_route(request.uri().path()).into_response(INFER.family);
    };
    let address = Address::read(&rest);
    let allowed = match address.action {
        "infer" => "POST",
        _ => "GET,HEAD",
    };
    if !allowed.split(',').any(|known| known == request.method()) {
        let problem = Problem::wrong_method(request.method(), request.uri().path());
        let response = problem.into_response(INFER.family);
        return ([(header::ALLOW, allowed)], response).into_response();
    }
    if let Err(problem) = address.check(&app) {
        if address.action == "infer" {
            app.metrics.failed(problem.label());
        }
        return problem.into_response(INFER.family);
    }
    match address.action {
        "infer" => road::travel(app, INFER, request).await,
        "ready" => ready(State(app)).await,
        _ => json_response(&metadata(&app)),
    }
}

async fn server() -> Response {
    json_response(
        &json!({"name": "plimsoll", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}),
    )
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    own::ready(&app, INFER.family)
}

/// A tensor as metadata has it: name, datatype, shape.
pub(super) type Tensor = (&'static str, &'static str, [i64; 2], usize);

/// The input tensors.
pub(super) fn inputs(abilities: &Abilities) -> impl Iterator<Item = Tensor> {
    let pair = abilities.tasks.has(plimsoll_engine::Tasks::CLASSES) && !abilities.embeds_first;
    let text = ("text", "BYTES", [-1, 1], 1);
    [text]
        .into_iter()
        .chain(pair.then_some(("text_pair", "BYTES", [-1, 1], 1)))
}

/// The output tensors.
pub(super) fn outputs(abilities: &Abilities) -> impl Iterator<Item = Tensor> {
    let given = Output::ALL
        .into_iter()
        .filter(|output| output.is_given(abilities));
    given.map(|output| {
        let width = match output {
            Output::Embedding => Some(abilities.dimensions),
            Output::Scores => Some(abilities.classes),
            _ => None,
        };
        let shape = [-1, width.map_or(1, |width| width as i64)];
        (
            output.name(),
            output.datatype(),
            shape,
            1 + usize::from(width.is_some()),
        )
    })
}

fn metadata(app: &App) -> Value {
    let tensor = |(name, datatype, shape, rank): Tensor| json!({"name": name, "datatype": datatype, "shape": shape[..rank]});
    let head = app.engine.model().info().sequence_head.as_ref();
    let labels = head.map(|head| {
        (0..head.labels.len())
            .map(|class| head.labels.name(class))
            .collect::<Vec<_>>()
    });
    json!({
        "name": &*app.model_name,
        "versions": [MODEL_VERSION],
        "platform": "plimsoll",
        "inputs": inputs(&app.abilities).map(tensor).collect::<Vec<_>>(),
        "outputs": outputs(&app.abilities).map(tensor).collect::<Vec<_>>(),
        "parameters": {"scores": labels, "entities": app.abilities.entities},
    })
}
