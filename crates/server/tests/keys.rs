//! Who has no key is told so, wherever it asks.

mod common;

use std::time::Duration;

use common::{Server, TinyModel};
use plimsoll::app::Settings;
use plimsoll::net::NetSettings;

fn settings() -> Settings {
    Settings {
        api_key: Some("s3cret".into()),
        ..Settings::default()
    }
}

#[test]
fn keys_are_asked_for() {
    let model = TinyModel::new("bert");
    let server = Server::with(
        &["--model-id", model.path()],
        settings(),
        NetSettings::default(),
        None,
    );
    let ask = |path: &str, key: &str| {
        let mut client = server.connect();
        client.write(format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nauthorization: {key}\r\n\r\n"
        ));
        client.reply()
    };
    for key in ["", "Bearer", "Bearer s3cre", "Bearer s3cret2", "s3cret"] {
        assert_eq!(ask("/v1/models", key).status, 401, "{key}");
    }
    assert_eq!(ask("/v1/models", "Bearer s3cret").status, 200);
    assert_eq!(ask("/health", "").status, 200, "probes have no key");
    assert_eq!(
        server.post("/v1/embeddings", "{}").json()["error"]["code"],
        "invalid_api_key"
    );
}

#[test]
fn keys_are_asked_for_where_a_connection_is_kept_for_probes() {
    let net = NetSettings {
        connections_max: 1,
        evict_after: Duration::from_secs(3600),
        ..Default::default()
    };
    let model = TinyModel::new("bert");
    let server = Server::with(&["--model-id", model.path()], settings(), net, None);
    let mut first = server.connect();
    first.write("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(first.reply().status, 200);
    assert_eq!(server.get("/info").status, 401);
    assert_eq!(server.get("/metrics").status, 200, "scrapers have no key");
}
