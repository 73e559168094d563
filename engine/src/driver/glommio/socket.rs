//! One client's socket: glommio's stream, what is being sent, and the task to wake. Knows no shard.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use super::super::system;
use super::Stream;

pub const RECEIVE_BYTES: usize = 256 * 1024;

pub struct Socket {
    stream: Stream,
    pub generation: u32,
    /// Of the task that serves it; of nobody until that has first run.
    task: Waker,
    /// Whether to read.
    pub is_wanted: bool,
    /// Output under way and how much of it has left.
    sending: Option<(Vec<u8>, usize)>,
}

pub enum Received {
    /// Nothing is there, or nothing is wanted.
    Nothing,
    /// So many are at the start of the buffer.
    Bytes(usize),
    /// The peer's FIN.
    End,
    Lost,
}

pub enum Sent {
    All(Vec<u8>),
    /// Some; the task is woken when there is room for more.
    Some,
    Nothing,
    Lost,
}

impl Socket {
    pub fn new(stream: Stream, generation: u32) -> Socket {
        Socket { stream, generation, task: Waker::noop().clone(), is_wanted: true, sending: None }
    }

    pub fn serve_with(&mut self, task: &Waker) {
        if !self.task.will_wake(task) {
            self.task = task.clone();
        }
    }

    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    pub fn want(&mut self, is_wanted: bool) {
        if is_wanted && !self.is_wanted {
            self.task.wake_by_ref();
        }
        self.is_wanted = is_wanted;
    }

    pub fn receive(&mut self, buffer: &mut [u8], context: &mut Context<'_>) -> Received {
        if !self.is_wanted {
            return Received::Nothing;
        }
        let received = match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => return Received::Nothing,
            Poll::Ready(Ok(0)) => Received::End,
            Poll::Ready(Ok(count)) => return Received::Bytes(count),
            Poll::Ready(Err(error)) if is_passing(&error) => {
                context.waker().wake_by_ref();
                return Received::Nothing;
            }
            Poll::Ready(Err(_)) => Received::Lost,
        };
        self.is_wanted = false;
        received
    }

    /// Nothing may be under way.
    pub fn begin_send(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.sending.is_none(), "one buffer after the other");
        self.sending = Some((buffer, 0));
    }

    pub fn send(&mut self) -> Sent {
        let Some((buffer, mut sent)) = self.sending.take() else { return Sent::Nothing };
        let sent_before = sent;
        let mut context = Context::from_waker(&self.task);
        while sent < buffer.len() {
            match Pin::new(&mut self.stream).poll_write(&mut context, &buffer[sent..]) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) if is_passing(&error) => {}
                Poll::Ready(Err(_)) => return Sent::Lost,
                Poll::Pending => {
                    self.sending = Some((buffer, sent));
                    return if sent > sent_before { Sent::Some } else { Sent::Nothing };
                }
            }
        }
        Sent::All(buffer)
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Drop for Socket {
    /// Closing alone would not end the connection: a poll that the kernel still holds keeps the socket
    /// open, and glommio cancels it only on its next way around.
    fn drop(&mut self) {
        system::shut_down_both(self.stream.as_raw_fd());
        self.task.wake_by_ref();
    }
}

fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}
