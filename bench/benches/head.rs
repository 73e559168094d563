//! Request heads: ours with all that it decides (framing, host, content type, key, path) against
//! httparse's split into names and values, which leaves that work to its caller.
//!
//! `cargo bench -p bench --bench head`; compare only figures of one run.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::http::scan::Kernel;
use engine::http::{HeadLimits, HeadParser, HeadStatus};
use std::hint::black_box;

/// What an SDK's HTTP client sends.
const SDK_POST: &[u8] = b"POST /api/v1/events HTTP/1.1\r\n\
Host: events.example.com\r\n\
User-Agent: unmogrowp-sdk-android/2.4.1 (Android 14; Pixel 8)\r\n\
Accept: application/json\r\n\
Accept-Encoding: gzip, deflate\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 27481\r\n\
X-API-Key: ug_live_5f2b8c1d9e7a4f3b8c6d1e2f3a4b5c6d\r\n\
X-Request-Id: 0196f7a2-4c1e-7b3a-9d52-8f1c6a7be013\r\n\
Connection: keep-alive\r\n\
\r\n";

/// What a load generator sends.
const SHORT_POST: &[u8] = b"POST /api/v1/events HTTP/1.1\r\n\
Host: 127.0.0.1:8080\r\n\
X-API-Key: ug_live_5f2b8c1d9e7a4f3b8c6d1e2f3a4b5c6d\r\n\
Content-Length: 330\r\n\
\r\n";

/// What a page in a browser sends, from another origin.
const BROWSER_POST: &[u8] = b"POST /api/v1/events?partial=1 HTTP/1.1\r\n\
Host: events.example.com\r\n\
Connection: keep-alive\r\n\
Content-Length: 1843\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
sec-ch-ua: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"\r\n\
Content-Type: application/json\r\n\
X-API-Key: ug_live_5f2b8c1d9e7a4f3b8c6d1e2f3a4b5c6d\r\n\
sec-ch-ua-mobile: ?0\r\n\
Accept: */*\r\n\
Origin: https://shop.example.com\r\n\
Sec-Fetch-Site: same-site\r\n\
Sec-Fetch-Mode: cors\r\n\
Sec-Fetch-Dest: empty\r\n\
Referer: https://shop.example.com/\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9\r\n\
\r\n";

fn parse_ours(parser: &mut HeadParser, limits: &HeadLimits, input: &[u8]) -> u32 {
    parser.reset();
    match parser.parse(input, limits) {
        Ok(HeadStatus::Complete(head)) => black_box(&head).head_bytes,
        other => panic!("{other:?}"),
    }
}

fn parse_httparse<const HEADERS: usize>(input: &[u8]) -> usize {
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(head_bytes)) => {
            black_box(&request);
            head_bytes
        }
        other => panic!("{other:?}"),
    }
}

fn heads(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut with_body = SDK_POST.to_vec();
    with_body.resize(SDK_POST.len() + 27_481, b'x');
    let inputs: [(&str, &[u8]); 4] = [
        ("sdk_post_9_headers", SDK_POST),
        ("sdk_post_with_body", &with_body),
        ("short_post_3_headers", SHORT_POST),
        ("browser_post_17_headers", BROWSER_POST),
    ];
    for (name, input) in inputs {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        for kernel in Kernel::available() {
            let mut parser = HeadParser::new(kernel);
            group.bench_function(BenchmarkId::new("ours", kernel.name()), |bencher| {
                bencher.iter(|| parse_ours(&mut parser, &limits, black_box(input)));
            });
        }
        group.bench_function("httparse/16", |bencher| {
            // Too few for the browser's head.
            let room = if name.starts_with("browser") {
                parse_httparse::<24>
            } else {
                parse_httparse::<16>
            };
            bencher.iter(|| room(black_box(input)));
        });
        group.bench_function("httparse/32", |bencher| {
            bencher.iter(|| parse_httparse::<32>(black_box(input)));
        });
        group.finish();
    }
}

criterion_group!(benches, heads);
criterion_main!(benches);
