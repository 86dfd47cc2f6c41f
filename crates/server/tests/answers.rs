//! The answers' writers over an answer made up: the same text whatever the size of the chunks, and always what `serde_json` reads back.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http_body::Body;
use plimsoll::answer::{AnswerBody, ChunkBytes, Source, Stamp};
use plimsoll::wire::Shape;
use plimsoll_encoder::Problem;
use plimsoll_engine::{Entity, Span, Tasks, TokensView};
use serde_json::{Value, json};

const TEXT: &str = "Zoë \"Q\" met\n\u{1}李明 in\\Köln 😀.";
const WORD_ENDS: [u32; 12] = [4, 5, 8, 9, 12, 13, 20, 21, 29, 30, 34, 35];

/// Two chunks that come back when they are dropped.
struct Home {
    free: Mutex<Vec<Vec<u8>>>,
    waker: Mutex<Option<Waker>>,
    out: AtomicUsize,
}

struct TestChunk {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Home>,
}

impl AsRef<[u8]> for TestChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl ChunkBytes for TestChunk {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
    }
}

impl Drop for TestChunk {
    fn drop(&mut self) {
        self.home
            .free
            .lock()
            .unwrap()
            .push(std::mem::take(&mut self.bytes));
        self.home.out.fetch_sub(1, Ordering::SeqCst);
        if let Some(waker) = self.home.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

struct Made {
    home: Arc<Home>,
    problem: Problem,
    inputs: usize,
    kinds: [String; 2],
    embeddings: [Vec<f32>; 2],
    alive: Arc<()>,
}

impl Made {
    fn new(chunk_bytes: usize) -> Made {
        let free = Mutex::new(vec![vec![0; chunk_bytes]; 2]);
        let home = Arc::new(Home {
            free,
            waker: Mutex::default(),
            out: AtomicUsize::new(0),
        });
        Made {
            home,
            problem: Problem::SingleLabel,
            inputs: 2,
            kinds: ["PER", "LOC"].map(str::to_owned),
            embeddings: [[0.1, -2.5e-8, f32::MAX, 1.0], [3.0, f32::NAN, 1e-20, 4.0]].map(Vec::from),
            alive: Arc::default(),
        }
    }
}

impl Source for Made {
    type Chunk = TestChunk;

    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<TestChunk> {
        let Some(bytes) = self.home.free.lock().unwrap().pop() else {
            *self.home.waker.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.home.out.fetch_add(1, Ordering::SeqCst);
        let len = bytes.len();
        Poll::Ready(TestChunk {
            bytes,
            len,
            home: Arc::clone(&self.home),
        })
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn text(&self, _: usize) -> &str {
        TEXT
    }

    fn second(&self, index: usize) -> &str {
        ["first", "second"][index]
    }

    fn tokens(&self, _: usize) -> TokensView<'_> {
        TokensView {
            ids: &[101, 7, 9, 102],
            starts: &[0, 0, 30, 0],
            ends: &[0, 4, 34, 0],
        }
    }

    fn token_count(&self, index: usize) -> usize {
        4 + index
    }

    fn token_total(&self, index: usize) -> usize {
        4 + index
    }

    fn truncated(&self, index: usize) -> bool {
        index == 1
    }

    fn words(&self, _: usize) -> &[u32] {
        &WORD_ENDS
    }

    fn entity(&self, index: usize, nth: usize) -> Option<Entity<'_>> {
        let all = [
            Entity {
                label: "PER",
                start: 0,
                end: 4,
                score: 0.5,
            },
            Entity {
                label: "LOC",
                start: 24,
                end: 29,
                score: 0.25,
            },
        ];
        all.get(nth).copied().filter(|_| index == 0)
    }

    fn embedding(&self, index: usize) -> &[f32] {
        &self.embeddings[index]
    }

    fn token_embeddings(&self, index: usize) -> &[f32] {
        [&[1.0, 2.0, 3.0, 4.0][..], &[5.0, 6.0]][index]
    }

    fn hidden(&self) -> usize {
        2
    }

    fn logits(&self, index: usize) -> &[f32] {
        [&[1.0, 3.0][..], &[2.0, -1.0]][index]
    }

    fn problem(&self) -> Problem {
        self.problem
    }

    fn class_label(&self, class: usize) -> &str {
        ["bad", "go\"od"][class]
    }

    fn token_text(&self, id: u32) -> &str {
        if id == 101 { "[CLS]" } else { "[SEP]" }
    }

    fn is_special(&self, id: u32) -> bool {
        id > 100
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool, out: &mut [u8]) -> Option<usize> {
        let text = format!("{ids:?} {skip_special_tokens}");
        out.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(text.len())
    }

    fn model_name(&self) -> &str {
        "made \"up\""
    }

    fn body(&self, span: Span) -> &[u8] {
        &TEXT.as_bytes()[span.range()]
    }

    fn entity_kinds(&self) -> &[String] {
        &self.kinds
    }

    fn stamp(&self) -> Stamp {
        Stamp { number: 7, unix_s: 8 }
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Polls a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut context()) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waits"),
    }
}

/// Reads a body to its end, holding back `held` frames, as a slow client does.
fn read(body: &mut AnswerBody<Made>, held: usize) -> Vec<u8> {
    let (mut text, mut frames) = (Vec::new(), std::collections::VecDeque::new());
    loop {
        match Pin::new(&mut *body).poll_frame(&mut context()) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.into_data().expect("answers have no trailers");
                text.extend_from_slice(&bytes);
                frames.push_back(bytes);
                if frames.len() > held {
                    frames.pop_front();
                }
            }
            Poll::Ready(_) => return text,
            Poll::Pending => drop(
                frames
                    .pop_front()
                    .expect("a writer waits only for chunks that are out"),
            ),
        }
    }
}

fn written(mut made: Made, shape: Shape, held: usize) -> Vec<u8> {
    if let Shape::Analyze { single: true, .. }
    | Shape::Predict { single: true, .. }
    | Shape::Ner { single: true, .. } = shape
    {
        made.inputs = 1;
    }
    let (home, alive) = (Arc::clone(&made.home), Arc::downgrade(&made.alive));
    let mut body = now(AnswerBody::start(made, shape));
    let exact = body.size_hint().exact();
    let text = read(&mut body, held);
    assert!(
        exact.is_none_or(|exact| exact == text.len() as u64),
        "a declared length must be right"
    );
    assert!(body.is_end_stream());
    assert_eq!(home.out.load(Ordering::SeqCst), 0, "all chunks are home");
    assert!(
        alive.upgrade().is_none(),
        "the answer went with its last chunk, before the body itself"
    );
    text
}

const SHAPES: [Shape; 17] = [
    Shape::Analyze {
        tasks: Tasks::WORDS
            .with(Tasks::ENTITIES)
            .with(Tasks::CLASSES)
            .with(Tasks::EMBEDDING),
        dropped: Tasks::NONE,
        single: false,
    },
    Shape::Analyze {
        tasks: Tasks::EMBEDDING,
        dropped: Tasks::WORDS,
        single: true,
    },
    Shape::Embed,
    Shape::EmbedAll,
    Shape::Predict {
        single: false,
        raw_scores: true,
        top: usize::MAX,
    },
    Shape::Predict {
        single: true,
        raw_scores: false,
        top: usize::MAX,
    },
    Shape::Rerank {
        raw_scores: true,
        return_text: true,
    },
    Shape::Rerank {
        raw_scores: false,
        return_text: false,
    },
    Shape::Similarity,
    Shape::Tokenize,
    Shape::OpenAi { base64: true },
    Shape::OpenAi { base64: false },
    Shape::Decode {
        skip_special_tokens: true,
    },
    Shape::Documents {
        top: 1,
        return_documents: true,
    },
    Shape::Classify,
    Shape::Ner {
        single: true,
        ignored: 0,
    },
    Shape::Parse {
        tasks: Tasks::WORDS.with(Tasks::ENTITIES),
        dropped: Tasks::WORDS,
    },
];

#[test]
fn chunks_may_end_anywhere() {
    for shape in SHAPES {
        let whole = written(Made::new(1 << 16), shape, 0);
        serde_json::from_slice::<Value>(&whole).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
        // Ids are decoded into a chunk, which has to hold the text.
        let least = if matches!(shape, Shape::Decode { .. }) {
            32
        } else {
            1
        };
        for chunk_bytes in (least..80).chain([whole.len() / 2, whole.len() - 1, whole.len(), whole.len() + 1])
        {
            for held in [0, 1] {
                assert_eq!(
                    written(Made::new(chunk_bytes), shape, held),
                    whole,
                    "{shape:?}, chunks of {chunk_bytes}"
                );
            }
        }
    }
}

#[test]
fn what_fits_is_declared() {
    let len = written(Made::new(1 << 16), Shape::Embed, 0).len();
    let exact = |chunk_bytes| {
        now(AnswerBody::start(Made::new(chunk_bytes), Shape::Embed))
            .size_hint()
            .exact()
    };
    assert_eq!(exact(len), Some(len as u64));
    assert_eq!(exact(len.div_ceil(2)), Some(len as u64), "both chunks");
    assert_eq!(exact(len / 4), None);
}

#[test]
fn an_answer_that_nobody_reads_on_is_given_back() {
    for frames in 0..4 {
        let made = Made::new(16);
        let (home, alive) = (Arc::clone(&made.home), Arc::downgrade(&made.alive));
        let mut body = now(AnswerBody::start(made, Shape::EmbedAll));
        for _ in 0..frames {
            drop(Pin::new(&mut body).poll_frame(&mut context()));
        }
        drop(body);
        assert_eq!(home.out.load(Ordering::SeqCst), 0);
        assert!(alive.upgrade().is_none());
    }
}

fn value(shape: Shape) -> Value {
    serde_json::from_slice(&written(Made::new(64), shape, 1)).unwrap()
}

#[test]
fn analysis_counts_characters_and_leaves_blank_words_out() {
    let tasks = Tasks::WORDS
        .with(Tasks::ENTITIES)
        .with(Tasks::CLASSES)
        .with(Tasks::EMBEDDING);
    let results = value(Shape::Analyze {
        tasks,
        dropped: Tasks::NONE,
        single: false,
    });
    let first = &results["results"][0];
    let words: Vec<(&str, u64, u64)> = first["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| {
            (
                word["text"].as_str().unwrap(),
                word["start"].as_u64().unwrap(),
                word["end"].as_u64().unwrap(),
            )
        })
        .collect();
    let characters: Vec<char> = TEXT.chars().collect();
    for (text, start, end) in &words {
        assert_eq!(
            characters[*start as usize..*end as usize]
                .iter()
                .collect::<String>(),
            *text
        );
    }
    assert_eq!(words.len(), 7, "twelve pieces, five of them blank: {words:?}");
    assert_eq!(
        first["entities"][0],
        json!({"label": "PER", "text": "Zoë", "start": 0, "end": 3, "score": 0.5})
    );
    assert_eq!(first["entities"][1]["start"], 19);
    assert_eq!(first["sentiment"]["label"], "go\"od");
    assert_eq!(
        (&first["tokens"], &first["truncated"]),
        (&json!(4), &json!(false))
    );
    assert_eq!(results["results"][1]["truncated"], true);
    assert_eq!(
        results["results"][1]["embedding"][1],
        Value::Null,
        "JSON has no NaN"
    );
}

#[test]
fn numbers_read_back_exactly() {
    let vector: Vec<f32> = serde_json::from_value(value(Shape::Embed)[0].clone()).unwrap();
    assert_eq!(vector, [0.1, -2.5e-8, f32::MAX, 1.0]);
    assert_eq!(
        value(Shape::EmbedAll),
        json!([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]])
    );
}

#[test]
fn arrays_of_any_length_read_back_exactly() {
    // Numbers of all signs and exponents, the smallest and the longest among them.
    let bits = (0..=u32::MAX).step_by(0x0040_0193);
    let all: Vec<f32> = bits
        .map(f32::from_bits)
        .filter(|number| number.is_finite())
        .collect();
    for len in [0, 1, 15, 16, 17, 32, 33, all.len()] {
        let mut made = Made::new(64);
        made.embeddings[0] = all[..len].to_vec();
        let text = written(made, Shape::Embed, 1);
        let vectors: (Vec<f32>, Value) = serde_json::from_slice(&text).unwrap();
        let exact = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(exact(&vectors.0), exact(&all[..len]), "{len} numbers");
    }
}

#[test]
fn base64_is_little_endian_floats() {
    let answer = value(Shape::OpenAi { base64: true });
    // Python: base64.b64encode(struct.pack("<4f", 0.1, -2.5e-8, 3.4028235e38, 1.0))
    assert_eq!(answer["data"][0]["embedding"], "zczMPZW/1rL//39/AACAPw==");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 9, "total_tokens": 9}));
    assert_eq!(
        (&answer["model"], &answer["data"][1]["index"]),
        (&json!("made \"up\""), &json!(1))
    );
}

#[test]
fn classes_and_texts_come_best_first() {
    let raw = value(Shape::Predict {
        single: false,
        raw_scores: true,
        top: usize::MAX,
    });
    assert_eq!(
        raw[0],
        json!([{"score": 3.0, "label": "go\"od"}, {"score": 1.0, "label": "bad"}])
    );
    assert_eq!(raw[1][0]["label"], "bad");
    let ranked = value(Shape::Rerank {
        raw_scores: true,
        return_text: true,
    });
    assert_eq!(
        ranked,
        json!([{"index": 1, "text": "second", "score": 2.0}, {"index": 0, "text": "first", "score": 1.0}])
    );
}

#[test]
fn tokens_have_byte_offsets_and_specials_none() {
    let tokens = value(Shape::Tokenize);
    assert_eq!(
        tokens[0][0],
        json!({"id": 101, "text": "[CLS]", "special": true, "start": null, "stop": null})
    );
    assert_eq!(
        tokens[0][1],
        json!({"id": 7, "text": "Zoë", "special": false, "start": 0, "stop": 4})
    );
    assert_eq!(tokens[0][2]["text"], "😀");
}

#[test]
fn a_ranking_holds_the_best_with_their_documents() {
    let ranked = value(Shape::Documents {
        top: 1,
        return_documents: true,
    });
    assert_eq!(
        ranked,
        json!({
            "id": "rerank-7",
            "results": [{"index": 1, "relevance_score": 0.952_574_13, "document": {"text": "second"}}],
            "model": "made \"up\"",
            "usage": {"total_tokens": 9},
        })
    );
}

#[test]
fn classes_are_in_the_order_of_the_labels() {
    let classes = value(Shape::Classify);
    assert_eq!(classes["id"], "classify-7");
    assert_eq!(classes["created"], 8);
    let first = &classes["data"][0];
    assert_eq!(
        (&first["label"], &first["num_classes"]),
        (&json!("go\"od"), &json!(2))
    );
    let probs: Vec<f32> = serde_json::from_value(first["probs"].clone()).unwrap();
    assert!(probs[1] > 0.88 && (probs[0] + probs[1] - 1.0).abs() < 1e-6);
    assert_eq!(classes["data"][1]["label"], "bad");
}

#[test]
fn entities_are_grouped_and_may_be_ignored() {
    let of = |ignored| {
        value(Shape::Ner {
            single: false,
            ignored,
        })
    };
    let person = json!({"entity_group": "PER", "score": 0.5, "word": "Zoë", "start": 0, "end": 3});
    let place = json!({"entity_group": "LOC", "score": 0.25, "word": "Köln", "start": 19, "end": 23});
    assert_eq!(of(0), json!([[person, place], []]));
    assert_eq!(of(1), json!([[place], []]));
    assert_eq!(of(3), json!([[], []]));
}

#[test]
fn a_parse_counts_words() {
    let tasks = Tasks::WORDS.with(Tasks::ENTITIES);
    let of = |tasks, dropped| value(Shape::Parse { tasks, dropped });
    let parsed = of(tasks, Tasks::NONE);
    let words: Vec<&str> = parsed["tok/fine"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let entities = parsed["ner/msra"][0].as_array().unwrap();
    assert_eq!(entities.len(), 2);
    for entity in entities {
        let at = |place: usize| entity[place].as_u64().unwrap() as usize;
        let covered = words[at(2)..at(3)].concat();
        assert!(
            covered.contains(entity[0].as_str().unwrap()),
            "{entity} {words:?}"
        );
    }
    let words = of(Tasks::WORDS, Tasks::ENTITIES);
    assert_eq!(words.as_object().unwrap().len(), 2);
    assert_eq!(words["dropped"], json!(["ner/msra"]));
}
