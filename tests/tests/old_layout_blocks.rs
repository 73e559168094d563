//! A block that an engine of the first release wrote, read by the consumer of today. The bytes are kept
//! as they were: whoever changes the row layout keeps reading these.

use proto::names::RECORD_HEADER_LAYOUT;
use tests::wait::{seconds, wait_equal};
use tests::{Path, Production};

/// One block of layout 1 with three rows, in hexadecimal.
const BLOCK: &str = include_str!("golden/block-layout-1.hex");

fn bytes() -> Vec<u8> {
    let digits: Vec<u8> = BLOCK.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("hexadecimal digits are ASCII");
        u8::from_str_radix(text, 16).expect("two hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

#[test]
fn a_block_of_the_first_release_is_read() {
    let production = Production::start(Path::default());
    let load = production.load("beside");
    production.wait_flowing(&load);
    let headers = [(RECORD_HEADER_LAYOUT, "1")];
    production.broker.produce("events", 1, &headers, &bytes());
    // The same record again, as a producer's retry may leave it: the same rows.
    production.broker.produce("events", 1, &headers, &bytes());
    production.assert_conserved(load);

    let rows = "SELECT event_id, toUnixTimestamp64Milli(timestamp), event_name, user_id, properties \
        FROM events FINAL WHERE app_id = '6f1c2f4e-0000-4000-8000-000000000001' \
        AND event_name != 'beside' ORDER BY event_id FORMAT JSONCompactEachRow \
        SETTINGS output_format_json_quote_64bit_integers = 0";
    let expected = concat!(
        r#"["5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a01", 1793620800123, "signed_up", "user-1", "{\"plan\":\"free\"}"]"#,
        "\n",
        "[\"5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a02\", 1793707200123, \"first \u{1F600} \\\"quoted\\\"\", \"user-2\", \"{}\"]",
        "\n",
        r#"["5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a03", 1793793600123, "signed_up", "user-1", "{\"nested\":{\"list\":[1,2.5,null,true]},\"text\":\"tab\\tß\"}"]"#,
        "\n",
    );
    wait_equal("the rows of the old block", seconds(20), expected.to_owned(), || {
        production.stack.clickhouse("", rows).text()
    });
    assert_eq!(production.consumers[0].metric("unmogrowp_consumer_dead_records_total"), Some(0.0));
}
