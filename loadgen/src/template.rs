//! The request that is sent over and over: written once, then only its changing fields are
//! overwritten in place. Every such field has a fixed width, so offsets and lengths never change and a
//! request costs a few copies of 4 to 8 bytes an event, no formatting and no allocation.

use std::sync::Arc;

use thiserror::Error;

use crate::distribution::RankTable;
use crate::event_id::{self, RunId, hex8};
use crate::target::Target;

/// Enough to be told apart in a report by name, and of one width.
const ORDINARY_NAMES: [&str; 10] = [
    "product_view",
    "search_query",
    "cart_updated",
    "order_placed",
    "button_click",
    "video_played",
    "item_removed",
    "coupon_added",
    "session_open",
    "profile_view",
];

const TIMESTAMP_BYTES: usize = 24;

/// Ends every body; what `properties` hold besides it exercises escapes, numbers and UTF-8.
const PROPERTIES_START: &str = r#"{"page":"/pricing?plan=team\u0026ref=mail","n":42,"v":-12.5e-3,"ok":true,"title":"Größe \"L\"","pad":""#;
const PROPERTIES_END: &str = r#""}}"#;
const SHORT_PROPERTIES_START: &str = r#"{"pad":""#;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    #[error("an event has {min} to {max} bytes, not {given}")]
    EventBytes { given: usize, min: usize, max: usize },
}

/// How events are shared out over users.
#[derive(Clone, Debug, PartialEq)]
pub enum Users {
    /// All connections draw from the same `count` users, evenly.
    Shared { count: u64 },
    /// The same, some more often than others.
    Skewed(Arc<RankTable>),
    /// Every connection has users of its own and gives each a bounded number of events, so that
    /// one timeline answer holds all events of a user.
    PerConnection,
}

/// With [`Users::PerConnection`], users of one connection that take turns...
const USERS_IN_TURN: u64 = 16;
/// ...until each has this many events. Below the timeline's 1,000 rows, so that surplus rows show.
const EVENTS_PER_USER: u64 = 800;
const _: () = assert!(EVENTS_PER_USER < proto::limits::TIMELINE_ROWS_MAX as u64);

const USER_DIGITS: usize = 8;
const CONNECTION_DIGITS: usize = 5;
const _: () = assert!(event_id::CONNECTIONS_MAX <= 1 << (4 * CONNECTION_DIGITS));

impl Users {
    /// The number that a user's id is made of.
    fn number(&self, connection: u64, event: u64, low_half: u64) -> u64 {
        match self {
            Users::Shared { count } => event_id::pick(low_half, *count),
            Users::Skewed(table) => {
                table.rank(event_id::serial_of(low_half), event_id::SERIAL_BITS)
            }
            Users::PerConnection => {
                let turn = event / (USERS_IN_TURN * EVENTS_PER_USER);
                per_connection_number(connection, turn * USERS_IN_TURN + event % USERS_IN_TURN)
            }
        }
    }
}

/// Connection and user as 5 and 8 hex digits.
fn per_connection_number(connection: u64, user: u64) -> u64 {
    connection << 32 | user
}

/// How many users of its own a connection has that made `events` events.
pub fn users_of_connection(events: u64) -> u64 {
    let turns = events / (USERS_IN_TURN * EVENTS_PER_USER);
    let rest = events % (USERS_IN_TURN * EVENTS_PER_USER);
    turns * USERS_IN_TURN + rest.min(USERS_IN_TURN)
}

/// The numbers of the events below `events` that a connection's user number `user` has.
pub fn events_of_user(user: u64, events: u64) -> impl Iterator<Item = u64> {
    let first = user / USERS_IN_TURN * USERS_IN_TURN * EVENTS_PER_USER + user % USERS_IN_TURN;
    let all = (0..EVENTS_PER_USER).map(move |turn| first + turn * USERS_IN_TURN);
    all.take_while(move |&event| event < events)
}

/// The names and users that a run's events have.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// All of one width; event number `n` has name `n % len`.
    pub names: Vec<String>,
    pub users: Users,
    user_prefix: String,
    user_digits: usize,
}

impl Traffic {
    pub fn ordinary(users: Users) -> Self {
        let names = ORDINARY_NAMES.map(str::to_owned).to_vec();
        Traffic { names, users, user_prefix: "user_".to_owned(), user_digits: USER_DIGITS }
    }

    /// Names and users that no other run has, so that what is stored under them is this run's.
    pub fn traceable(run: RunId) -> Self {
        let run = format!("{:016x}", run.as_u64());
        Traffic {
            names: (0..10).map(|k| format!("load_{run}_{k}")).collect(),
            users: Users::PerConnection,
            user_prefix: format!("u_{run}_"),
            user_digits: CONNECTION_DIGITS + USER_DIGITS,
        }
    }

    /// The id of a connection's user under [`Users::PerConnection`].
    pub fn user_id(&self, connection: u64, user: u64) -> String {
        let number = per_connection_number(connection, user);
        format!("{}{number:0width$x}", self.user_prefix, width = self.user_digits)
    }
}

/// A point in time as the events state it, and which of the run's refreshes it came from.
#[derive(Clone, Copy)]
pub struct Stamp {
    text: [u8; TIMESTAMP_BYTES],
    pub refresh: u32,
}

impl Stamp {
    pub fn new(now: time::OffsetDateTime, refresh: u32) -> Self {
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let text = now
            .to_offset(time::UtcOffset::UTC)
            .format(&format)
            .expect("every component of the format is one that a date with time has");
        let text = text.into_bytes().try_into();
        Stamp { text: text.expect("a year has four digits until 9999"), refresh }
    }
}

/// Where the changing fields lie in one event, from its `{`.
#[derive(Clone, Debug, Default)]
struct EventLayout {
    id: usize,
    name: usize,
    user: usize,
    timestamp: usize,
}

#[derive(Clone, Debug)]
pub struct RequestTemplate {
    bytes: Vec<u8>,
    event_count: u64,
    /// Where each event begins that is made anew for every request; none where nothing is.
    events_at: Vec<u32>,
    /// Event numbers that each request of a connection has to itself.
    serials: u64,
    layout: EventLayout,
    /// The serials are a multiple of the names, so that an event's place decides its name.
    names_stay: bool,
    traffic: Traffic,
}

impl RequestTemplate {
    /// With an event of each of these sizes; `serials` is at least their number.
    pub fn new(
        target: &Target,
        app: &App,
        run: RunId,
        traffic: &Traffic,
        event_bytes: &[usize],
        serials: u64,
    ) -> Result<Self, TemplateError> {
        debug_assert!(event_bytes.len() as u64 <= serials);
        let mut layout = EventLayout::default();
        let mut body = format!(r#"{{"app_id":"{}","events":["#, app.id);
        let mut events_at = Vec::with_capacity(event_bytes.len());
        for (&bytes, name) in event_bytes.iter().zip(traffic.names.iter().cycle()) {
            let (event, event_layout) = write_event(run, traffic, name, bytes)?;
            layout = event_layout;
            if !events_at.is_empty() {
                body.push(',');
            }
            events_at.push(body.len() as u32);
            body.push_str(&event);
        }
        body.push_str("]}");
        let head = write_head(target, &Head { key: &app.key, ..Head::default() }, body.len());
        events_at.iter_mut().for_each(|at| *at += head.len() as u32);
        Ok(RequestTemplate {
            bytes: (head + &body).into_bytes(),
            event_count: event_bytes.len() as u64,
            events_at,
            serials,
            layout,
            names_stay: serials.is_multiple_of(traffic.names.len() as u64),
            traffic: traffic.clone(),
        })
    }

    /// A request that is always sent as it is.
    pub fn frozen(bytes: Vec<u8>, event_count: u64, traffic: &Traffic) -> Self {
        RequestTemplate {
            bytes,
            event_count,
            events_at: Vec::new(),
            serials: 0,
            layout: EventLayout::default(),
            names_stay: true,
            traffic: traffic.clone(),
        }
    }

    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Head and body.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        let end = memchr::memmem::find(&self.bytes, b"\r\n\r\n").map_or(0, |at| at + 4);
        self.bytes.split_at(end)
    }

    /// One request; each that is made of it has this length.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The connection's request number `number`, of now.
    pub fn request(&self, connection: u64, number: u64) -> Vec<u8> {
        let mut request = self.bytes.clone();
        self.patch(&mut request, connection, number);
        self.patch_timestamps(&mut request, &Stamp::new(time::OffsetDateTime::now_utc(), 1));
        request
    }

    /// Makes `request` the connection's request number `number`.
    pub fn patch(&self, request: &mut [u8], connection: u64, number: u64) {
        let name_count = self.traffic.names.len() as u64;
        for (index, &at) in (0..).zip(&self.events_at) {
            let event = &mut request[at as usize..];
            let serial = number * self.serials + index;
            let low_half = event_id::low_half(connection, serial);
            let [high, low] = [(low_half >> 32) as u32, low_half as u32].map(hex8);
            let [g0, g1, g2, g3, n0, n1, n2, n3] = high;
            put(event, self.layout.id + 19, [g0, g1, g2, g3]);
            put(event, self.layout.id + 24, [n0, n1, n2, n3]);
            put(event, self.layout.id + 28, low);
            if !self.names_stay {
                let name = self.traffic.names[(serial % name_count) as usize].as_bytes();
                event[self.layout.name..][..name.len()].copy_from_slice(name);
            }
            let user = self.traffic.users.number(connection, serial, low_half);
            let mut user_at = self.layout.user;
            if matches!(self.traffic.users, Users::PerConnection) {
                let [_, _, _, digits @ ..] = hex8((user >> 32) as u32);
                put(event, user_at, digits);
                user_at += CONNECTION_DIGITS;
            }
            put(event, user_at, hex8(user as u32));
        }
    }

    pub fn patch_timestamps(&self, request: &mut [u8], stamp: &Stamp) {
        for &at in &self.events_at {
            let event = &mut request[at as usize..];
            event[self.layout.timestamp..][..TIMESTAMP_BYTES].copy_from_slice(&stamp.text);
        }
    }
}

/// A copy whose length the compiler knows: a move or two, where a slice's would be a call.
#[inline]
fn put<const N: usize>(event: &mut [u8], at: usize, text: [u8; N]) {
    let place = event[at..].first_chunk_mut();
    *place.expect("offsets lie in the event that they were taken from") = text;
}

/// What a request belongs to, and what lets it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub id: String,
    pub key: String,
}

/// What a head says that is not the same in all.
pub struct Head<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub key: &'a str,
    pub content_type: &'a str,
    pub encoding: Option<&'a str>,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Head {
            method: "POST",
            path: "/api/v1/events",
            key: "",
            content_type: "application/json",
            encoding: None,
        }
    }
}

pub fn write_head(target: &Target, head: &Head<'_>, body_bytes: usize) -> String {
    let encoding = head.encoding.map_or(String::new(), |e| format!("Content-Encoding: {e}\r\n"));
    format!(
        "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: unmogrowp-loadgen/{}\r\n\
         X-API-Key: {}\r\nContent-Type: {}\r\n{encoding}Content-Length: {body_bytes}\r\n\r\n",
        head.method,
        target.path,
        head.path,
        target.authority,
        env!("CARGO_PKG_VERSION"),
        head.key,
        head.content_type,
    )
}

/// One event of exactly `event_bytes` bytes with zeros where fields change.
fn write_event(
    run: RunId,
    traffic: &Traffic,
    name: &str,
    event_bytes: usize,
) -> Result<(String, EventLayout), TemplateError> {
    let mut layout = EventLayout::default();
    let mut event = String::from(r#"{"event_id":""#);
    layout.id = event.len();
    let run = format!("{:016x}", run.as_u64());
    event += &format!("{}-{}-{}-0000-000000000000", &run[..8], &run[8..12], &run[12..]);
    event += r#"","event_name":""#;
    layout.name = event.len();
    event += name;
    event += r#"","user_id":""#;
    event += &traffic.user_prefix;
    layout.user = event.len();
    event += &"0".repeat(traffic.user_digits);
    event += r#"","timestamp":""#;
    layout.timestamp = event.len();
    event += &"0".repeat(TIMESTAMP_BYTES);
    event += r#"","properties":"#;
    let room =
        |start: &str| event_bytes.checked_sub(event.len() + start.len() + PROPERTIES_END.len());
    let padded =
        |start: &str, room: usize| format!("{event}{start}{}{PROPERTIES_END}", filler(room));
    let text = match (room(PROPERTIES_START), room(SHORT_PROPERTIES_START)) {
        _ if event_bytes > proto::limits::EVENT_BYTES_MAX => None,
        (Some(room), _) => Some(padded(PROPERTIES_START, room)),
        (None, Some(room)) => Some(padded(SHORT_PROPERTIES_START, room)),
        (None, None) => None,
    };
    let text = text.ok_or(TemplateError::EventBytes {
        given: event_bytes,
        min: event.len() + SHORT_PROPERTIES_START.len() + PROPERTIES_END.len(),
        max: proto::limits::EVENT_BYTES_MAX,
    })?;
    debug_assert_eq!(text.len(), event_bytes);
    Ok((text, layout))
}

fn filler(bytes: usize) -> String {
    "the quick brown fox jumps over the lazy dog and trots home, "
        .chars()
        .cycle()
        .take(bytes)
        .collect()
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
