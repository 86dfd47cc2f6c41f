//! The road of a request: admitted, received, parsed, submitted, answered.
//!
//! From the moment the body is there until its answer is in the chunks, everything runs under a [`PipelineScope`], whose allocations are
//! counted and are none. What surrounds it (headers, boxes of the router, the transport's handles) is hyper's and is budgeted by connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Body as _;
use plimsoll_engine::{Answer, Ask, Job, JobError, Nanos, Refusal, Tasks, Ticket};
use plimsoll_memory::PipelineScope;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;

use super::caching::{self, Caching};
use super::problem::{Family, Problem};
use super::{Reader, Route};
use crate::answer::{self, AnswerBody, Served, Source};
use crate::app::App;
use crate::metrics::Method;
use crate::observe::Story;
use crate::wire::{self, Shape, analyze};

/// How many bytes of a body are JSON, where raw ones follow; a name of the Open Inference Protocol.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// The longest refused body that is read to its end.
const DISCARD_BYTES_MAX: u64 = 16 << 20;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// The least that a body of undeclared length may come to.
const UNDECLARED_BYTES_LEAST: usize = 4096;

/// Answers one request.
pub async fn travel(app: Arc<App>, route: Route, request: Request) -> Response {
    app.metrics.began(&route);
    let began = app.engine.now();
    let waits_to_send = request.headers().contains_key(header::EXPECT);
    let head = Head::of(&app, request.headers());
    let mut body = request.into_body();
    let mut story = Story::begin(&route, began);
    let answered = answer(&app, &route, head, &mut body, &mut story).await;
    if answered.is_err() && !waits_to_send {
        discard(&mut body).await;
    }
    end(&app, &route, story, answered)
}

/// Counts how a request ended, and says so to its client.
pub(super) fn end(
    app: &App,
    route: &Route,
    mut story: Story,
    answered: Result<Response, Problem>,
) -> Response {
    let took = Nanos(app.engine.now().since(story.began));
    let grpc_status = (route.family == Family::Grpc).then(|| match &answered {
        Ok(_) => Code::Ok as u8,
        Err(problem) => problem.grpc_status() as u8,
    });
    let mut response = match answered {
        Ok(response) => {
            app.metrics.succeeded(route, took);
            response
        }
        Err(problem) => {
            if story.method == Method::Unread {
                app.metrics.asked(Method::Unread, Tasks::NONE, 0);
            }
            app.metrics.failed(problem.label());
            problem
                .refusal()
                .into_iter()
                .for_each(|reason| app.metrics.refused(reason, took));
            story.error = Some(problem.kind());
            story.reason = problem.refusal();
            problem.into_response(route.family)
        }
    };
    if app.observer.looks() {
        story.grpc_status = grpc_status;
        story.level = app.engine.level() as u8;
        response.extensions_mut().insert(story);
    }
    response
}

/// What the headers of a request say.
pub(super) struct Head {
    pub(super) caching: Caching,
    /// From the body's last byte to the finished answer.
    pub(super) timeout: Duration,
    /// It is the client that waits no longer than that.
    pub(super) is_clients_timeout: bool,
    /// The bytes of the body that are JSON, where raw ones follow.
    json_bytes: Option<usize>,
}

impl Head {
    pub(super) fn of(app: &App, headers: &HeaderMap) -> Result<Head, Problem> {
        let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
            return Err(Problem::encoded());
        }
        let json_bytes = headers.get(JSON_LENGTH).map(|length| {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            length.ok_or(Problem::bad_header(&JSON_LENGTH, "expected a whole number"))
        });
        Ok(Head {
            caching: Caching::of(&app.engine, headers)?,
            timeout: app.settings.request_timeout,
            is_clients_timeout: false,
            json_bytes: json_bytes.transpose()?,
        })
    }
}

async fn answer(
    app: &Arc<App>,
    route: &Route,
    head: Result<Head, Problem>,
    body: &mut Body,
    story: &mut Story,
) -> Result<Response, Problem> {
    let head = head?;
    let declared_bytes = body
        .size_hint()
        .exact()
        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let ticket = admit(app, route, declared_bytes).await?;
    story.admitted(&ticket, app.engine.now());
    let ticket = receive(app, ticket, body, declared_bytes).await?;
    work(app, route, &head, story, ticket).await
}

/// What follows once the body is there.
pub(super) async fn work(
    app: &Arc<App>,
    route: &Route,
    head: &Head,
    story: &mut Story,
    ticket: Ticket,
) -> Result<Response, Problem> {
    story.received(&ticket, app.engine.now());
    let (request, inputs, job) = submit(app, route, head, ticket)?;
    story.method = Method::of(request.single);
    app.metrics.asked(story.method, request.options.tasks, inputs);
    let answer = counted(job).await.map_err(|error| match error {
        JobError::Deadline { .. } if head.is_clients_timeout => Problem::late(error),
        error => Problem::of_job(error, &request),
    })?;
    respond(app, &request, story, answer).await
}

/// Embeds the texts of a body of `/embed` that is there already, for the sake of the cache. Their vectors are dropped with the answer.
pub(crate) async fn embed(app: &App, body: &[u8]) -> Result<Answer, Problem> {
    let route = &super::tei::EMBED;
    let head = Head::of(app, &HeaderMap::new())?;
    let mut ticket = admit(app, route, Some(body.len())).await?;
    ticket.push(body)?;
    let (.., job) = submit(app, route, &head, ticket)?;
    Ok(counted(job).await?)
}

/// Reads what is left of a refused body and throws it away, within bounds. Most clients read no answer before they have sent all: to
/// close on them would show them a broken pipe instead of the reason. Nothing is kept; who wants to know at once sends `Expect: 100-continue`.
async fn discard(body: &mut Body) {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > DISCARD_BYTES_MAX) {
        return;
    }
    let read_all = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Out of time: the client is too slow to wait for, and the connection is closed on it.
    let _ = timeout(DISCARD_TIME_MAX, read_all).await;
}

/// Reserves the request's worst case, before a byte of its body is read (so also before `100 Continue` is sent). A length that nobody
/// declared is priced as the longest that could ever fit.
pub(super) async fn admit(
    app: &App,
    route: &Route,
    declared_bytes: Option<usize>,
) -> Result<Ticket, Problem> {
    let tasks = (route.tasks)(&app.abilities);
    if !app.abilities.tasks.has(tasks) {
        return Err(Problem::cannot_do(route.purpose));
    }
    let mut ask = Ask {
        tasks,
        body_bytes: declared_bytes,
        inputs_max: Some((route.inputs_max)(&app.abilities)),
    };
    loop {
        match admit_as(app, ask).await {
            Err(Refusal::TooLarge { body_bytes, .. })
                if declared_bytes.is_none() && body_bytes > UNDECLARED_BYTES_LEAST =>
            {
                ask.body_bytes = Some(body_bytes / 2);
            }
            admitted => return Ok(admitted?),
        }
    }
}

async fn admit_as(app: &App, ask: Ask) -> Result<Ticket, Refusal> {
    let mut admission = app.engine.admit(ask);
    let wait = Duration::from_nanos(admission.wait().0);
    match timeout(wait, counted(&mut admission)).await {
        Ok(admitted) => admitted,
        Err(_) => Err(admission.give_up()),
    }
}

/// Reads the body into the ticket's slot.
pub(super) async fn receive(
    app: &App,
    mut ticket: Ticket,
    body: &mut Body,
    declared_bytes: Option<usize>,
) -> Result<Ticket, Problem> {
    let began = Instant::now();
    loop {
        let time = app.settings.body_time(ticket.body().len());
        let frame = poll_fn(|cx| match ticket.poll_returned(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Pin::new(&mut *body).poll_frame(cx).map(Ok),
        });
        match timeout_at(began + time, frame).await {
            Err(_) => return Err(Problem::slow_body(ticket.body().len(), time)),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(None)) => return Ok(ticket),
            Ok(Ok(Some(Err(_)))) => return Err(Problem::short_body(ticket.body().len(), declared_bytes)),
            Ok(Ok(Some(Ok(frame)))) => {
                let Some(bytes) = frame.data_ref() else { continue };
                let scope = PipelineScope::enter();
                let pushed = ticket.push(bytes);
                drop(scope);
                pushed?;
            }
        }
    }
}

/// Reads what the body asks for and hands it to the workers.
fn submit(
    app: &App,
    route: &Route,
    head: &Head,
    mut ticket: Ticket,
) -> Result<(wire::Request, usize, Job), Problem> {
    let scope = PipelineScope::enter();
    let read = ticket.parse(|body, inputs| {
        let request = match route.read {
            Reader::Whole(read) => read(body, inputs, &app.abilities),
            Reader::Tensors(read) => read(body, inputs, &app.abilities, head.json_bytes),
        };
        request.map(|request| (request, inputs.len()))
    });
    let (request, inputs): (wire::Request, usize) = match read {
        Ok(read) => read,
        Err(error) => {
            drop(scope);
            return Err(error.into());
        }
    };
    let timeout_ns = u64::try_from(head.timeout.as_nanos()).unwrap_or(u64::MAX);
    let deadline = app.engine.now().after(Nanos(timeout_ns));
    let session = request
        .session
        .map(|name| app.engine.session(&ticket.body()[name.range()]));
    let options = head.caching.apply(request.options, session);
    let job = app.engine.submit(ticket, options, deadline);
    Ok((request, inputs, job))
}

/// Begins to write the answer.
async fn respond(
    app: &Arc<App>,
    request: &wire::Request,
    story: &mut Story,
    answer: Answer,
) -> Result<Response, Problem> {
    let dropped = answer.dropped();
    let shape = request.shape.without(dropped);
    let served = Served::new(answer, Arc::clone(app));
    if let Shape::Decode { skip_special_tokens } = shape {
        check_decode(&served, skip_special_tokens)?;
    }
    let counts = Counts::of(&served);
    let done = request.options.tasks.without(dropped);
    app.metrics
        .answered(story.method, done, &counts, served.answer().timings());
    (0..counts.inputs).for_each(|index| app.metrics.read(served.token_count(index)));
    let (timings, cached) = (served.answer().timings(), served.answer().cache());
    story.answered(&counts, served.answer());
    let json_bytes = {
        let _counted = PipelineScope::enter();
        answer::json_bytes(&served, shape)
    };
    let body = Body::new(AnswerBody::start(served, shape).await);
    let mut response = Response::new(body);
    let total = Nanos(app.engine.now().since(story.began));
    let headers = response.headers_mut();
    let content_type = match json_bytes {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(bytes) = json_bytes {
        headers.insert(JSON_LENGTH, HeaderValue::from(bytes));
    }
    headers.insert("x-compute-type", HeaderValue::from_static("cpu"));
    let mut number = |name: &'static str, value: u64| drop(headers.insert(name, HeaderValue::from(value)));
    number("x-compute-time", total.0 / 1_000_000);
    number("x-compute-characters", counts.characters as u64);
    number("x-compute-tokens", counts.tokens as u64);
    number("x-total-time", total.0 / 1_000_000);
    number("x-tokenization-time", timings.tokenize_ns / 1_000_000);
    number("x-queue-time", timings.queue_ns / 1_000_000);
    number("x-inference-time", timings.inference_ns / 1_000_000);
    if counts.truncated > 0 {
        number("x-truncated-inputs", counts.truncated as u64);
    }
    if dropped != Tasks::NONE {
        app.metrics.dropped(dropped);
        headers.insert("x-plimsoll-dropped", names_of(dropped));
    }
    caching::tell(headers, cached);
    Ok(response)
}

/// The names of tasks, for a header.
fn names_of(tasks: Tasks) -> HeaderValue {
    let names: Vec<&str> = analyze::names(tasks).collect();
    HeaderValue::from_str(&names.join(", ")).expect("names of tasks are words")
}

/// What an answer counts up to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Texts.
    pub inputs: usize,
    /// Code points.
    pub characters: usize,
    /// Tokens that were read.
    pub tokens: usize,
    /// Texts that were not read whole.
    pub truncated: usize,
}

impl Counts {
    fn of(served: &Served) -> Counts {
        let _counted = PipelineScope::enter();
        (0..served.inputs()).fold(Counts::default(), |sum, index| Counts {
            inputs: sum.inputs + 1,
            characters: sum.characters
                + served.text(index).chars().count()
                + served.second(index).chars().count(),
            tokens: sum.tokens + served.token_count(index),
            truncated: sum.truncated + usize::from(served.truncated(index)),
        })
    }
}

/// Checks that the text of each input's ids fits a chunk, which is what it is decoded into.
fn check_decode(served: &Served, skip_special_tokens: bool) -> Result<(), Problem> {
    let Poll::Ready(mut scratch) = served.poll_chunk(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("an answer begins with both its chunks at home")
    };
    let bytes_max = scratch.bytes_mut().len();
    for index in 0..served.inputs() {
        let ids = served.tokens(index).ids;
        if served
            .decode(ids, skip_special_tokens, scratch.bytes_mut())
            .is_none()
        {
            return Err(Problem::long_decode(index, bytes_max));
        }
    }
    Ok(())
}

/// Polls a future as a part of the pipeline.
async fn counted<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _counted = PipelineScope::enter();
        future.as_mut().poll(cx)
    })
    .await
}
