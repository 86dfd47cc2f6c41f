//! What goes into the routes and what comes out.

use serde_json::{Value, json};

use super::{Description, count, list, object, open, reference};
use crate::wire::analyze;

const TEXT: &str = "我在北京上海工作，很喜欢 Rust。";

/// What a route does, by its path.
pub(super) fn of(path: &str) -> Option<Description> {
    let description = match path {
        "/v1/analyze" => whole(),
        "/embed" => embed(),
        "/embed_all" => embed_all(),
        "/predict" => predict(),
        "/rerank" => rerank(),
        "/similarity" => similarity(),
        "/tokenize" => tokenize(),
        "/decode" => decode(),
        "/v1/embeddings" => embeddings(),
        "/v1/rerank" | "/v2/rerank" => documents(),
        "/v1/classify" => classify(),
        "/ner" => ner(),
        "/parse" => parse(),
        _ => return None,
    };
    Some(description)
}

/// `POST /`.
pub(super) fn alias(summary: &'static str) -> Description {
    Description { summary, ..embed() }
}

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

/// Fields that most routes of text-embeddings-inference share.
fn with_cutting(mut properties: Value) -> Value {
    properties["truncate"] = nullable("boolean");
    properties["truncation_direction"] = json!({"enum": ["Left", "Right", "left", "right", null]});
    properties
}

fn prompt() -> Value {
    json!({"type": ["string", "null"], "description": "One of the prompts that `/info` lists."})
}

fn whole() -> Description {
    let tasks: Vec<&str> = analyze::names(analyze::ALL).collect();
    let result = open(
        &["tokens", "truncated"],
        json!({
            "words": list(reference("Word")),
            "entities": list(reference("Entity")),
            "sentiment": reference("Label"),
            "embedding": reference("Vector"),
            "tokens": count(),
            "truncated": {"type": "boolean"},
            "dropped": list(json!({"enum": tasks})),
        }),
    );
    let mut request = open(
        &["text"],
        json!({
            "text": reference("Texts"),
            "tasks": {"type": ["array", "null"], "minItems": 1, "items": {"enum": tasks}},
            "session": {"type": ["string", "null"], "maxLength": analyze::SESSION_BYTES_MAX, "description": "Whose cached vectors may be used: at most 128 bytes."},
        }),
    );
    request["additionalProperties"] = json!(false);
    Description {
        summary: "All tasks of one or more texts from one pass. Offsets are in characters.",
        request,
        example: json!({"text": TEXT, "tasks": ["words", "entities", "sentiment"]}),
        response: json!({"anyOf": [result, open(&["results"], json!({"results": list(result), "dropped": list(json!({"enum": tasks}))}))]}),
    }
}

fn embed() -> Description {
    Description {
        summary: "A vector for each text.",
        request: open(
            &["inputs"],
            with_cutting(json!({
                "inputs": reference("Batch"),
                "normalize": {"type": ["boolean", "null"], "default": true},
                "dimensions": {"type": ["integer", "null"], "minimum": 1},
                "prompt_name": prompt(),
            })),
        ),
        example: json!({"inputs": [TEXT, "A ship's line."]}),
        response: list(reference("Vector")),
    }
}

fn embed_all() -> Description {
    Description {
        summary: "A vector for each token of each text.",
        request: open(
            &["inputs"],
            with_cutting(json!({"inputs": reference("Batch"), "prompt_name": prompt()})),
        ),
        example: json!({"inputs": "A ship's line."}),
        response: list(list(reference("Vector"))),
    }
}

fn predict() -> Description {
    let one = json!({"type": "array", "items": reference("Text"), "minItems": 1, "maxItems": 2});
    let scores = list(reference("Label"));
    Description {
        summary: "The score of each class of a text, of a pair, or of a batch of them, best first.",
        request: open(
            &["inputs"],
            with_cutting(json!({
                "inputs": {"anyOf": [reference("Text"), one, {"type": "array", "items": one, "minItems": 1}]},
                "raw_scores": nullable("boolean"),
                "parameters": {
                    "type": ["object", "null"],
                    "description": "As Hugging Face's client sends them; one input is then answered as a batch of one.",
                    "properties": {"top_k": {"type": ["integer", "null"], "minimum": 1}, "function_to_apply": {"enum": ["none", null]}},
                },
            })),
        ),
        example: json!({"inputs": [["I like it."], ["I do not."]]}),
        response: json!({"anyOf": [scores, list(scores)]}),
    }
}

fn rerank() -> Description {
    Description {
        summary: "How well each text answers the query, best first. Needs a reranker.",
        request: open(
            &["query", "texts"],
            with_cutting(json!({
                "query": reference("Text"),
                "texts": {"type": "array", "items": reference("Text"), "minItems": 1},
                "raw_scores": nullable("boolean"),
                "return_text": nullable("boolean"),
            })),
        ),
        example: json!({"query": "ships", "texts": ["A ship's line.", "A cake."]}),
        response: list(open(
            &["index", "score"],
            json!({"index": count(), "score": {"type": "number"}, "text": {"type": "string"}}),
        )),
    }
}

fn similarity() -> Description {
    let inputs = open(
        &["source_sentence", "sentences"],
        json!({"source_sentence": reference("Text"), "sentences": {"type": "array", "items": reference("Text"), "minItems": 1}}),
    );
    let parameters =
        json!({"type": ["object", "null"], "properties": with_cutting(json!({"prompt_name": prompt()}))});
    Description {
        summary: "Cosines of a sentence with others.",
        request: open(&["inputs"], json!({"inputs": inputs, "parameters": parameters})),
        example: json!({"inputs": {"source_sentence": "A ship's line.", "sentences": ["A boat's rope.", "A cake."]}}),
        response: reference("Vector"),
    }
}

fn tokenize() -> Description {
    let offset = json!({"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "In bytes, as that server gives them."});
    let token = object(json!({
        "id": count(), "text": {"type": "string"}, "special": {"type": "boolean"}, "start": offset, "stop": offset,
    }));
    Description {
        summary: "The tokens of each text.",
        request: open(
            &["inputs"],
            json!({"inputs": reference("Texts"), "add_special_tokens": {"type": ["boolean", "null"], "default": true}}),
        ),
        example: json!({"inputs": TEXT}),
        response: list(list(token)),
    }
}

fn decode() -> Description {
    Description {
        summary: "The text of token ids.",
        request: open(
            &["ids"],
            json!({
                "ids": {"anyOf": [reference("Ids"), {"type": "array", "items": reference("Ids"), "minItems": 1}]},
                "skip_special_tokens": {"type": ["boolean", "null"], "default": true},
            }),
        ),
        example: json!({"ids": [0, 100, 200, 2]}),
        response: list(json!({"type": "string"})),
    }
}

fn model() -> Value {
    json!({"type": ["string", "null"], "description": "The model that is served, where one is named."})
}

fn embeddings() -> Description {
    let vector = json!({"anyOf": [reference("Vector"), {"type": "string", "contentEncoding": "base64"}]});
    let datum = object(json!({"object": {"const": "embedding"}, "index": count(), "embedding": vector}));
    Description {
        summary: "A vector for each text, as OpenAI's clients ask for it.",
        request: open(
            &["input"],
            json!({
                "model": model(),
                "input": reference("Batch"),
                "encoding_format": {"enum": ["float", "base64", null]},
                "dimensions": {"type": ["integer", "null"], "minimum": 1},
                "user": nullable("string"),
            }),
        ),
        example: json!({"input": [TEXT]}),
        response: object(
            json!({"object": {"const": "list"}, "data": list(datum), "model": {"type": "string"}, "usage": reference("Usage")}),
        ),
    }
}

fn documents() -> Description {
    let document = json!({"anyOf": [reference("Text"), open(&["text"], json!({"text": reference("Text")}))]});
    let result = open(
        &["index", "relevance_score"],
        json!({"index": count(), "relevance_score": {"type": "number"}, "document": object(json!({"text": {"type": "string"}}))}),
    );
    Description {
        summary: "How well each document answers the query, best first, as Cohere's and Jina's clients ask for it. Needs a reranker.",
        request: open(
            &["query", "documents"],
            json!({
                "model": model(),
                "query": reference("Text"),
                "documents": {"type": "array", "items": document, "minItems": 1},
                "top_n": {"type": ["integer", "null"], "minimum": 1},
                "return_documents": nullable("boolean"),
            }),
        ),
        example: json!({"query": "ships", "documents": ["A ship's line.", "A cake."], "top_n": 1}),
        response: object(
            json!({"id": {"type": "string"}, "results": list(result), "model": {"type": "string"}, "usage": reference("Usage")}),
        ),
    }
}

fn classify() -> Description {
    let datum = object(
        json!({"index": count(), "label": {"type": "string"}, "probs": reference("Vector"), "num_classes": count()}),
    );
    Description {
        summary: "The probability of each class, in the order of the model's labels, as vLLM has it.",
        request: open(&["input"], json!({"model": model(), "input": reference("Batch")})),
        example: json!({"input": ["I like it.", "I do not."]}),
        response: object(json!({
            "id": {"type": "string"}, "object": {"const": "list"}, "created": count(), "model": {"type": "string"},
            "data": list(datum), "usage": reference("Usage"),
        })),
    }
}

fn ner() -> Description {
    let found = list(object(json!({
        "entity_group": {"type": "string"}, "score": {"type": "number"}, "word": {"type": "string"}, "start": count(), "end": count(),
    })));
    let parameters = json!({"type": ["object", "null"], "properties": {
        "aggregation_strategy": {"enum": ["simple", "first", "average", "max", null]},
        "ignore_labels": {"type": ["array", "null"], "items": {"type": "string"}},
        "stride": {"type": "null", "description": "A long text is read whole, in windows whose overlap the server sets."},
    }});
    Description {
        summary: "Named entities, as Hugging Face's token classification has them. Offsets are in characters.",
        request: open(
            &["inputs"],
            json!({"inputs": reference("Texts"), "parameters": parameters}),
        ),
        example: json!({"inputs": TEXT}),
        response: json!({"anyOf": [found, list(found.clone())]}),
    }
}

fn parse() -> Description {
    let task = json!({"enum": ["tok", "tok/fine", "ner", "ner/msra"]});
    let tasks = json!({"anyOf": [task, {"type": "array", "items": task}, {"type": "null"}]});
    let entity = json!({
        "type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}, "minItems": 4, "maxItems": 4,
        "description": "Its text, its label, its first word and the word behind it.",
    });
    Description {
        summary: "Words and entities of sentences, as HanLP has them: entities by the words that they cover.",
        request: open(
            &["text"],
            json!({"text": reference("Texts"), "tasks": tasks, "skip_tasks": tasks, "language": {"enum": ["zh", "en", "mul", null]}, "tokens": {"type": "null"}}),
        ),
        example: json!({"text": [TEXT]}),
        response: open(
            &[],
            json!({
                "tok/fine": list(list(json!({"type": "string"}))),
                "ner/msra": list(list(entity)),
                "dropped": list(json!({"enum": ["tok/fine", "ner/msra"]})),
            }),
        ),
    }
}
