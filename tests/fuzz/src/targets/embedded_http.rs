//! Any bytes as a request to the embedded ClickHouse: head, parameters, statement, coded body.
//!
//! hyper, which cuts requests out of a connection, is not fuzzed: httparse stands in for it. Laws: only a
//! request for a loopback Host, without Origin and with the password, given in one way, becomes a
//! query; values are decoded once, and how they were written does not matter; what follows an
//! INSERT's FORMAT or VALUES never changes its statement; tokens lie in order inside their text; a body
//! decodes alike however it arrives, what was encoded comes back, and a damaged block is refused.

use std::io::{Cursor, Read};

use embedded::block_codec::compress_lz4;
use embedded::body::{ContentCoding, decoded, read_error, read_prefix};
use embedded::doors::Credentials;
use embedded::exception::Exception;
use embedded::framing::framing;
use embedded::judge::{Judged, judge};
use embedded::lexer::Lexer;
use embedded::statement::{Statement, split};
use embedded::url_params;
use hyper::http::request::Parts;
use hyper::{Method, Request};
use proto::random::SplitMix64;

use crate::Target;
use crate::draw::{below, draw};

pub const TARGET: Target = Target {
    name: "embedded",
    run: target,
    dictionary: &[
        b"GET / HTTP/1.1\r\n",
        b"POST /?query=SELECT+1 HTTP/1.1\r\n",
        b"/ping",
        b"Host: localhost:8123\r\n",
        b"Host: 127.0.0.1\r\n",
        b"Host: evil.example\r\n",
        b"Origin: null\r\n",
        b"X-ClickHouse-User: default\r\n",
        b"X-ClickHouse-Key: secret\r\n",
        b"Authorization: Basic ZGVmYXVsdDpzZWNyZXQ=\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: zstd\r\n",
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"\r\n\r\n",
        b"user=default&password=secret",
        b"query=",
        b"param_a=",
        b"decompress=1",
        b"compress=1",
        b"database=d",
        b"session_id=1",
        b"max_threads=1",
        b"%20",
        b"%25",
        b"%ff",
        b"%",
        b"+",
        b"&",
        b"=",
        b"INSERT INTO t ",
        b"INSERT INTO TABLE a.b (c) ",
        b" FORMAT TSV\n",
        b" VALUES (1)",
        b" SELECT 1",
        b"INTO FUNCTION file(",
        b" SETTINGS a = 1",
        b";",
        b"--",
        b"/*",
        b"*/",
        b"'",
        b"\"",
        b"`",
        b"\\",
        b"$a$",
        b"(",
        b")",
        b"\x1f\x8b\x08\x00",
        b"\x28\xb5\x2f\xfd",
        b"\x82\x19\x00\x00\x00\x10\x00\x00\x00",
        b"Code: 60. DB::Exception: no. (UNKNOWN_TABLE)",
    ],
    input_bytes_max: 2_000,
    test_cases: 20_000,
};

const USER: &str = "default";
const PASSWORD: &str = "secret";
/// More than any input decodes to, unless it is made to explode.
const DECODED_BYTES_MAX: usize = 64 * 1024;

pub fn target(bytes: &[u8]) {
    let mut random = draw(bytes);
    let Some((parts, body)) = request(bytes) else {
        return statement_is_cut(bytes);
    };
    let credentials = |password: &str| Credentials { user: USER.into(), password: password.into() };
    let judged = judge(&parts, &credentials(PASSWORD));
    let mut coding = ContentCoding::Identity;
    let mut native_blocks = false;
    if let Ok(judged) = &judged {
        at_the_door(&parts);
        if let Judged::Query(query) = judged {
            assert!(judge(&parts, &credentials("another")).is_err(), "with any password");
            assert!(parts.uri.path() == "/");
            assert_eq!(query.params.request.read_only, parts.method == Method::GET);
            assert!(parts.method == Method::GET || parts.method == Method::POST);
            (coding, native_blocks) = (query.coding, query.params.request.native_blocks_in);
            if let Some(text) = &query.params.request.query {
                statement_is_cut(text);
                statement_is_cut(&[text, &b"\n"[..], body].concat());
            }
        }
    }
    as_a_page(parts.clone(), &credentials(PASSWORD));
    url_is_decoded_once(parts.uri.query().unwrap_or_default());
    statement_is_cut(body);
    body_arrives(body, coding, native_blocks, &mut random);
    body_comes_back(body, coding, &mut random);
    answers_are_cut(body);
}

fn request(bytes: &[u8]) -> Option<(Parts, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse(bytes) else { return None };
    let mut request = Request::builder().method(head.method?).uri(head.path?);
    for header in head.headers.iter() {
        request = request.header(header.name, header.value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    Some((parts, &bytes[head_bytes..]))
}

/// Whoever is answered at all has named this machine, once, and is no web page.
fn at_the_door(parts: &Parts) {
    assert!(!parts.headers.contains_key("origin"));
    let hosts: Vec<_> = parts.headers.get_all("host").iter().collect();
    let [host] = hosts[..] else { panic!("{} hosts", hosts.len()) };
    let host = host.to_str().expect("ASCII").to_ascii_lowercase();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<std::net::IpAddr>();
    assert!(name == "localhost" || address.is_ok_and(|address| address.is_loopback()), "{host}");
}

fn as_a_page(mut parts: Parts, credentials: &Credentials) {
    parts.headers.insert("origin", "https://evil.example".parse().expect("a header's value"));
    assert!(judge(&parts, credentials).is_err(), "a web page is served");
}

/// With every byte of every name and value as `%XX` the URL says the same.
fn url_is_decoded_once(query: &str) {
    let Ok(params) = url_params::parse(query) else { return };
    let names_of_the_protocol = ["query", "database", "user", "password", "query_id", "decompress"];
    for (name, _) in &params.request.settings {
        assert!(!names_of_the_protocol.contains(&name.as_str()), "{name} as a setting");
        assert!(!name.starts_with("param_"), "{name} as a setting");
    }
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let read_plainly: Vec<(Vec<u8>, Vec<u8>)> = pairs()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (plain(name), plain(value)))
        .collect();
    let bound = read_plainly.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(b"param_")?;
        Some((String::from_utf8(name.to_vec()).expect("names are UTF-8"), value.clone()))
    });
    assert_eq!(params.request.params, bound.collect::<Vec<_>>());
    let written_otherwise: Vec<String> = read_plainly
        .iter()
        .map(|(name, value)| format!("{}={}", all_escaped(name), all_escaped(value)))
        .collect();
    let again = url_params::parse(&written_otherwise.join("&"));
    assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, Exception>(params)));
}

/// Of a text that was decoded already, so that each `%` has its digits.
fn plain(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                rest = &after[2..];
                let digits = std::str::from_utf8(&after[..2]).expect("two digits were there");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            byte => *byte,
        });
    }
    out
}

fn all_escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn statement_is_cut(text: &[u8]) {
    let mut before = 0;
    for token in Lexer::new(text) {
        assert!(before <= token.start && token.start < token.end && token.end <= text.len());
        before = token.end;
    }
    let Statement::InsertRows { head_end, format, data_start } = split(text) else { return };
    assert!(head_end <= data_start && data_start <= text.len());
    assert_eq!(format.is_none(), head_end == text.len() && data_start == text.len());
    // The first byte of the rows may belong to what ends the format's name.
    if data_start < text.len() {
        let rows = b"\n\nDROP TABLE t\n;SELECT 1 FORMAT JSON\n";
        let others = [&text[..data_start + 1], rows].concat();
        let expected = Statement::InsertRows { head_end, format, data_start };
        assert_eq!(split(&others), expected, "with other rows");
    }
}

/// Gives a few bytes at a time.
struct Trickle {
    bytes: Cursor<Vec<u8>>,
    random: SplitMix64,
}

impl Read for Trickle {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = target.len().min(1 + below(&mut self.random, 7));
        self.bytes.read(&mut target[..count])
    }
}

/// The plain bytes and whether these are all, or the exception's number: which of a decoder's reasons
/// its text names may depend on how the bytes came.
fn read(
    body: impl Read + Send + 'static,
    coding: ContentCoding,
    native_blocks: bool,
) -> Result<(Vec<u8>, bool), u32> {
    let mut body = decoded(body, coding, native_blocks).map_err(|error| read_error(error).code)?;
    read_prefix(&mut body, DECODED_BYTES_MAX).map_err(|exception| exception.code)
}

fn body_arrives(body: &[u8], coding: ContentCoding, native: bool, random: &mut SplitMix64) {
    let codings = [ContentCoding::Gzip, ContentCoding::Deflate, ContentCoding::Zstd];
    let other = codings[below(random, codings.len())];
    for (coding, native) in [(coding, native), (ContentCoding::Identity, true), (other, false)] {
        let whole = read(Cursor::new(body.to_vec()), coding, native);
        let trickle = Trickle { bytes: Cursor::new(body.to_vec()), random: random.clone() };
        assert_eq!(read(trickle, coding, native), whole, "{coding:?}, blocks: {native}");
        if coding == ContentCoding::Identity && !native {
            assert_eq!(whole, Ok((body.to_vec(), true)));
        }
    }
}

fn body_comes_back(plain: &[u8], coding: ContentCoding, random: &mut SplitMix64) {
    let cut = below(random, plain.len() + 1);
    let mut blocks = compress_lz4(&plain[..cut]);
    blocks.extend(compress_lz4(&plain[cut..]));
    let coded = match coding {
        ContentCoding::Gzip => {
            let level = flate2::Compression::fast();
            let mut coded = Vec::new();
            let mut encoder = flate2::read::GzEncoder::new(&blocks[..], level);
            encoder.read_to_end(&mut coded).expect("memory is read without errors");
            coded
        }
        _ => blocks.clone(),
    };
    let coding = if coding == ContentCoding::Gzip { coding } else { ContentCoding::Identity };
    assert_eq!(read(Cursor::new(coded), coding, true), Ok((plain.to_vec(), true)));
    let bit = below(random, blocks.len() * 8);
    let mut flipped = blocks.clone();
    flipped[bit / 8] ^= 1 << (bit % 8);
    let damaged = read(Cursor::new(flipped), ContentCoding::Identity, true);
    assert!(damaged.is_err(), "flipped bit {bit}");
    // Only between two blocks may a body end.
    let end = below(random, blocks.len());
    let first_bytes = compress_lz4(&plain[..cut]).len();
    let ended = read(Cursor::new(blocks[..end].to_vec()), ContentCoding::Identity, true);
    assert_eq!(ended.is_ok(), end == 0 || end == first_bytes, "cut at {end}");
}

/// What the engine answers is parsed, too.
fn answers_are_cut(piece: &[u8]) {
    for format in ["RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "TSVWithNames"]
    {
        assert!(framing(format, b"", &[]).header_bytes(piece) <= piece.len(), "{format}");
    }
    let exception = Exception::from_engine(String::from_utf8_lossy(piece).into_owned());
    let status = exception.status().as_u16();
    assert!((400..600).contains(&status), "{status}");
}
