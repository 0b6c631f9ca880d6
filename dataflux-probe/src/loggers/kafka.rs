//! `kafka`: records produced to Kafka topics, acknowledged by the brokers' delivery reports.

mod bell;
mod client;
mod config;
mod errors;
mod events;
mod properties;
mod reach;
mod routing;
mod security;
mod statistics;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{Acknowledgement, Limits, Logger, Payload, SendError};
use crate::{
    metadata::host,
    plugin::{Context, Needs, Plugin, Roots},
    privileges::Files,
};
use client::Client;
use config::Settings;

pub(super) static PLUGIN: Plugin<dyn Logger> = Plugin {
    name: "kafka",
    summary: "records produced to Kafka topics, acknowledged by the brokers",
    needs: Needs::NOTHING,
    example: r#"brokers = ["kafka-1:9092", "kafka-2:9092"]  # required; any of them, the others are found through it
topic = "dataflux"          # required; {host}, {label.NAME} and, with envelope = "per_reader", {reader} are filled in
key = "host"                # records of one key stay in order; "label.NAME" or "none"; default: "host"
partitioner = "murmur2_random"  # key to partition, as Java clients do; others as librdkafka names them; this is the default
acks = "all"                # who has a record before it counts as delivered: "all" in-sync replicas (default) or "1", the leader
idempotence = true          # the brokers drop what librdkafka repeats; default: true where acks = "all"
compression = "zstd"        # "lz4", "snappy", "gzip" or "none"; default: "zstd"
batch_bytes = "1MB"         # most to send in one request to one partition; default: 1MB
linger = "5ms"              # wait for more to send with it; default: 5ms
message_bytes = "1MB"       # larger envelopes are split; the topic's max.message.bytes must allow for it; default: 1MB
flush_timeout = "500ms"     # what is in flight when the probe ends may still be acknowledged; default: 500ms
security = "plaintext"      # "ssl", "sasl_plaintext" or "sasl_ssl"; default: "plaintext"
# tls.ca_file = "/etc/dataflux-probe/ca.pem"  # for the ssl ones; default: the system's authorities
# tls.certificate_file = "/etc/dataflux-probe/client.pem"
# tls.key_file = "/etc/dataflux-probe/client.key"
# tls.key_password_file = "/etc/dataflux-probe/key.password"  # or key_password_env, the name of a variable
# tls.verify_host = true    # whether the certificate must name the broker; default: true
# sasl.mechanism = "SCRAM-SHA-512"  # "SCRAM-SHA-256", "PLAIN" or "OAUTHBEARER"
# sasl.username = "probe"
# sasl.password_file = "/etc/dataflux-probe/password"  # or password_env; read again when it changes
# sasl.token_file = "/run/dataflux-probe/token"  # for OAUTHBEARER; or token_env
# properties."socket.keepalive.enable" = true  # any other property of librdkafka"#,
    metrics: &[],
    build: |section, context| {
        Ok(Box::new(Kafka::new(
            Settings::new(section, context)?,
            context,
        )))
    },
};

struct Kafka {
    settings: Arc<Settings>,
    client: Client,
    roots: Roots,
    /// The host's name, for envelopes whose header does not say it.
    host: Option<String>,
}

impl Kafka {
    fn new(settings: Settings, context: &Context) -> Self {
        let settings = Arc::new(settings);
        Self {
            client: Client::new(
                Arc::clone(&settings),
                context.counters.kafka(&context.output),
            ),
            settings,
            roots: context.roots.clone(),
            host: None,
        }
    }
}

impl Logger for Kafka {
    /// Connects nowhere: librdkafka's threads begin with the first payload, without privileges that were given up before.
    fn open(&mut self) -> Result<(), SendError> {
        self.host = host::name(&self.roots.proc, &self.roots.root);
        let secrets = self.settings.security.read().map_err(SendError::Retry)?;
        self.settings.client(&secrets).map_err(SendError::Retry)?;
        Ok(())
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let host = self.host.as_deref();
        self.client
            .send(self.settings.routing.message(payload, host))
    }

    fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// Librdkafka reads them whenever it makes a connection, and secrets are read anew when they change.
    fn files(&self) -> Files {
        Files {
            read: self.settings.files(),
            ..Files::default()
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn reach(&mut self, limit: Duration) -> Vec<(String, anyhow::Result<String>)> {
        reach::reach(&self.settings, limit)
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        self.client.close()
    }
}
