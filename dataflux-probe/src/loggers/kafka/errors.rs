//! What an error of librdkafka means for a payload: nearly everything can heal.

use anyhow::anyhow;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What is to be done about a payload that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Whatever it was, somebody may mend it.
    Retry,
    /// It, or the batch it was in, was too large.
    TooLarge,
}

pub(super) fn verdict(error: &KafkaError) -> Verdict {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => Verdict::TooLarge,
        _ => Verdict::Retry,
    }
}

/// The error for people.
pub(super) fn explain(error: &KafkaError, topic: &str) -> anyhow::Error {
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            anyhow!("topic {topic} does not exist")
        }
        Some(Code::TopicAuthorizationFailed) => {
            anyhow!("not authorized to write to topic {topic}")
        }
        Some(Code::ClusterAuthorizationFailed) => {
            anyhow!(
                "not authorized by the cluster (idempotence needs IdempotentWrite before Kafka 2.8)"
            )
        }
        Some(Code::PurgeQueue | Code::PurgeInflight) => {
            anyhow!("taken back before the brokers answered")
        }
        Some(code) => anyhow!("topic {topic}: {code}"),
        None => anyhow!("topic {topic}: {error}"),
    }
}

/// Whether a producer-wide error is about who the probe is.
pub(super) fn is_authentication(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)
    )
}

/// Whether the producer can do no more.
pub(super) fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fatal | Code::Fenced | Code::Inconsistent | Code::GaplessGuarantee)
    )
}
