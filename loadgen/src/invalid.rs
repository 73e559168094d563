//! Requests that the server has to refuse, each with the one status that is right for it. None of
//! them ends its connection.

use crate::event_id::RunId;
use crate::mix::Made;
use crate::target::Target;
use crate::template::{App, Head, RequestTemplate, TemplateError, Traffic, write_head};

const EVENT_BYTES: usize = 400;

/// One of each kind.
pub fn requests(
    target: &Target,
    app: &App,
    run: RunId,
    traffic: &Traffic,
) -> Result<Vec<Made>, TemplateError> {
    let good = RequestTemplate::new(target, app, run, traffic, &[EVENT_BYTES], 1)?;
    let request = good.request(0, 0);
    let body = String::from_utf8_lossy(&request[good.parts().0.len()..]).into_owned();

    let ordinary = || Head { key: &app.key, ..Head::default() };
    let cut_off = body[..body.len() - 1].to_owned();
    let no_name = body.replacen(&traffic.names[0], "", 1);
    let not_empty = format!(r#"{{"app_id":"{}","events":[]}}"#, app.id);
    let other_app = body.replacen(&app.id, &other_id(&app.id), 1);
    let other_key = format!("{}0", app.key);
    let kinds = [
        (400, ordinary(), cut_off),
        (400, ordinary(), no_name),
        (400, ordinary(), not_empty),
        (403, ordinary(), other_app),
        (401, Head { key: &other_key, ..Head::default() }, body.clone()),
        (404, Head { path: "/api/v1/event", ..ordinary() }, body.clone()),
        (405, Head { method: "PUT", ..ordinary() }, body.clone()),
        (415, Head { content_type: "text/plain", ..ordinary() }, body),
    ];
    let made = kinds.into_iter().map(|(expected_status, head, body)| {
        let bytes = (write_head(target, &head, body.len()) + &body).into_bytes();
        Made { template: RequestTemplate::frozen(bytes, 1, traffic), expected_status }
    });
    Ok(made.collect())
}

/// A UUID that differs in its first digit, and is not nil.
fn other_id(id: &str) -> String {
    let first = if id.starts_with('1') { '2' } else { '1' };
    id.chars().enumerate().map(|(at, digit)| if at == 0 { first } else { digit }).collect()
}
