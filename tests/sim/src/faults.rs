//! Which faults a run has, and how often each strikes. Every run switches some off entirely and
//! weights the rest at random: a fault that is always there hides what only shows without it.

use proto::random::SplitMix64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The engine's process is killed.
    Crash,
    /// Its machine loses power: what is not synced may be lost.
    PowerLoss,
    /// A journal write fails with EIO, some of its pages written.
    WriteFails,
    /// A journal write writes less than it was given.
    ShortWrite,
    /// Syncs of files and directories fail for a while.
    SyncFails,
    /// ENOSPC for a while.
    DiskFull,
    /// Bits rot in what is durable and not yet forwarded.
    BitRot,
    /// Journal writes take long and end out of order.
    SlowDisk,
    /// A connection is reset.
    Reset,
    /// A client goes without a word.
    HalfOpen,
    /// A client does not read its answers for a while.
    SlowReader,
    /// A request arrives byte by byte.
    Drip,
    /// A batch that must be refused as a whole.
    InvalidBatch,
    /// A body of many blocks.
    LongBatch,
    /// The wall clock jumps.
    ClockJump,
    /// ClickHouse is away for a while.
    ClickhouseDown,
    /// An INSERT times out; it may have taken effect, and may do so later.
    InsertUnknown,
    /// ClickHouse refuses everything for a while: a missing table, a wrong password.
    RefusesAll,
    /// Too many parts for a while.
    TooManyParts,
    /// Rows that ClickHouse refuses.
    PoisonRow,
    /// The file of dead letters cannot be written for a while.
    DeadFileFails,
    /// No broker answers for a while.
    KafkaDown,
    /// A record takes long.
    KafkaSlow,
    /// A record is refused for now, as when its leader has moved.
    ProduceFails,
    /// A record arrives, and its producer is told that nobody knows.
    ProduceUnknown,
    /// A record arrives twice.
    ProduceTwice,
    /// Some records are longer than the topic allows.
    RecordTooLarge,
    /// The topic forgets what was consumed.
    Retention,
    /// The producer is of no use any more.
    ProducerFatal,
    /// A consumer is killed.
    ConsumerCrash,
    /// A live consumer is taken for dead.
    ConsumerFenced,
}

impl Fault {
    pub const ALL: [Fault; 31] = [
        Fault::Crash,
        Fault::PowerLoss,
        Fault::WriteFails,
        Fault::ShortWrite,
        Fault::SyncFails,
        Fault::DiskFull,
        Fault::BitRot,
        Fault::SlowDisk,
        Fault::Reset,
        Fault::HalfOpen,
        Fault::SlowReader,
        Fault::Drip,
        Fault::InvalidBatch,
        Fault::LongBatch,
        Fault::ClockJump,
        Fault::ClickhouseDown,
        Fault::InsertUnknown,
        Fault::RefusesAll,
        Fault::TooManyParts,
        Fault::PoisonRow,
        Fault::DeadFileFails,
        Fault::KafkaDown,
        Fault::KafkaSlow,
        Fault::ProduceFails,
        Fault::ProduceUnknown,
        Fault::ProduceTwice,
        Fault::RecordTooLarge,
        Fault::Retention,
        Fault::ProducerFatal,
        Fault::ConsumerCrash,
        Fault::ConsumerFenced,
    ];

    /// As `--without` takes it.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    pub fn parse(name: &str) -> Result<Fault, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = Fault::ALL.into_iter().map(Fault::name).collect();
            format!("unknown fault '{name}': one of {}", names.join(", "))
        })
    }
}

/// The chance of each fault at one opportunity; 0 for those that are off.
#[derive(Clone, Debug)]
pub struct Faults([f64; Fault::ALL.len()]);

impl Faults {
    pub fn draw(random: &mut SplitMix64, without: &[Fault]) -> Faults {
        let mut chances = [0.0; Fault::ALL.len()];
        for fault in Fault::ALL {
            // Both are drawn for every fault: leaving one out changes nothing for the others.
            let (on, weight) = (random.below(2) == 0, random.unit());
            if on && !without.contains(&fault) {
                // From one in a thousand to one in five, evenly on a logarithmic scale.
                chances[fault as usize] = 0.2 * 0.005_f64.powf(weight);
            }
        }
        Faults(chances)
    }

    pub fn none() -> Faults {
        Faults([0.0; Fault::ALL.len()])
    }

    pub fn is_on(&self, fault: Fault) -> bool {
        self.0[fault as usize] > 0.0
    }

    pub fn strikes(&self, fault: Fault, random: &mut SplitMix64) -> bool {
        let chance = self.0[fault as usize];
        chance > 0.0 && random.unit() < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_leaving_one_out_leaves_the_others() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(&fault.name()), Ok(fault));
        }
        assert!(Fault::parse("nonsense").is_err());
        let all = Faults::draw(&mut SplitMix64::new(3), &[]);
        let less = Faults::draw(&mut SplitMix64::new(3), &[Fault::Crash]);
        assert!(!less.is_on(Fault::Crash));
        assert_eq!(all.0[1..], less.0[1..]);
    }
}
