use std::collections::{BTreeMap, BTreeSet};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::template::Users;

const APP: &str = "6f1c2f4e-0000-4000-8000-000000000001";
const OTHER_APP: &str = "6f1c2f4e-0000-4000-8000-000000000002";

fn made(batch: &str, event_bytes: &str, compression: Compression, invalid_share: f64) -> Mix {
    let app = |id: &str, weight| (App { id: id.to_owned(), key: "key".to_owned() }, weight);
    Mix::new(&Ingredients {
        target: &Target::parse("http://h").unwrap(),
        apps: &[app(APP, 3), app(OTHER_APP, 1)],
        run: RunId::from_seed(1),
        traffic: &Traffic::ordinary(Users::Shared { count: 9 }),
        batch: &batch.parse().unwrap(),
        event_bytes: &event_bytes.parse().unwrap(),
        compression,
        invalid_share,
        seed: 7,
    })
    .unwrap()
}

/// Of one app, not compressed, all valid.
pub fn mix(batch: &str, event_bytes: &str) -> Mix {
    Mix::new(&Ingredients {
        target: &Target::parse("http://h").unwrap(),
        apps: &[(App { id: APP.to_owned(), key: "key".to_owned() }, 1)],
        run: RunId::from_seed(1),
        traffic: &Traffic::ordinary(Users::Shared { count: 9 }),
        batch: &batch.parse().unwrap(),
        event_bytes: &event_bytes.parse().unwrap(),
        compression: Compression::None,
        invalid_share: 0.0,
        seed: 7,
    })
    .unwrap()
}

fn body(made: &Made) -> Value {
    serde_json::from_slice(made.template.parts().1).unwrap()
}

#[test]
fn requests_come_in_the_proportions_asked_for() {
    let mix = made("1:50%,20:40%,100:10%", "uniform:200..400", Compression::None, 0.1);
    let (mut batches, mut apps, mut statuses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut small_of_other, mut small_bytes) = (0, BTreeSet::new());
    for number in 0..20_000 {
        let made = mix.get(mix.choose(3, number));
        *statuses.entry(made.expected_status).or_insert(0) += 1;
        if made.expected_status == 200 {
            let body = body(made);
            let events = body["events"].as_array().unwrap().len();
            assert_eq!(made.template.event_count(), events as u64);
            *batches.entry(events).or_insert(0) += 1;
            let app = body["app_id"].as_str().unwrap().to_owned();
            if events == 1 {
                small_of_other += i32::from(app == OTHER_APP);
                small_bytes.insert(made.template.parts().1.len());
            }
            *apps.entry(app).or_insert(0) += 1;
        }
    }
    let near = |seen: i32, expected: f64| {
        let share = f64::from(seen) / 20_000.0;
        assert!((share / expected - 1.0).abs() < 0.25, "{seen}, not {expected}");
    };
    [(1, 0.45), (20, 0.36), (100, 0.09)]
        .iter()
        .for_each(|(size, share)| near(batches[size], *share));
    near(apps[APP], 0.9 * 0.75);
    near(apps[OTHER_APP], 0.9 * 0.25);
    // Neither size nor app follows from the other.
    near(small_of_other, 0.9 * 0.25 * 0.5);
    let (least, most) = (small_bytes.first().unwrap(), small_bytes.last().unwrap());
    assert!((180..=200).contains(&(most - least)), "events of {least} to {most} bytes");
    // Eight kinds, three of which are 400.
    near(statuses[&400], 0.1 * 3.0 / 8.0);
    [401, 403, 404, 405, 415].iter().for_each(|status| near(statuses[status], 0.1 / 8.0));
}

#[test]
fn a_seed_says_which_request_comes() {
    let two = [mix("uniform:1..50", "250"), mix("uniform:1..50", "250")];
    for number in 0..100 {
        let [a, b] = two.each_ref().map(|mix| mix.get(mix.choose(1, number)).template.bytes());
        assert_eq!(a, b);
    }
    assert_eq!(mix("10", "250").made.len(), 1, "alike requests are made once");
}

/// Ids of a connection differ although its requests have different numbers of events.
#[test]
fn ids_do_not_repeat() {
    let mix = mix("uniform:1..50", "250");
    let mut ids = std::collections::HashSet::new();
    for number in 0..200 {
        let template = &mix.get(mix.choose(1, number)).template;
        let mut request = template.bytes().to_vec();
        template.patch(&mut request, 1, number);
        let at = template.parts().0.len();
        let body: Value = serde_json::from_slice(&request[at..]).unwrap();
        for event in body["events"].as_array().unwrap() {
            assert!(ids.insert(event["event_id"].to_string()));
        }
    }
}

#[test]
fn compressed_bodies_are_the_same_events() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mix = made("uniform:1..30", "250", compression, 0.0);
        let mut ids = std::collections::HashSet::new();
        for made in &mix.made {
            let (head, body) = made.template.parts();
            let head = std::str::from_utf8(head).unwrap();
            assert!(head.contains(&format!("Content-Encoding: {}\r\n", compression.as_str())));
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
            let value: Value = match compression {
                Compression::Gzip => serde_json::from_reader(GzDecoder::new(body)).unwrap(),
                _ => serde_json::from_slice(&zstd::decode_all(body).unwrap()).unwrap(),
            };
            let events = value["events"].as_array().unwrap();
            assert_eq!(events.len() as u64, made.template.event_count());
            assert!(events.iter().all(|event| ids.insert(event["event_id"].to_string())));
        }
    }
}

/// Each is wrong in one way, and says how long it is.
#[test]
fn invalid_requests_are_whole_requests() {
    let mix = made("5", "250", Compression::None, 0.5);
    let invalid: Vec<_> = mix.made.iter().filter(|made| made.expected_status != 200).collect();
    assert_eq!(invalid.len(), 8);
    let mut bad_bodies = Vec::new();
    for made in invalid {
        let (head, body) = made.template.parts();
        let head = std::str::from_utf8(head).unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let right_key = head.contains("X-API-Key: key\r\n");
        assert_eq!(right_key, made.expected_status != 401, "{head}");
        let (line, headers) = head.split_once("\r\n").unwrap();
        assert_eq!(line.starts_with("POST "), made.expected_status != 405, "{head}");
        assert_eq!(line.contains(" /api/v1/events "), made.expected_status != 404, "{head}");
        let is_json = headers.contains("Content-Type: application/json\r\n");
        assert_eq!(is_json, made.expected_status != 415, "{head}");
        let json = serde_json::from_slice::<Value>(body);
        let wrong = match &json {
            Err(_) => Some("json"),
            Ok(json) if json["events"].as_array().unwrap().is_empty() => Some("no events"),
            Ok(json) if json["events"][0]["event_name"] == "" => Some("no name"),
            Ok(_) => None,
        };
        assert_eq!(wrong.is_some(), made.expected_status == 400, "{head}");
        bad_bodies.extend(wrong);
        let right_app = json.is_ok_and(|json| json["app_id"] == APP);
        assert_eq!(right_app, !matches!(made.expected_status, 403) && body.ends_with(b"]}"));
    }
    bad_bodies.sort_unstable();
    assert_eq!(bad_bodies, ["json", "no events", "no name"]);
}
