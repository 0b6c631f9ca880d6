//! `[output.NAME.kafka.properties]`: any property of librdkafka that this output does not set by keys of its own.

use std::collections::BTreeMap;

use anyhow::anyhow;
use rdkafka::{config::ClientConfig, error::KafkaError};
use serde::Deserialize;

use crate::config::{Problems, Section};

/// Properties that are somebody else's business: where the name matches, the sentence says whose.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "is the key `brokers`",
    ),
    (&["acks", "request.required.acks"], "is the key `acks`"),
    (&["enable.idempotence"], "is the key `idempotence`"),
    (
        &["compression.codec", "compression.type"],
        "is the key `compression`",
    ),
    (&["batch.size"], "is the key `batch_bytes`"),
    (
        &["linger.ms", "queue.buffering.max.ms"],
        "is the key `linger`",
    ),
    (&["message.max.bytes"], "is the key `message_bytes`"),
    (&["partitioner"], "is the key `partitioner`"),
    (&["security.protocol"], "is the key `security`"),
    (
        &["sasl.mechanism", "sasl.mechanisms"],
        "is the key `sasl.mechanism`",
    ),
    (&["sasl.username"], "is the key `sasl.username`"),
    (
        &["sasl.password"],
        "is read from where `sasl.password_file` or `sasl.password_env` says; it must not stand in this file",
    ),
    (
        &[
            "ssl.key.password",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "ssl.key.pem",
            "ssl_key",
            "sasl.oauthbearer.assertion.private.key.pem",
        ],
        "is a secret, which must not stand in this file",
    ),
    (
        &["ssl.ca.location", "ssl.ca.pem", "ssl_ca"],
        "is the key `tls.ca_file`",
    ),
    (
        &[
            "ssl.certificate.location",
            "ssl.certificate.pem",
            "ssl_certificate",
        ],
        "is the key `tls.certificate_file`",
    ),
    (&["ssl.key.location"], "is the key `tls.key_file`"),
    (
        &["ssl.endpoint.identification.algorithm"],
        "is the key `tls.verify_host`",
    ),
    (
        &[
            "sasl.oauthbearer.method",
            "sasl.oauthbearer.config",
            "enable.sasl.oauthbearer.unsecure.jwt",
        ],
        "does not apply: tokens come from `sasl.token_file`",
    ),
    (
        &[
            "message.timeout.ms",
            "delivery.timeout.ms",
            "retries",
            "message.send.max.retries",
        ],
        "would let librdkafka give records up, and the probe tries until they are delivered",
    ),
    (
        &[
            "enable.gapless.guarantee",
            "queuing.strategy",
            "transactional.id",
            "transaction.timeout.ms",
            "delivery.report.only.error",
        ],
        "would break the order or the acknowledgement of records",
    ),
    (
        &["queue.buffering.max.messages", "queue.buffering.max.kbytes"],
        "does not apply: what waits is in the output's own queue, see `queue_bytes`",
    ),
    (
        &[
            "enabled_events",
            "log_level",
            "log.queue",
            "opaque",
            "interceptors",
            "default_topic_conf",
            "ssl_engine_callback_data",
            "internal.termination.signal",
            "plugin.library.paths",
        ],
        "belongs to the probe",
    ),
];

/// A value in the file. Librdkafka takes texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
}

/// Names and values of a section, in which a name may be quoted (`"socket.timeout.ms"`) or not (which makes tables of it).
/// Notes each name or value that librdkafka does not know, or that this output sets otherwise, with its line.
pub(super) fn read(section: Option<Section<'_>>, problems: &mut Problems) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(section) = section {
        collect(section, "", &mut found, problems);
    }
    found
}

fn collect(
    mut section: Section<'_>,
    prefix: &str,
    found: &mut Vec<(String, String)>,
    problems: &mut Problems,
) {
    for (name, inner) in section.take_sections() {
        collect(inner, &format!("{prefix}{name}."), found, problems);
    }
    let values: Option<BTreeMap<String, Value>> = section.read(problems);
    for (key, value) in values.unwrap_or_default() {
        let name = format!("{prefix}{key}");
        let value = match value {
            Value::Flag(value) => value.to_string(),
            Value::Whole(value) => value.to_string(),
            Value::Real(value) => value.to_string(),
            Value::Text(value) => value,
        };
        if let Err(error) = check(&name, &value) {
            problems.push(section.error(Some(&key), format!("{error:#}")));
        }
        found.push((name, value));
    }
}

fn check(name: &str, value: &str) -> anyhow::Result<()> {
    let refused = REFUSED.iter().find(|(names, _)| names.contains(&name));
    if let Some((_, sentence)) = refused {
        return Err(anyhow!("{sentence}"));
    }
    if name.ends_with("_cb") {
        return Err(anyhow!("belongs to the probe"));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    let native = alone.create_native_config();
    native.map(drop).map_err(|error| refused_by(&error))
}

/// What librdkafka says against a property, without the value, which may be a secret.
pub(super) fn refused_by(error: &KafkaError) -> anyhow::Error {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            anyhow!("librdkafka refuses {name}: {description}")
        }
        KafkaError::ClientCreation(description) => anyhow!("librdkafka refuses it: {description}"),
        KafkaError::Nul(_) => anyhow!("a value has a zero byte"),
        error => anyhow!("{error}"),
    }
}
