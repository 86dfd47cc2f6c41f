//! A tiny model with all heads, a tiny vocabulary, and hands to drive the engine step by step.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use plimsoll_encoder::Model;
use plimsoll_engine::*;
use plimsoll_text::{BertOptions, Tokenizer};

pub(crate) const LIMIT: usize = 8 << 20;

pub(crate) fn model() -> Model {
    load("bert-q4-heads")
}

/// A model whose token head labels the characters inside tokens.
pub(crate) fn character_model() -> Model {
    load("bert-characters")
}

pub(crate) fn load(name: &str) -> Model {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/encoder");
    Model::load_dir(&testdata.join(name)).unwrap()
}

/// Pieces of one to six letters, some Han.
pub(crate) fn character_tokenizer() -> Tokenizer {
    let pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d q ab cab dabcd abcdab ##a ##b ##c ##d ##ab ##cda ##bcdabc 京 上 海 人 , .";
    Tokenizer::from_vocab_txt(pieces.replace(' ', "\n").as_bytes(), BertOptions::default()).unwrap()
}

/// 60 pieces: specials, letters, digits, some Han.
pub(crate) fn tokenizer() -> Tokenizer {
    let mut vocab = String::from("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
    for piece in ('a'..='z')
        .chain('0'..='9')
        .chain("我你他在京上海人大中国好坏，。！？的".chars())
    {
        vocab.push(piece);
        vocab.push('\n');
    }
    Tokenizer::from_vocab_txt(vocab.as_bytes(), BertOptions::default()).unwrap()
}

pub(crate) struct Rig {
    pub(crate) engine: Arc<Engine>,
    pub(crate) worker: Worker,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn rig_with(change: impl FnOnce(&mut EngineConfig)) -> Rig {
    rig_of(model(), tokenizer(), change)
}

pub(crate) fn rig_of(model: Model, tokenizer: Tokenizer, change: impl FnOnce(&mut EngineConfig)) -> Rig {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Nanos(1));
    let mut config = EngineConfig::new(LIMIT, clock.clone());
    config.batch_tokens_max = 64;
    config.requests_max = 16;
    config.inputs_max = 32;
    config.window_overlap_tokens = 6;
    config.body_bytes_max = Some(4096);
    config.prompts = vec![Prompt {
        name: "query".into(),
        text: "q ".into(),
    }];
    change(&mut config);
    let engine = Engine::new(config, model, tokenizer).unwrap();
    let worker = engine.worker().unwrap();
    Rig {
        engine,
        worker,
        clock,
    }
}

pub(crate) fn rig() -> Rig {
    rig_with(|_| {})
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn now_or_never<F: Future + Unpin>(mut future: F) -> F::Output {
    match poll(&mut future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Bodies of the tests: texts joined by `\n`, a pair by `\t`, ids by `#1 2 3`.
pub(crate) fn read(body: &mut [u8], inputs: &mut Inputs<'_>) -> Result<(), TooManyInputs> {
    let mut start = 0;
    for line in body.split(|&byte| byte == b'\n') {
        let span = |from: usize, to: usize| Span {
            start: from as u32,
            len: (to - from) as u32,
        };
        let end = start + line.len();
        if let Some(ids) = line.strip_prefix(b"#") {
            inputs.begin_ids();
            let ids = std::str::from_utf8(ids).unwrap();
            ids.split(' ').for_each(|id| inputs.push_id(id.parse().unwrap()));
            inputs.end_ids()?;
        } else if let Some(tab) = line.iter().position(|&byte| byte == b'\t') {
            inputs.push_pair(span(start, start + tab), span(start + tab + 1, end))?;
        } else {
            inputs.push_text(span(start, end))?;
        }
        start = end + 1;
    }
    Ok(())
}

impl Rig {
    pub(crate) fn ticket(&self, tasks: Tasks, body: &str) -> Ticket {
        let ask = Ask {
            tasks,
            body_bytes: Some(body.len()),
            inputs_max: None,
        };
        let mut ticket = now_or_never(self.engine.admit(ask)).unwrap();
        ticket.push(body.as_bytes()).unwrap();
        ticket.parse(read).unwrap();
        ticket
    }

    pub(crate) fn job(&self, body: &str, options: JobOptions) -> Job {
        let deadline = self.engine.now().after(Nanos::from_ms(1000));
        self.engine
            .submit(self.ticket(options.tasks, body), options, deadline)
    }

    pub(crate) fn work(&mut self) {
        while self.worker.turn() != Turn::Idle {}
    }

    pub(crate) fn answer(&mut self, body: &str, options: JobOptions) -> Result<Answer, JobError> {
        let job = self.job(body, options);
        self.work();
        now_or_never(job)
    }

    /// Nothing is held by anyone.
    #[track_caller]
    pub(crate) fn assert_all_back(&self) {
        assert_eq!(self.engine.requests_bytes(), 0, "the ledger is not back at 0");
        let cache = self.engine.cache().map(|cache| cache.stats()).unwrap_or_default();
        assert_eq!(cache.pinned_bytes, 0, "a cached vector is still pinned");
        assert_eq!(
            self.engine.ledger().in_use(),
            cache.bytes,
            "bytes that nobody owns"
        );
        assert_eq!(self.engine.requests_inside(), 0, "a place is still taken");
        for kind in self.engine.pool_stats() {
            assert_eq!(kind.stats.leased_slots, 0, "{} are still leased", kind.kind);
        }
        assert_eq!(self.engine.queue_len(), 0, "a job still stands in line");
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.engine
            .pool_stats()
            .iter()
            .map(|kind| kind.stats.discarded)
            .sum()
    }
}

pub(crate) fn all_tasks() -> Tasks {
    [
        Tasks::WORDS,
        Tasks::TOKENS,
        Tasks::EMBEDDING,
        Tasks::CLASSES,
        Tasks::ENTITIES,
    ]
    .into_iter()
    .fold(Tasks::NONE, Tasks::with)
}
