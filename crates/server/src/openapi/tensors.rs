//! The tensors of the Open Inference Protocol.

use serde_json::{Value, json};

use super::{Description, list, object, open};
use crate::wire::oip::Output;

/// What a route does, by its path.
pub(super) fn of(path: &str) -> Option<Description> {
    (path == "/v2/models/{model}/infer").then(infer)
}

fn shape() -> Value {
    json!({"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2})
}

fn infer() -> Description {
    let input = open(
        &["name", "shape", "datatype"],
        json!({
            "name": {"enum": ["text", "text_pair"]},
            "shape": shape(),
            "datatype": {"const": "BYTES"},
            "data": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
            "parameters": {"type": ["object", "null"], "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}},
        }),
    );
    let outputs = Output::ALL.map(Output::name);
    let wanted = open(
        &["name"],
        json!({
            "name": {"enum": outputs},
            "parameters": {"type": ["object", "null"], "properties": {"binary_data": {"type": "boolean"}}},
        }),
    );
    let datatypes: Vec<&str> = vec!["FP32", "BYTES", "INT32", "BOOL"];
    let output = open(
        &["name", "shape", "datatype"],
        json!({
            "name": {"enum": outputs},
            "shape": shape(),
            "datatype": {"enum": datatypes},
            "data": list(json!({})),
            "parameters": {"type": "object"},
        }),
    );
    let mut answer = object(
        json!({"model_name": {"type": "string"}, "model_version": {"type": "string"}, "outputs": list(output)}),
    );
    answer["properties"]["id"] = json!({"type": "string"});
    answer["properties"]["parameters"] = json!({"type": "object"});
    Description {
        summary: "Texts in, tensors out; `/v2/models/{model}/versions/1/infer` is the same. With the header `Inference-Header-Content-Length` raw \
            bytes follow the JSON.",
        request: open(
            &["inputs"],
            json!({
                "id": {"type": ["string", "null"]},
                "parameters": {"type": ["object", "null"], "properties": {"binary_data_output": {"type": "boolean"}}},
                "inputs": {"type": "array", "items": input, "minItems": 1, "maxItems": 2},
                "outputs": {"type": ["array", "null"], "items": wanted},
            }),
        ),
        example: json!({
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["A ship's line."]}],
            "outputs": [{"name": "words"}, {"name": "token_count"}],
        }),
        response: answer,
    }
}
