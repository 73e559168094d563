//! The network between clients and the engine: connections whose bytes come in pieces and late, get
//! reset, or lose their other end without a word.

use crate::client::Patience;
use crate::faults::Fault;
use crate::world::{Event, World};
use engine::connection::ConnectionId;
use engine::shard::Action;
use std::collections::VecDeque;

/// One TCP connection.
#[derive(Debug)]
pub struct Link {
    pub client: usize,
    pub shard: usize,
    pub id: ConnectionId,
    /// Batches asked for and not answered, in order.
    pub asked: VecDeque<usize>,
    /// Arrived while the shard was not reading.
    waiting: VecDeque<Vec<u8>>,
    reading: bool,
    /// Bytes on their way to the shard; later ones arrive later.
    pub arrives_us: u64,
    /// Under way to the client.
    sending: Option<Vec<u8>>,
    answers: AnswerReader,
    /// The client is gone without a word.
    pub abandoned: bool,
}

/// Splits the server's bytes into answers.
#[derive(Debug, Default)]
struct AnswerReader(Vec<u8>);

impl AnswerReader {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The status of the next whole answer.
    fn next(&mut self) -> Option<u16> {
        let head_end = self.0.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.0[..head_end]).expect("heads of answers are ASCII");
        let length = head.to_ascii_lowercase().split("content-length:").nth(1).map_or(0, |rest| {
            let digits = rest.split("\r\n").next().unwrap_or_default();
            digits.trim().parse::<usize>().expect("a length is a number")
        });
        if self.0.len() < head_end + length {
            return None;
        }
        let status = head[9..12].parse().expect("a status line has a status");
        self.0.drain(..head_end + length);
        Some(status)
    }
}

impl World {
    /// A client connects; `None` when it is refused or nobody listens.
    pub fn connect(&mut self, client: usize) -> Option<u64> {
        let shards = self.engine.as_ref()?.shards.len() as u64;
        let shard = self.random.below(shards) as usize;
        let engine = self.engine.as_mut()?;
        let id = engine.shards[shard].shard.on_accept()?;
        let link = self.next_link;
        self.next_link += 1;
        engine.shards[shard].links.insert(id, link);
        let arrives_us = self.now_us;
        let (asked, waiting) = (VecDeque::new(), VecDeque::new());
        let answers = AnswerReader::default();
        let (reading, sending, abandoned) = (true, None, false);
        let new = Link {
            client,
            shard,
            id,
            asked,
            waiting,
            reading,
            arrives_us,
            sending,
            answers,
            abandoned,
        };
        self.links.insert(link, new);
        self.note("connect", link, client as u64);
        self.pump(shard);
        Some(link)
    }

    /// Puts a request on its way in pieces.
    pub fn send(&mut self, link: u64, bytes: &[u8]) {
        let drips = self.strikes(Fault::Drip);
        let mut rest = bytes;
        while !rest.is_empty() {
            let longest = if drips { 1 + rest.len() / 40 } else { rest.len().min(64 * 1024) };
            let whole = self.random.below(3) == 0;
            let cut = if whole { longest } else { 1 + self.random.below(longest as u64) as usize };
            let (piece, behind) = rest.split_at(cut);
            rest = behind;
            let delay = if drips { self.between(100, 20_000) } else { self.between(5, 400) };
            let Some(open) = self.links.get_mut(&link) else { return };
            open.arrives_us = open.arrives_us.max(self.now_us) + delay;
            let at = open.arrives_us;
            self.at(at, Event::Bytes(link, piece.to_vec()));
        }
    }

    pub fn on_bytes(&mut self, link: u64, bytes: Vec<u8>) {
        let Some(open) = self.links.get_mut(&link) else { return };
        if open.abandoned {
            return;
        }
        open.waiting.push_back(bytes);
        while let Some(open) = self.links.get_mut(&link)
            && open.reading
            && let Some(bytes) = open.waiting.pop_front()
        {
            let (shard, id) = (open.shard, open.id);
            self.note("bytes", link, bytes.len() as u64);
            if self.strikes(Fault::Reset) {
                return self.reset(link);
            }
            self.shard(shard).on_bytes(id, &bytes);
            self.pump(shard);
        }
    }

    /// The client, or something between, cuts the connection.
    pub fn reset(&mut self, link: u64) {
        let Some(open) = self.links.get(&link) else { return };
        let (shard, id) = (open.shard, open.id);
        self.note("reset", link, 0);
        if let Some(engine) = &mut self.engine {
            engine.shards[shard].links.remove(&id);
            engine.shards[shard].shard.on_lost(id);
        }
        self.drop_link(link);
        self.pump(shard);
    }

    /// Its requests without an answer are open; the client goes on elsewhere.
    pub fn drop_link(&mut self, link: u64) {
        let Some(gone) = self.links.remove(&link) else { return };
        for batch in gone.asked {
            self.resolve(gone.client, batch, None);
        }
        self.client_lost(gone.client, link);
    }

    /// Carries out what the shard wants done with its connections.
    pub fn perform(&mut self, shard: usize) -> bool {
        let mut actions = Vec::new();
        self.shard(shard).take_actions(&mut actions);
        let any = !actions.is_empty();
        for action in actions {
            let (Action::Send(id)
            | Action::Read(id, _)
            | Action::HalfClose(id)
            | Action::Close(id)) = action;
            let seat =
                &mut self.engine.as_mut().expect("a shard acts only while it runs").shards[shard];
            let Some(&link) = seat.links.get(&id) else { continue };
            match action {
                Action::Send(_) => self.send_answers(shard, link),
                Action::Read(_, reading) => self.set_reading(link, reading),
                // The client answers our FIN with its own, in time.
                Action::HalfClose(_) => {
                    let at = self.now_us + self.between(50, 5_000);
                    self.at(at, Event::InputEnds(link));
                }
                Action::Close(_) => {
                    self.note("close", link, 0);
                    seat_links(self, shard).remove(&id);
                    self.drop_link(link);
                }
            }
        }
        any
    }

    fn set_reading(&mut self, link: u64, reading: bool) {
        let Some(open) = self.links.get_mut(&link) else { return };
        open.reading = reading;
        if reading {
            // No bytes, but those that wait may go on.
            self.at(self.now_us, Event::Bytes(link, Vec::new()));
        }
    }

    pub fn on_input_end(&mut self, link: u64) {
        let Some(open) = self.links.get(&link) else { return };
        let (shard, id) = (open.shard, open.id);
        if open.abandoned {
            return;
        }
        self.shard(shard).on_input_end(id);
        self.pump(shard);
    }

    /// What leaves the server counts, whether the client reads it or not.
    fn send_answers(&mut self, shard: usize, link: u64) {
        let id = self.links[&link].id;
        let Some(output) = self.shard(shard).take_output(id) else { return };
        let open = self.links.get_mut(&link).expect("looked at just above");
        open.answers.push(&output);
        open.sending = Some(output);
        let client = open.client;
        let abandoned = open.abandoned;
        while let Some(open) = self.links.get_mut(&link)
            && let Some(status) = open.answers.next()
        {
            let batch = open.asked.pop_front().expect("an answer follows a request");
            self.note("answer", batch as u64, u64::from(status));
            self.resolve(client, batch, Some(status));
        }
        let slow = self.strikes(Fault::SlowReader);
        let delay = if slow { self.between(100_000, 40_000_000) } else { self.between(5, 300) };
        if !abandoned {
            let at = self.now_us + delay;
            self.at(at, Event::Sent(link));
        }
    }

    pub fn on_sent(&mut self, link: u64) {
        let Some(open) = self.links.get_mut(&link) else { return };
        let Some(buffer) = open.sending.take() else { return };
        let (shard, id, client) = (open.shard, open.id, open.client);
        self.shard(shard).on_sent(id, buffer);
        self.wake_client(client, Patience::Answered);
        self.pump(shard);
    }
}

fn seat_links(
    world: &mut World,
    shard: usize,
) -> &mut std::collections::BTreeMap<ConnectionId, u64> {
    &mut world.engine.as_mut().expect("a shard acts only while it runs").shards[shard].links
}
