//! Sorts what Kafka and librdkafka say of a record by what follows from it. Pure.

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

/// librdkafka has tried again by itself where that could help, so that everything here is final for
/// this attempt.
pub fn sort(code: Code) -> SendFailure {
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

/// Whether it says something about Kafka's state: what we took back ourselves, and what is wrong with
/// the one record, does not.
pub fn counts_against_kafka(code: Code) -> bool {
    !matches!(code, Code::PurgeQueue | Code::PurgeInflight) && sort(code) != SendFailure::Reject
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_what_follows_from_it() {
        let check = |code: Code, failure: SendFailure, counts: bool| {
            assert_eq!(sort(code), failure, "{code:?}");
            assert_eq!(counts_against_kafka(code), counts, "{code:?}");
        };
        check(Code::MessageSizeTooLarge, SendFailure::Reject, false);
        check(Code::InvalidRecord, SendFailure::Reject, false);
        check(Code::MessageTimedOut, SendFailure::Unknown, true);
        check(Code::NotEnoughReplicasAfterAppend, SendFailure::Unknown, true);
        check(Code::NotEnoughReplicas, SendFailure::Retry, true);
        check(Code::NotLeaderForPartition, SendFailure::Retry, true);
        check(Code::OutOfOrderSequenceNumber, SendFailure::Retry, true);
        check(Code::UnknownProducerId, SendFailure::Retry, true);
        check(Code::KafkaStorageError, SendFailure::Retry, true);
        check(Code::PurgeQueue, SendFailure::Retry, false);
        check(Code::PurgeInflight, SendFailure::Unknown, false);
        check(Code::Fatal, SendFailure::Fatal, true);
        check(Code::TopicAuthorizationFailed, SendFailure::Config, true);
        check(Code::UnknownTopicOrPartition, SendFailure::Config, true);
        check(Code::UnknownTopic, SendFailure::Config, true);
    }

    #[test]
    fn every_kind_has_its_own_place_and_name() {
        for (index, kind) in SendFailure::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }
}
