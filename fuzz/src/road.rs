//! A server without sockets: a body goes in at the reader, an answer comes out of the writer.

use std::fs;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use clap::Parser;
use http_body::Body;
use plimsoll::answer::{AnswerBody, Served, json_bytes};
use plimsoll::app::{App, Settings};
use plimsoll::cli::{ModelArgs, StartUp};
use plimsoll::http::{Reader, Route, routes};
use plimsoll::wire::Shape;
use plimsoll::wire::oip::Encoding;
use plimsoll_engine::{Ask, Nanos, Turn, Worker};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    model: ModelArgs,
}

/// The server.
pub struct Road {
    app: Arc<App>,
    worker: Worker,
    routes: Vec<Route>,
}

impl Road {
    /// A tiny model with a head of each kind, called `m`; it serves the routes that `which` picks.
    pub fn new(which: impl Fn(&Route) -> bool) -> Road {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/encoder/bert-q4-heads");
        let place = std::env::temp_dir().join(format!("plimsoll-fuzz-{}", std::process::id()));
        fs::create_dir_all(&place).expect("a folder");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(from.join(file), place.join(file)).expect("the model's file");
        }
        let pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d ab ca bca ##a ##b ##c ##d ##ab ##cab ##bd , .";
        fs::write(place.join("vocab.txt"), pieces.replace(' ', "\n")).expect("the vocabulary");
        let path = place.to_str().expect("a UTF-8 path");
        let flags = ["fuzz", "--memory-limit", "512MiB", "--workers", "1", "--model-id", path, "--served-model-name", "m"];
        let started = StartUp::new(&Flags::parse_from(flags).model, Settings::default(), None);
        let app = started.unwrap_or_else(|error| panic!("{error}")).app;
        fs::remove_dir_all(place).expect("the folder goes");
        let worker = app.engine.worker().expect("a worker");
        let routes = routes().filter(|route| which(route)).copied().collect();
        Road { app, worker, routes }
    }

    /// Sends a body down the road: refused with a short text, or answered in the form of its route.
    pub fn travel(&mut self, route: u8, body: &[u8], json_length: Option<usize>) {
        let (app, route) = (Arc::clone(&self.app), self.routes[usize::from(route) % self.routes.len()]);
        let ask = Ask {
            tasks: (route.tasks)(&app.abilities),
            body_bytes: Some(body.len()),
            inputs_max: Some((route.inputs_max)(&app.abilities)),
        };
        let Ok(mut ticket) = now(app.engine.admit(ask)) else { return };
        ticket.push(body).expect("as long as was declared");
        let read = ticket.parse(|body, inputs| match route.read {
            Reader::Whole(read) => read(body, inputs, &app.abilities),
            Reader::Tensors(read) => read(body, inputs, &app.abilities, json_length),
        });
        let request = match read {
            Ok(request) => request,
            Err(error) => return assert!(error.to_string().len() < 400, "an error does not echo its input: {error}"),
        };
        if let Some(session) = request.session {
            assert!(session.range().end <= body.len());
        }
        let deadline = app.engine.now().after(Nanos::from_ms(60_000));
        let job = app.engine.submit(ticket, request.options, deadline);
        while self.worker.turn() != Turn::Idle {}
        let Ok(answer) = now(job) else { return };
        let shape = request.shape.without(answer.dropped());
        let served = Served::new(answer, Arc::clone(&app));
        let json_length = json_bytes(&served, shape);
        let mut answer = now(AnswerBody::start(served, shape));
        let mut written = Vec::new();
        while let Some(Ok(frame)) = now(poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx))) {
            written.extend_from_slice(frame.data_ref().expect("answers have no trailers"));
        }
        drop(answer);
        check(&written, shape, json_length);
        assert_eq!(app.engine.requests_bytes(), 0, "all is given back");
    }
}

fn check(written: &[u8], shape: Shape, json_length: Option<usize>) {
    let is_message = matches!(shape, Shape::Infer { encoding: Encoding::Message, .. });
    if is_message {
        let length = written[1..5].try_into().map(u32::from_be_bytes).expect("four bytes");
        assert_eq!(length as usize, written.len() - 5);
        return;
    }
    let json = &written[..json_length.unwrap_or(written.len())];
    let answer: serde_json::Value = serde_json::from_slice(json).expect("an answer is JSON");
    if json_length.is_some() {
        let outputs = answer["outputs"].as_array().expect("there are outputs");
        let sizes = outputs.iter().filter_map(|output| output["parameters"]["binary_data_size"].as_u64());
        assert_eq!(sizes.sum::<u64>() as usize, written.len() - json.len());
    }
}

/// Polls what has no one to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}
