//! The Open Inference Protocol over HTTP: JSON and raw bytes, both ways.

mod common;

use common::{Reply, Server, TinyModel};
use serde_json::{Value, json};

const TEXT: &str = "q é w, \"e\" r t 😀 y u i o p. a s d f";

fn model_path(server: &Server, rest: &str) -> String {
    format!("/v2/models/{}{rest}", server.app.model_name)
}

fn served() -> Server {
    let model = TinyModel::new("bert-q4-heads");
    Server::start(&["--model-id", model.path(), "--served-model-name", "org/tiny"])
}

fn infer(server: &Server, body: &Value) -> Value {
    let reply = server.post(&model_path(server, "/infer"), body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn text_input(texts: &[&str]) -> Value {
    json!({"name": "text", "datatype": "BYTES", "shape": [texts.len()], "data": texts})
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().unwrap();
    outputs
        .iter()
        .find(|output| output["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// Elements of a BYTES tensor as raw bytes.
fn raw(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat())
        .collect()
}

fn elements(mut raw: &[u8]) -> Vec<Value> {
    let mut elements = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk() {
        let (element, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        elements.push(serde_json::from_slice(element).unwrap());
        raw = rest;
    }
    elements
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

/// Posts JSON with raw bytes behind it.
fn post_raw(server: &Server, json: &Value, raw: &[u8], json_bytes: Option<usize>) -> Reply {
    let json = json.to_string();
    let (path, length) = (model_path(server, "/infer"), json.len() + raw.len());
    let header = json_bytes.unwrap_or(json.len());
    let mut client = server.connect();
    client.write(format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\ninference-header-content-length: {header}\r\n\r\n{json}"
    ));
    client.try_write(raw);
    client.reply()
}

#[test]
fn the_server_and_the_model_say_what_they_are() {
    let server = served();
    assert_eq!(
        server.get("/v2").json()["extensions"],
        json!(["binary_tensor_data"])
    );
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    for rest in ["/ready", "/versions/1/ready"] {
        assert_eq!(server.get(&model_path(&server, rest)).status, 200);
    }
    for rest in ["/versions/2/ready", "x/ready", "/config", "/versions/1/stats"] {
        assert_eq!(server.get(&model_path(&server, rest)).status, 404, "{rest}");
    }
    let model = server.get(&model_path(&server, "/versions/1")).json();
    assert_eq!(model, server.get("/v2/models/org%2Ftiny").json());
    assert_eq!(model["name"], "org/tiny");
    assert_eq!(
        model["inputs"],
        json!([{"name": "text", "datatype": "BYTES", "shape": [-1]}])
    );
    let outputs: Vec<String> = model["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| {
            format!("{} {} {}", output["name"], output["datatype"], output["shape"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        outputs,
        [
            "embedding FP32 [-1,32]",
            "words BYTES [-1]",
            "entities BYTES [-1]",
            "sentiment BYTES [-1]",
            "scores FP32 [-1,2]",
            "token_count INT32 [-1]",
            "truncated BOOL [-1]"
        ]
    );
    assert_eq!(model["parameters"]["scores"], json!(["negative", "positive"]));
}

#[test]
fn tensors_agree_with_analyze() {
    let server = served();
    let texts = [TEXT, "a b"];
    let native = server
        .post("/v1/analyze", json!({"text": texts}).to_string())
        .json();
    let answer = infer(
        &server,
        &json!({"id": "no \"7\"", "inputs": [text_input(&texts)]}),
    );
    assert_eq!(
        (&answer["model_name"], &answer["model_version"]),
        (&json!("org/tiny"), &json!("1"))
    );
    assert_eq!(answer["id"], "no \"7\"");
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 7);
    let vectors: Vec<f32> = serde_json::from_value(output(&answer, "embedding")["data"].clone()).unwrap();
    let scores: Vec<f32> = serde_json::from_value(output(&answer, "scores")["data"].clone()).unwrap();
    assert_eq!(output(&answer, "scores")["shape"], json!([2, 2]));
    for (index, result) in native["results"].as_array().unwrap().iter().enumerate() {
        let expected: Vec<f32> = serde_json::from_value(result["embedding"].clone()).unwrap();
        assert_eq!(vectors[index * expected.len()..][..expected.len()], expected);
        for name in ["words", "entities", "sentiment"] {
            let element = output(&answer, name)["data"][index].as_str().unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(element).unwrap(),
                result[name],
                "{name}"
            );
        }
        let best = scores[2 * index].max(scores[2 * index + 1]);
        assert_eq!(
            result["sentiment"]["score"],
            json!(best.to_string().parse::<f64>().unwrap())
        );
        assert_eq!(output(&answer, "token_count")["data"][index], result["tokens"]);
        assert_eq!(output(&answer, "truncated")["data"][index], false);
    }
    server.assert_empty();
}

#[test]
fn raw_bytes_go_in_and_come_out() {
    let server = served();
    let texts = [TEXT, "a b", "x"];
    let json_answer = infer(&server, &json!({"inputs": [text_input(&texts)]}));
    let bytes = raw(&texts);
    let input = json!({"name": "text", "datatype": "BYTES", "shape": [3, 1], "parameters": {"binary_data_size": bytes.len()}});
    let wanted = json!([
        {"name": "entities", "parameters": {"binary_data": true}},
        {"name": "token_count"},
        {"name": "embedding", "parameters": {"binary_data": true}},
        {"name": "scores", "parameters": {"binary_data": true}},
        {"name": "truncated", "parameters": {"binary_data": true}},
    ]);
    let reply = post_raw(
        &server,
        &json!({"inputs": [input], "outputs": wanted}),
        &bytes,
        None,
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    let json_bytes: usize = reply
        .header("inference-header-content-length")
        .unwrap()
        .parse()
        .unwrap();
    let (json_part, mut rest) = reply.body.split_at(json_bytes);
    let answer: Value = serde_json::from_slice(json_part).unwrap();
    let names: Vec<&Value> = answer["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| &output["name"])
        .collect();
    assert_eq!(
        names,
        ["entities", "token_count", "embedding", "scores", "truncated"],
        "in the order of the request"
    );
    let mut take = |name: &str| {
        let size = output(&answer, name)["parameters"]["binary_data_size"]
            .as_u64()
            .unwrap();
        let (taken, left) = rest.split_at(size as usize);
        rest = left;
        taken
    };
    let entities: Vec<Value> = output(&json_answer, "entities")["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|element| serde_json::from_str(element.as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(elements(take("entities")), entities);
    let as_floats =
        |name: &str| serde_json::from_value::<Vec<f32>>(output(&json_answer, name)["data"].clone()).unwrap();
    assert_eq!(floats(take("embedding")), as_floats("embedding"));
    assert_eq!(floats(take("scores")), as_floats("scores"));
    assert_eq!(take("truncated"), [0, 0, 0]);
    assert!(rest.is_empty());
    assert_eq!(
        output(&answer, "token_count")["data"],
        output(&json_answer, "token_count")["data"]
    );

    // What names no outputs may still want them raw.
    let all = json!({"parameters": {"binary_data_output": true}, "inputs": [text_input(&["a"])]});
    let reply = post_raw(&server, &all, b"", None);
    assert!(reply.header("inference-header-content-length").is_some());
    server.assert_empty();
}

#[test]
fn pairs_are_judged() {
    let model = TinyModel::new("bert-reranker");
    let server = Server::start(&["--model-id", model.path(), "--served-model-name", "judge"]);
    let second = json!({"name": "text_pair", "datatype": "BYTES", "shape": [2], "data": ["a b c", "x"]});
    let first = text_input(&["a b", "a b"]);
    // The second may come first.
    let answer = infer(&server, &json!({"inputs": [second, first]}));
    let ranked = server
        .post(
            "/rerank",
            json!({"query": "a b", "texts": ["a b c", "x"]}).to_string(),
        )
        .json();
    for one in ranked.as_array().unwrap() {
        let index = one["index"].as_u64().unwrap() as usize;
        assert_eq!(output(&answer, "scores")["data"][index], one["score"]);
    }
    let few = json!({"name": "text_pair", "datatype": "BYTES", "shape": [1], "data": ["a"]});
    let many = json!({"name": "text_pair", "datatype": "BYTES", "shape": [3], "data": ["a", "b", "c"]});
    for wrong in [few, many] {
        let body = json!({"inputs": [text_input(&["a", "b"]), wrong]});
        let reply = server.post("/v2/models/judge/infer", body.to_string());
        assert_eq!(reply.status, 422);
        assert!(reply.text().contains("inputs[1]"), "{}", reply.text());
    }
    server.assert_empty();
}

#[test]
fn what_is_wrong_is_named() {
    let server = served();
    let input = |change: Value| {
        let mut input = text_input(&["a", "b"]);
        for (name, value) in change.as_object().unwrap() {
            input[name] = value.clone();
        }
        json!({"inputs": [input]})
    };
    let wanted = |output: Value| json!({"inputs": [text_input(&["a"])], "outputs": [output]});
    let twice = json!({"inputs": [text_input(&["a"]), text_input(&["a"])]});
    let many = vec!["a"; 2049];
    for (status, body, said) in [
        (
            422,
            input(json!({"name": "ids"})),
            "inputs[0]: the model's inputs are",
        ),
        (422, input(json!({"datatype": "FP32"})), "datatype BYTES"),
        (422, input(json!({"shape": [3]})), "another number of elements"),
        (422, input(json!({"shape": [2, 2]})), "shape [n]"),
        (422, input(json!({"shape": []})), "shape [n]"),
        (422, input(json!({"shape": [1, 1, 1]})), "shape [n]"),
        (422, input(json!({"data": [1, 2]})), "inputs[0].data[0]"),
        (422, input(json!({"parameters": {"binary_data_size": 4}})), "once"),
        (
            422,
            input(json!({"parameters": {"shared_memory_region": "r"}})),
            "shared_memory_region",
        ),
        (
            422,
            wanted(json!({"name": "logits"})),
            "outputs[0]: the model has no such output",
        ),
        (
            422,
            wanted(json!({"name": "words", "parameters": {"classification": 2}})),
            "classification",
        ),
        (422, wanted(json!({})), "name: missing field"),
        (422, twice, "inputs[1]: given twice"),
        (422, json!({}), "inputs: missing field"),
        (400, json!({"inputs": []}), "cannot be empty"),
        (400, json!({"inputs": [text_input(&[""])]}), "cannot be empty"),
        (400, json!({"inputs": [text_input(&[])]}), "cannot be empty"),
        (422, json!({"inputs": [text_input(&many)]}), "2048"),
    ] {
        let reply = server.post(&model_path(&server, "/infer"), body.to_string());
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert!(reply.text().contains(said), "{said}: {}", reply.text());
    }
    let sized = |size: usize| json!({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}]});
    for (body, bytes, json_bytes) in [
        (sized(5), &b"\x01\0\0\0ab"[..], None),
        (sized(6), b"\x01\0\0\0ab", None),
        (sized(5), b"\x01\0\0\0\xff", None),
        (sized(5), b"\x02\0\0\0a", None),
        (sized(3), b"\x02\0\0", None),
        (sized(usize::MAX / 2), b"\x01\0\0\0a", None),
        (sized(5), b"\x01\0\0\0a", Some(9999)),
        (sized(5), b"\x01\0\0\0a", Some(3)),
    ] {
        let reply = post_raw(&server, &body, bytes, json_bytes);
        assert_eq!(reply.status, 422, "{body} {bytes:?}: {}", reply.text());
    }
    let reply = server.post(
        "/v2/models/other/infer",
        json!({"inputs": [text_input(&["a"])]}).to_string(),
    );
    assert_eq!(reply.status, 404);
    server.assert_empty();
}

#[test]
fn an_address_says_which_methods_it_takes() {
    let server = served();
    for (method, rest, allowed) in [
        ("POST", "", "GET,HEAD"),
        ("PUT", "/ready", "GET,HEAD"),
        ("GET", "/infer", "POST"),
        ("OPTIONS", "/versions/1/infer", "POST"),
    ] {
        let path = model_path(&server, rest);
        let mut client = server.connect();
        client.write(format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n"
        ));
        let reply = client.reply();
        let told = (reply.status, reply.header("allow"));
        assert_eq!(told, (405, Some(allowed)), "{method} {path}");
    }
}
