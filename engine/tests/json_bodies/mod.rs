//! Bodies made from a seed: valid batches in every style that clients write, with the rows they
//! must become, and damaged copies of them.

/// A small generator whose whole state is the seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

pub const APP: [u8; 16] = *b"\x01\x8f\x4c\x1e\x7a\x2b\x7c\x3d\x8e\x4f\x5a\x6b\x7c\x8d\x9e\x0f";
pub const APP_TEXT: &str = "018f4c1e-7a2b-7c3d-8e4f-5a6b7c8d9e0f";
/// 2026-01-01T00:00:00Z, which is when bodies are received; all days of 2025 are allowed.
pub const RECEIVED_AT_MS: i64 = 1_767_225_600_000;
pub const RECEIVED_AT_NS: i64 = RECEIVED_AT_MS * 1_000_000;
pub const TIMESTAMP_MIN_MS: i64 = RECEIVED_AT_MS - 365 * 86_400_000;

/// What an event must become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub event_id: [u8; 16],
    pub timestamp_ms: i64,
    pub event_name: String,
    pub user_id: String,
    pub properties: String,
}

pub struct Batch {
    pub text: String,
    pub rows: Vec<Expected>,
}

/// How one client writes.
struct Style {
    after_separator: &'static str,
    before_separator: &'static str,
    shuffle: bool,
    unknown_members: bool,
    escapes: bool,
    non_ascii: bool,
}

fn style(random: &mut Random) -> Style {
    let compact = random.one_in(2);
    Style {
        after_separator: if compact { "" } else { random.pick(&["", " ", "\n  ", "\r\n\t"]) },
        before_separator: if compact || random.one_in(2) { "" } else { " " },
        shuffle: random.one_in(3),
        unknown_members: random.one_in(4),
        escapes: random.one_in(3),
        non_ascii: random.one_in(3),
    }
}

/// A valid batch of `event_count` events.
pub fn batch(seed: u64, event_count: usize) -> Batch {
    let mut random = Random(seed);
    let style = style(&mut random);
    let mut rows = Vec::new();
    let mut events = Vec::new();
    for _ in 0..event_count {
        let (text, row) = event(&mut random, &style);
        events.push(text);
        rows.push(row);
    }
    let app_id = quote(&mut random, &style, APP_TEXT);
    let events = list('[', &events, ']', &style);
    let mut members = vec![member("app_id", &app_id, &style), member("events", &events, &style)];
    if style.unknown_members {
        members.push(member("sent_by", &value(&mut random, &style, 0), &style));
    }
    if style.shuffle {
        shuffle(&mut random, &mut members);
    }
    Batch { text: list('{', &members, '}', &style), rows }
}

fn list(open: char, parts: &[String], close: char, style: &Style) -> String {
    let separator = format!("{},{}", style.before_separator, style.after_separator);
    let (before, after) = (style.before_separator, style.after_separator);
    format!("{open}{after}{}{before}{close}", parts.join(&separator))
}

fn member(name: &str, value: &str, style: &Style) -> String {
    format!("\"{name}\"{}:{}{value}", style.before_separator, style.after_separator)
}

fn shuffle(random: &mut Random, members: &mut [String]) {
    for at in (1..members.len()).rev() {
        members.swap(at, random.below(at + 1));
    }
}

fn event(random: &mut Random, style: &Style) -> (String, Expected) {
    let mut event_id = [0; 16];
    event_id[..8].copy_from_slice(&random.next().to_be_bytes());
    event_id[8..].copy_from_slice(&(random.next() | 1).to_be_bytes());
    let (timestamp, timestamp_ms) = moment(random);
    let event_name = words(random, style, 100);
    let user_id = words(random, style, 255);
    let mut members = vec![
        member("event_id", &uuid_text(random, style, event_id), style),
        member("event_name", &quote(random, style, &event_name), style),
        member("user_id", &quote(random, style, &user_id), style),
        member("timestamp", &quote(random, style, &timestamp), style),
    ];
    let mut properties = "{}".to_owned();
    if random.one_in(8) {
        if random.one_in(2) {
            members.push(member("properties", "null", style));
        }
    } else {
        properties = object(random, style, 0);
        members.push(member("properties", &properties, style));
    }
    if style.unknown_members && random.one_in(2) {
        members.push(member("context", &value(random, style, 0), style));
        members.push(member("context", &value(random, style, 1), style));
    }
    if style.shuffle {
        shuffle(random, &mut members);
    }
    if style.escapes && random.one_in(4) {
        members[0] = members[0].replacen("_id", "_\\u0069d", 1);
    }
    (
        list('{', &members, '}', style),
        Expected { event_id, timestamp_ms, event_name, user_id, properties },
    )
}

fn uuid_text(random: &mut Random, style: &Style, id: [u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let text = if random.one_in(4) { text.to_uppercase() } else { text };
    quote(random, style, &text)
}

/// A moment of 2025 in one of the forms that are allowed, and in milliseconds.
fn moment(random: &mut Random) -> (String, i64) {
    let offset_minutes = random.below(2 * 1439 + 1) as i64 - 1439;
    let ms = TIMESTAMP_MIN_MS + 86_400_000 + random.below(363 * 86_400_000) as i64;
    let local = |ms: i64| {
        let format =
            time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let moment = time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).expect("2025");
        moment.format(&format).expect("a fixed format")
    };
    let fraction = ms.rem_euclid(1000);
    match random.below(6) {
        0 => (format!("{}Z", local(ms)), ms - fraction),
        1 => (format!("{}.{fraction:03}Z", local(ms)).to_lowercase(), ms),
        2 => (format!("{}.{fraction:03}{:06}+00:00", local(ms), random.below(1_000_000)), ms),
        3 => {
            let sign = if offset_minutes < 0 { '-' } else { '+' };
            let (hours, minutes) = (offset_minutes.abs() / 60, offset_minutes.abs() % 60);
            let local = local(ms + offset_minutes * 60_000);
            (format!("{local}.{fraction:03}{sign}{hours:02}:{minutes:02}"), ms)
        }
        _ => (format!("{}.{fraction:03}Z", local(ms)), ms),
    }
}

/// 1 to `chars_max` characters, mostly few.
fn words(random: &mut Random, style: &Style, chars_max: usize) -> String {
    let length = match random.below(10) {
        0 => chars_max,
        1 => 1 + random.below(chars_max),
        _ => 1 + random.below(24),
    };
    let plain = ["a", "Z", "0", "_", "-", ".", "{", "}", ":", ",", "[", "]", " ", "/"];
    let other = ["é", "ß", "Ж", "中", "€", "😀", "\u{7f}", "\u{ffff}"];
    let special = ["\"", "\\", "\n", "\t", "\0", "\u{1f}", "😀", "é"];
    let character = |random: &mut Random| match random.below(8) {
        0 | 1 if style.non_ascii => random.pick(&other),
        2 if style.escapes => random.pick(&special),
        _ => random.pick(&plain),
    };
    (0..length).map(|_| character(random)).collect()
}

/// `text` as a JSON string, with escapes where there must be some and where there may be.
fn quote(random: &mut Random, style: &Style, text: &str) -> String {
    let mut out = String::from("\"");
    let more = style.escapes && random.one_in(4);
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '/' if more => out.push_str("\\/"),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ if more && random.one_in(4) => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04X}"));
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

fn object(random: &mut Random, style: &Style, depth: usize) -> String {
    let count = random.below(7);
    let members: Vec<String> = (0..count)
        .map(|_| {
            let name = words(random, style, 12);
            let name = quote(random, style, &name);
            let value = value(random, style, depth + 1);
            format!("{name}{}:{}{value}", style.before_separator, style.after_separator)
        })
        .collect();
    list('{', &members, '}', style)
}

fn value(random: &mut Random, style: &Style, depth: usize) -> String {
    match random.below(if depth < 4 { 10 } else { 7 }) {
        0 => random.pick(&["true", "false", "null"]).to_owned(),
        1 => random.below(100_000).to_string(),
        2 => {
            let numbers = [
                "0",
                "-0",
                "0.5",
                "-1.25",
                "1e5",
                "3E-7",
                "12345678901234567890",
                "1.0e+10",
                "99.99",
            ];
            random.pick(&numbers).to_owned()
        }
        7 => object(random, style, depth),
        8 => {
            let count = random.below(5);
            let parts: Vec<String> = (0..count).map(|_| value(random, style, depth + 1)).collect();
            list('[', &parts, ']', style)
        }
        _ => {
            let text = words(random, style, 40);
            quote(random, style, &text)
        }
    }
}

/// Flips, inserts, removes or repeats a few bytes of `body`.
pub fn damage(seed: u64, body: &mut Vec<u8>) {
    let mut random = Random(seed);
    let favourites = b"\"\\{}[]:,0-.eEtfnu \n\x00\x1f\x7f\x80\xc3\xed\xf4\xff1a/dD8";
    for _ in 0..1 + random.below(3) {
        let at = random.below(body.len().max(1)).min(body.len().saturating_sub(1));
        let byte = match random.below(3) {
            0 => random.next() as u8,
            _ => favourites[random.below(favourites.len())],
        };
        match random.below(6) {
            _ if body.is_empty() => body.push(byte),
            0 => body[at] ^= 1 << random.below(8),
            1 => body[at] = byte,
            2 => body.insert(at, byte),
            3 => drop(body.remove(at)),
            4 => drop(body.drain(at..body.len().min(at + 1 + random.below(40)))),
            _ => {
                let end = body.len().min(at + 1 + random.below(40));
                let piece = body[at..end].to_vec();
                body.splice(at..at, piece);
            }
        }
    }
}
