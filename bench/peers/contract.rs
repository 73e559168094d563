//! What every contestant that looks at its requests must answer to the same ones: the engine's answer.
//!
//! Status and `code` of refusals are the contract; their words are each server's own.

use serde_json::{Value, json};
use tests::{Batch, Client, Event, Response};

use super::Server;

const PATH: &str = "/api/v1/events";

/// What a request is answered with, as far as it is agreed.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreed {
    pub request: &'static str,
    pub status: u16,
    /// Of a 200 the whole body but for its time, of a refusal its code.
    pub says: Value,
}

/// The answers to a good batch and to one of each kind that must be refused.
pub fn answers(server: &Server) -> Vec<Agreed> {
    let good = good_batch().json(&server.target.app_id);
    let other_app = good_batch().json("018f4c1e-7a2b-7c3d-8e4f-5a6b7c8d9e0f");
    let nameless = Batch::one(Event::new("", "user-1")).json(&server.target.app_id);
    let old = Event::new("page_view", "user-1").at("2001-01-01T00:00:00Z");
    let old = Batch::one(old).json(&server.target.app_id);
    let listed = Event::new("page_view", "user-1").with("[1]");
    let listed = Batch::one(listed).json(&server.target.app_id);
    let none = Batch::default().json(&server.target.app_id);
    let cut = &good[..good.len() - 1];
    let key = server.target.api_key.as_str();
    let wrong = "umg_wrong";
    [
        ("a good batch", PATH, key, good.as_str()),
        ("a wrong key", PATH, wrong, good.as_str()),
        ("JSON that ends too early", PATH, key, cut),
        ("another app", PATH, key, other_app.as_str()),
        ("an event without a name", PATH, key, nameless.as_str()),
        ("an event of long ago", PATH, key, old.as_str()),
        ("properties that are a list", PATH, key, listed.as_str()),
        ("no events", PATH, key, none.as_str()),
        ("another path", "/api/v1/other", key, good.as_str()),
    ]
    .map(|(request, path, key, body)| agreed(request, &post(server, path, key, body)))
    .to_vec()
}

/// A few events with what SDKs send; escapes and another script too.
pub fn good_batch() -> Batch {
    let properties = r#"{"page":"/pricing?plan=team\u0026ref=mail","n":42,"title":"Größe \"L\""}"#;
    let event = |user: &str| Event::new("page_view", user).with(properties);
    Batch { events: vec![event("user-1"), event("ユーザー"), Event::new("bye", "user-1")] }
}

pub fn post(server: &Server, path: &str, key: &str, body: &str) -> Response {
    let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
    Client::connect(&server.target.url).request("POST", path, &headers, body.as_bytes())
}

fn agreed(request: &'static str, answer: &Response) -> Agreed {
    let type_is_json = answer.header("content-type").is_some_and(|t| t == "application/json");
    assert!(type_is_json, "{request}: {:?}", answer.headers);
    let says =
        if answer.status == 200 { without_time(answer.json()) } else { json!(answer.code()) };
    Agreed { request, status: answer.status, says }
}

/// The time is a number of at least 0, and each server's own.
pub fn without_time(mut body: Value) -> Value {
    let time = body["meta"]["processing_time_ms"].take();
    assert!(time.as_f64().is_some_and(|ms| ms >= 0.0), "{time} is no time");
    body
}
