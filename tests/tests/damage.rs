//! Acknowledged data that rots on the disk: found at the next start, told of everywhere, the rest
//! forwarded.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

use tests::process::binary;
use tests::wait::{seconds, wait_equal};
use tests::{Batch, Stack, StackOptions};

/// The first frame lies behind the segment's header page.
const FIRST_FRAME: u64 = 4096;

#[test]
fn a_flipped_bit_in_an_acknowledged_block_is_told_of_and_the_rest_is_forwarded() {
    let mut stack = Stack::start(StackOptions::default());
    stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
    for _ in 0..3 {
        stack.post_ok(&Batch::of(100, "rot", 10));
    }
    stack.engine().kill_9();

    let shard = stack.journal_dir().join("shard-00");
    let mut segments: Vec<_> = std::fs::read_dir(&shard)
        .expect("the shard's folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    segments.sort();
    let file = OpenOptions::new().read(true).write(true).open(&segments[0]).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, FIRST_FRAME + 200).expect("a frame");
    file.write_all_at(&[byte[0] ^ 1], FIRST_FRAME + 200).expect("a frame");

    let verified = Command::new(binary("unmogrowp-engine"))
        .args(["journal", "verify"])
        .arg(stack.journal_dir())
        .output()
        .expect("unmogrowp-engine starts");
    assert!(!verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));

    stack.restart_clickhouse();
    stack.start_engine();
    let ready = stack.admin_get("/readyz");
    assert_eq!(ready.status, 200, "what is left is served: {}", ready.text());
    assert!(ready.text().contains("\"recovery\""), "{}", ready.text());
    assert_eq!(stack.metric("unmogrowp_journal_damaged_blocks"), Some(1.0));
    wait_equal("the whole blocks are forwarded", seconds(30), 200, || stack.count("rot"));
}
