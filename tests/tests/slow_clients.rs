//! Slow and silent clients are given up in time and disturb nobody else.

use std::time::Instant;

use tests::wait::seconds;
use tests::{Batch, Client, Driver, Stack, StackOptions};

fn options(driver: Driver) -> StackOptions {
    StackOptions::engine_alone()
        .driver(driver)
        .set("limits.head_timeout_ms=500")
        .set("limits.body_timeout_ms=1000")
        .set("limits.idle_timeout_s=1")
}

fn head(stack: &Stack) -> String {
    format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Length: 1000\r\n\r\n",
        stack.api_key
    )
}

fn check_408(stack: &Stack, sent: &str, what: &str) {
    let began = Instant::now();
    let mut client = stack.client();
    client.send(sent.as_bytes());
    let answer = client.receive();
    assert_eq!((answer.status, answer.code().as_str()), (408, "REQUEST_TIMEOUT"), "{what}");
    client.finish_sending();
    assert!(client.closes(), "{what}");
    assert!(began.elapsed() < seconds(8), "{what}: {:?}", began.elapsed());
}

fn slow_clients(driver: Driver) {
    let stack = Stack::start(options(driver));
    let silent: Vec<Client> = (0..200).map(|_| stack.client()).collect();
    let mut stuck: Vec<Client> = (0..50).map(|_| stack.client()).collect();
    for client in &mut stuck {
        client.send(b"POST /api/v1/events HTTP/1.1\r\nHo");
    }
    for _ in 0..20 {
        stack.post_ok(&Batch::of(10, "n", 10));
    }
    check_408(&stack, "POST /api/v1/events HTTP/1.1\r\nHost: a\r\n", "half a head");
    check_408(&stack, &format!("{}{{", head(&stack)), "half a body");
    for mut client in silent.into_iter().take(5) {
        assert!(client.closes(), "an idle connection is closed without an answer");
    }
    for client in stuck.iter_mut().take(5) {
        assert_eq!(client.receive().status, 408);
    }
    stack.post_ok(&Batch::of(10, "n", 10));
}

#[test]
fn slow_clients_are_given_up_with_epoll() {
    slow_clients(Driver::Epoll);
}

#[test]
fn slow_clients_are_given_up_with_uring() {
    slow_clients(Driver::Uring);
}

#[test]
fn slow_clients_are_given_up_with_glommio() {
    slow_clients(Driver::Glommio);
}

/// A client that sends and never reads: its answers fill its socket, and only its own.
#[test]
fn a_client_that_does_not_read_stops_only_itself() {
    let stack = Stack::start(StackOptions::engine_alone().set("limits.body_timeout_ms=2000"));
    let request = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    let mut deaf = stack.client();
    // About 30 MB of requests; the kernel's buffers and the pipeline limit take far less.
    let sender = std::thread::spawn(move || {
        for _ in 0..1_500 {
            if deaf.try_send(request.as_bytes()).is_err() {
                break;
            }
        }
    });
    for _ in 0..50 {
        stack.post_ok(&Batch::of(10, "n", 10));
    }
    drop(stack);
    sender.join().expect("the sender does not panic");
}
