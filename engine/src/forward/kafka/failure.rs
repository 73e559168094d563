//! What Kafka and librdkafka say of a record, sorted by what follows from it. Pure. Only the table
//! knows librdkafka's codes.

use rdkafka::error::RDKafkaErrorCode as Code;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// It is not in Kafka: send it again.
    Retry,
    /// Kafka will never take this record: it goes the direct way.
    Reject,
    /// It may be in Kafka or not. It is sent again; event ids make one of the two.
    Unknown,
    /// The producer is of no use any more: make another.
    Fatal,
    /// Somebody must do something first: create the topic, grant a right. It is sent again.
    Config,
}

impl SendFailure {
    pub const ALL: [SendFailure; 5] = [
        SendFailure::Retry,
        SendFailure::Reject,
        SendFailure::Unknown,
        SendFailure::Fatal,
        SendFailure::Config,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            SendFailure::Retry => "retry",
            SendFailure::Reject => "reject",
            SendFailure::Unknown => "unknown",
            SendFailure::Fatal => "fatal",
            SendFailure::Config => "config",
        }
    }
}

/// What a record's failure says about Kafka itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A broker looked at the record and refused it.
    Alive,
    /// What we took back ourselves, or librdkafka would not take.
    Nothing,
    Failing,
}

/// Why a record is not, or may not be, in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: SendFailure,
    pub sign: Sign,
    /// For people.
    pub text: String,
}

impl Failure {
    /// The one in a delivery report.
    pub fn reported(code: Code) -> Failure {
        Failure { kind: sort(code), sign: sign(code), text: code.to_string() }
    }

    /// Of a record that librdkafka does not take from us.
    pub fn before_sending(code: Code) -> Failure {
        Failure { kind: sort(code), sign: sign_before_sending(code), text: code.to_string() }
    }
}

/// librdkafka has tried again by itself where that could help, so that everything here is final for
/// this attempt.
fn sort(code: Code) -> SendFailure {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::BadMessage => SendFailure::Reject,
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::PurgeInflight
        | Code::NetworkException
        | Code::BrokerTransportFailure
        | Code::NotEnoughReplicasAfterAppend
        | Code::BrokerDestroy
        | Code::Unknown => SendFailure::Unknown,
        Code::Fatal | Code::Fenced | Code::ProducerFenced | Code::GaplessGuarantee => {
            SendFailure::Fatal
        }
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL
        | Code::SecurityDisabled
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedCompressionType
        | Code::InvalidRequiredAcks
        | Code::InvalidConfig
        | Code::PolicyViolation => SendFailure::Config,
        // What is not in any list above has a cause that passes, such as a leader that moved.
        _ => SendFailure::Retry,
    }
}

fn sign(code: Code) -> Sign {
    match sort(code) {
        // librdkafka's own word, not a broker's.
        SendFailure::Reject if code == Code::BadMessage => Sign::Nothing,
        SendFailure::Reject => Sign::Alive,
        _ if matches!(code, Code::PurgeQueue | Code::PurgeInflight) => Sign::Nothing,
        _ => Sign::Failing,
    }
}

fn sign_before_sending(code: Code) -> Sign {
    if sort(code) == SendFailure::Reject { Sign::Nothing } else { Sign::Failing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_what_follows_from_it() {
        let check = |code: Code, failure: SendFailure, says: Sign| {
            assert_eq!(sort(code), failure, "{code:?}");
            assert_eq!(sign(code), says, "{code:?}");
        };
        check(Code::MessageSizeTooLarge, SendFailure::Reject, Sign::Alive);
        check(Code::InvalidRecord, SendFailure::Reject, Sign::Alive);
        check(Code::BadMessage, SendFailure::Reject, Sign::Nothing);
        check(Code::MessageTimedOut, SendFailure::Unknown, Sign::Failing);
        check(Code::NotEnoughReplicasAfterAppend, SendFailure::Unknown, Sign::Failing);
        check(Code::NotEnoughReplicas, SendFailure::Retry, Sign::Failing);
        check(Code::NotLeaderForPartition, SendFailure::Retry, Sign::Failing);
        check(Code::OutOfOrderSequenceNumber, SendFailure::Retry, Sign::Failing);
        check(Code::UnknownProducerId, SendFailure::Retry, Sign::Failing);
        check(Code::KafkaStorageError, SendFailure::Retry, Sign::Failing);
        check(Code::PurgeQueue, SendFailure::Retry, Sign::Nothing);
        check(Code::PurgeInflight, SendFailure::Unknown, Sign::Nothing);
        check(Code::Fatal, SendFailure::Fatal, Sign::Failing);
        check(Code::TopicAuthorizationFailed, SendFailure::Config, Sign::Failing);
        check(Code::UnknownTopicOrPartition, SendFailure::Config, Sign::Failing);
        check(Code::UnknownTopic, SendFailure::Config, Sign::Failing);
    }

    #[test]
    fn what_was_never_sent_is_no_sign_of_life() {
        assert_eq!(sign_before_sending(Code::MessageSizeTooLarge), Sign::Nothing);
        assert_eq!(sign_before_sending(Code::UnknownTopic), Sign::Failing);
    }

    #[test]
    fn every_kind_has_its_own_place_and_name() {
        for (index, kind) in SendFailure::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }
}
