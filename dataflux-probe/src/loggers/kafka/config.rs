//! The keys of `[output.NAME.kafka]`, and what follows from them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rdkafka::{
    config::{ClientConfig, RDKafkaLogLevel},
    producer::BaseProducer,
};
use serde::Deserialize;

use super::{
    Limits, properties,
    routing::Routing,
    security::{Protocol, Secrets, Security},
};
use crate::{
    config::{
        Problems, Section,
        values::{Bytes, Time},
    },
    plugin::Context,
};

/// What librdkafka and the protocol add to a record, its headers included, beside key and output's name.
const OVERHEAD: usize = 1536;

/// Smallest message and batch that make sense.
const SMALLEST: u64 = 8 << 10;

/// Librdkafka's own bound of both.
const LARGEST: u64 = 1_000_000_000;

/// How many payloads may be in flight when all goes well.
const IN_FLIGHT: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    brokers: Vec<String>,
    topic: String,
    #[serde(default = "default_key")]
    key: String,
    #[serde(default)]
    partitioner: Partitioner,
    #[serde(default = "default_acks")]
    acks: String,
    idempotence: Option<bool>,
    #[serde(default)]
    compression: Compression,
    #[serde(default = "default_bytes")]
    batch_bytes: Bytes,
    #[serde(default = "default_linger")]
    linger: Time,
    #[serde(default = "default_bytes")]
    message_bytes: Bytes,
    #[serde(default = "default_flush_timeout")]
    flush_timeout: Time,
    #[serde(default)]
    security: Protocol,
}

fn default_key() -> String {
    "host".to_owned()
}

fn default_acks() -> String {
    "all".to_owned()
}

const fn default_bytes() -> Bytes {
    Bytes(1_000_000)
}

const fn default_linger() -> Time {
    Time(Duration::from_millis(5))
}

const fn default_flush_timeout() -> Time {
    Time(Duration::from_millis(500))
}

/// Librdkafka's names.
#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Partitioner {
    Random,
    Consistent,
    ConsistentRandom,
    Murmur2,
    #[default]
    Murmur2Random,
    Fnv1a,
    Fnv1aRandom,
}

impl Partitioner {
    const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Consistent => "consistent",
            Self::ConsistentRandom => "consistent_random",
            Self::Murmur2 => "murmur2",
            Self::Murmur2Random => "murmur2_random",
            Self::Fnv1a => "fnv1a",
            Self::Fnv1aRandom => "fnv1a_random",
        }
    }
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    #[default]
    Zstd,
    Lz4,
    Snappy,
    Gzip,
    None,
}

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
            Self::None => "none",
        }
    }
}

/// Everything that the configuration says, checked.
pub(super) struct Settings {
    pub(super) output: String,
    pub(super) routing: Routing,
    pub(super) security: Security,
    pub(super) limits: Limits,
    pub(super) batch_bytes: usize,
    pub(super) flush_timeout: Duration,
    /// What a producer is made of, without secrets.
    properties: BTreeMap<String, String>,
}

impl Settings {
    /// Opens nothing.
    pub(super) fn new(section: &Section<'_>, context: &Context) -> anyhow::Result<Self> {
        let mut section = section.clone();
        let mut problems = Problems::default();
        let [more, tls, sasl] = ["properties", "tls", "sasl"]
            .map(|name| problems.note(section.take_section(name)).flatten());
        let more = properties::read(more, &mut problems);
        let before = problems.len();
        let keys: Option<Keys> = section.read(&mut problems);
        // What the sections need is known only if nothing is wrong with the key.
        let is_known = problems.len() == before;
        let parts = keys.map(|keys| {
            let checked = is_known.then(|| Security::new(&section, keys.security, tls, sasl));
            let security = checked.and_then(|checked| problems.note(checked));
            let routing = Routing::new(
                &section,
                &keys.topic,
                &keys.key,
                context.per_reader,
                &mut problems,
            );
            let own = keys.properties(&section, &mut problems);
            (keys, security, routing, own)
        });
        problems.finish()?;
        let Some((keys, Some(security), Some(routing), Some(own))) = parts else {
            unreachable!("what is not there was told");
        };
        let mut properties = fixed();
        properties.extend(own);
        properties.extend(security.properties());
        properties.extend(more);
        let settings = Self {
            output: context.output.clone(),
            routing,
            security,
            limits: Limits {
                payload_bytes: bytes(&keys.message_bytes)
                    .saturating_sub(OVERHEAD + context.output.len())
                    .max(1),
                in_flight: IN_FLIGHT,
                in_flight_bytes: 5 * bytes(&keys.batch_bytes).max(bytes(&keys.message_bytes)),
            },
            batch_bytes: bytes(&keys.batch_bytes),
            flush_timeout: keys.flush_timeout.0,
            properties,
        };
        let together = settings.try_out();
        together.map_err(|error| section.error(None, format!("{error:#}")))?;
        Ok(settings)
    }

    /// Finds what is wrong only together, by a producer that has no brokers and so opens nothing.
    fn try_out(&self) -> anyhow::Result<()> {
        let mut client = self.client(&Secrets::default())?;
        let connects = ["bootstrap.servers", "test.mock.num.brokers", "debug"].into_iter();
        let secures = self.properties.keys().map(|name| &**name).filter(|name| {
            let groups = ["security.", "ssl.", "sasl.", "enable.ssl."];
            groups.iter().any(|group| name.starts_with(group))
        });
        for name in connects.chain(secures) {
            client.remove(name);
        }
        let producer = client.create::<BaseProducer>();
        producer
            .map(drop)
            .map_err(|error| properties::refused_by(&error))
    }

    /// Secrets and certificates, and whatever else is given by its path, from the root or the current folder.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let is_path = |name: &str| {
            let mut ends = [".location", ".keytab", ".paths"].iter();
            ends.any(|end| name.ends_with(end))
        };
        let paths = self.properties.iter().filter_map(|(name, value)| {
            let path = PathBuf::from(value);
            (path.is_absolute() || is_path(name) && path.is_file()).then_some(path)
        });
        paths.chain(self.security.files().iter().cloned()).collect()
    }

    /// What a producer is made of.
    ///
    /// # Errors
    /// Librdkafka refuses it; no secret is told.
    pub(super) fn client(&self, secrets: &Secrets) -> anyhow::Result<ClientConfig> {
        let mut client = ClientConfig::new();
        let properties = self.properties.iter();
        client.extend(properties.map(|(name, value)| (name.clone(), value.clone())));
        client.extend(secrets.properties());
        let debug = self.properties.contains_key("debug");
        client.set_log_level(if debug {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Info
        });
        match client.create_native_config() {
            Ok(_) => Ok(client),
            Err(error) => Err(properties::refused_by(&error)),
        }
    }
}

fn bytes(value: &Bytes) -> usize {
    usize::try_from(value.0).unwrap_or(usize::MAX)
}

/// What every producer of the probe has.
fn fixed() -> BTreeMap<String, String> {
    [
        ("client.id", "dataflux-probe"),
        // Nothing is given up by librdkafka: the pipeline's queue decides.
        ("message.timeout.ms", "0"),
        ("message.send.max.retries", "2147483647"),
        // What may be in flight is bounded by the pipeline.
        ("queue.buffering.max.messages", "0"),
        ("queue.buffering.max.kbytes", "2147483647"),
        // A topic that is not there is told soon; the pipeline tries again.
        ("topic.metadata.propagation.max.ms", "5000"),
        ("socket.keepalive.enable", "true"),
        // A broker that is back is found within about a second.
        ("reconnect.backoff.max.ms", "1000"),
        ("statistics.interval.ms", "5000"),
        ("enable.metrics.push", "false"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

impl Keys {
    /// As librdkafka's properties.
    fn properties(
        &self,
        section: &Section<'_>,
        problems: &mut Problems,
    ) -> Option<Vec<(String, String)>> {
        let before = problems.len();
        let mut wrong = |key: &str, message: &str| problems.push(section.error(Some(key), message));
        let whole = |name: &str| !name.trim().is_empty() && !name.contains([',', '/', ' ']);
        if self.brokers.is_empty() || !self.brokers.iter().all(|broker| whole(broker)) {
            wrong(
                "brokers",
                "names the brokers to begin with, like [\"kafka-1:9092\"]",
            );
        }
        let all = match &*self.acks {
            "all" | "-1" => true,
            "1" => false,
            "0" => {
                let message = "0 asks for no acknowledgement: what no broker got would count as delivered; \"all\" or \"1\"";
                wrong("acks", message);
                true
            }
            other => {
                wrong("acks", &format!("`{other}` is not \"all\" or \"1\""));
                true
            }
        };
        let idempotence = self.idempotence.unwrap_or(all);
        if idempotence && !all {
            wrong("idempotence", "needs acks = \"all\"");
        }
        for (key, value) in [
            ("batch_bytes", self.batch_bytes),
            ("message_bytes", self.message_bytes),
        ] {
            if !(SMALLEST..=LARGEST).contains(&value.0) {
                wrong(key, &format!("must be {SMALLEST} to {LARGEST} bytes"));
            }
        }
        for (key, time, most) in [
            ("linger", self.linger, Duration::from_secs(900)),
            ("flush_timeout", self.flush_timeout, Duration::from_secs(60)),
        ] {
            if time.0 > most {
                let most = humantime::format_duration(most);
                wrong(key, &format!("must be {most} at most"));
            }
        }
        let linger = self.linger.0.as_secs_f64() * 1000.0;
        let properties = [
            ("bootstrap.servers", self.brokers.join(",")),
            ("partitioner", self.partitioner.name().to_owned()),
            ("acks", if all { "all" } else { "1" }.to_owned()),
            ("enable.idempotence", idempotence.to_string()),
            ("compression.type", self.compression.name().to_owned()),
            ("batch.size", self.batch_bytes.0.to_string()),
            ("linger.ms", linger.to_string()),
            ("message.max.bytes", self.message_bytes.0.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        (problems.len() == before).then(|| properties.into())
    }
}
