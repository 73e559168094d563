//! The proxy in front of an echo server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Fault, Proxy};
use crate::servers::ReservedPort;
use crate::wait::{seconds, wait_for};

/// Sends back what it gets, on every connection, until the test's process ends.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a second handle");
                let _ = std::io::copy(&mut reader, &mut &stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
    stream.set_read_timeout(Some(seconds(10))).expect("a time-out can be set");
    stream
}

/// Sends `bytes` and reads as many back; how long it took.
fn echo(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Duration> {
    let began = Instant::now();
    let mut writer = stream.try_clone()?;
    let sent = bytes.to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer)?;
    writing.join().expect("the writer does not panic")?;
    assert_eq!(answer, bytes);
    Ok(began.elapsed())
}

fn silent_for(stream: &mut TcpStream, time: Duration) {
    stream.set_read_timeout(Some(time)).expect("a time-out can be set");
    let error = stream.read(&mut [0; 1]).expect_err("nothing arrives");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(seconds(10))).expect("a time-out can be set");
}

#[test]
fn without_a_fault_bytes_arrive_in_order() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number / 7) as u8).collect();
    echo(&mut stream, &bytes).expect("all of it comes back");
    assert_eq!(proxy.accepted(), 1);
    stream.shutdown(std::net::Shutdown::Write).expect("the sending side can be closed");
    assert_eq!(stream.read(&mut [0; 1]).expect("the end is passed on"), 0);
    // Counted once it is written, which the end comes after.
    assert_eq!(proxy.carried_bytes(), 2 * bytes.len() as u64);
}

#[test]
fn a_delay_is_added_both_ways_and_does_not_narrow() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let took = echo(&mut stream, &[7; 1_000_000]).expect("all of it comes back");
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < seconds(3), "61 pieces one after the other would take 12 s: {took:?}");
}

#[test]
fn a_throttled_connection_is_narrow() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    proxy.set(Fault::Throttle { bytes_per_s: 100_000 });
    let took = echo(&mut stream, &[7; 50_000]).expect("all of it comes back");
    assert!(took >= Duration::from_millis(450), "{took:?}");
}

#[test]
fn a_stall_holds_everything_and_loses_nothing() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    proxy.set(Fault::Stall);
    stream.write_all(b"held").expect("the proxy takes it");
    silent_for(&mut stream, Duration::from_millis(200));
    proxy.set(Fault::None);
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it goes on");
    assert_eq!(&answer, b"held");
}

#[test]
fn a_half_open_connection_swallows_and_never_carries_again() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    let mut silent = connect(&proxy);
    echo(&mut stream, b"before").expect("no fault yet");
    echo(&mut silent, b"before").expect("no fault yet");
    proxy.set(Fault::HalfOpen);
    stream.write_all(b"swallowed").expect("it looks open");
    silent_for(&mut stream, Duration::from_millis(200));
    proxy.set(Fault::None);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "what lost bytes is cut");
    echo(&mut silent, b"after").expect("what lost nothing goes on");
    echo(&mut connect(&proxy), b"new").expect("new connections are served");
}

/// What arrives in the moment in which the fault ends is lost with its connection, or carried.
#[test]
fn no_connection_looks_open_and_carries_nothing_once_the_fault_is_over() {
    const CLIENTS: usize = 16;
    let proxy = Proxy::start(&echo_server());
    for _ in 0..10 {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let mut stream = connect(&proxy);
                let over = &over;
                scope.spawn(move || {
                    let mut writer = stream.try_clone().expect("a second handle");
                    while !over.load(Ordering::Acquire) && writer.write_all(b"on and on").is_ok() {}
                    let _ = writer.write_all(b".");
                    // All that was sent comes back, to the last byte, or the connection ends.
                    let mut answer = [0; 4096];
                    loop {
                        match stream.read(&mut answer) {
                            Ok(0) => break,
                            Ok(count) if answer[count - 1] == b'.' => break,
                            Ok(_) => {}
                            Err(error) => {
                                let kind = error.kind();
                                assert_ne!(kind, std::io::ErrorKind::WouldBlock, "it looks open");
                                break;
                            }
                        }
                    }
                });
            }
            proxy.set(Fault::HalfOpen);
            proxy.set(Fault::None);
            over.store(true, Ordering::Release);
        });
        proxy.cut();
    }
}

#[test]
fn cut_connections_end_and_new_ones_are_served() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    echo(&mut stream, b"before").expect("no fault yet");
    assert_eq!(proxy.cut(), 1);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    echo(&mut connect(&proxy), b"new").expect("new connections are served");
}

#[test]
fn refused_connections_are_refused_by_the_system() {
    let proxy = Proxy::start(&echo_server());
    let mut stream = connect(&proxy);
    echo(&mut stream, b"before").expect("no fault yet");
    proxy.set(Fault::Refuse);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    let error = TcpStream::connect(proxy.address()).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.set(Fault::None);
    echo(&mut connect(&proxy), b"again").expect("it listens again");
}

#[test]
fn a_server_that_is_away_ends_the_connection() {
    let away = ReservedPort::take();
    let proxy = Proxy::start(&away.address().to_string());
    let mut stream = connect(&proxy);
    wait_for("the end of the connection", seconds(10), || {
        matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)).then_some(())
    });
}

/// A process that is being started holds copies of every open socket for a moment, listening ones too.
#[test]
fn starting_processes_take_no_port_away() {
    std::thread::scope(|scope| {
        let proxies = scope.spawn(|| {
            for _ in 0..200 {
                let proxy = Proxy::start("127.0.0.1:1");
                proxy.set(Fault::Refuse);
                TcpStream::connect(proxy.address()).expect_err("nobody listens");
                proxy.set(Fault::None);
                TcpStream::connect(proxy.address()).expect("it listens again");
            }
        });
        while !proxies.is_finished() {
            std::process::Command::new("true").status().expect("`true` is everywhere");
        }
    });
}
