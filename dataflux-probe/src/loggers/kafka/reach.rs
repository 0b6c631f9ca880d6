//! Whether the brokers can be reached: connects, asks the cluster who is in it, and produces nothing.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer as _},
};

use super::config::Settings;

/// Each broker that the configuration names, and the cluster, which is asked as the output would: with its security.
pub(super) fn reach(settings: &Settings, limit: Duration) -> Vec<(String, anyhow::Result<String>)> {
    let secrets = settings.security.read();
    let client = match secrets.and_then(|secrets| settings.client(&secrets)) {
        Ok(client) => client,
        Err(error) => return vec![("its secrets".to_owned(), Err(error))],
    };
    let brokers = client.get("bootstrap.servers").unwrap_or_default();
    let mut findings: Vec<_> = brokers
        .split(',')
        .map(|broker| (broker.to_owned(), connect(broker, limit)))
        .collect();
    // Nobody there can say more.
    if findings.iter().any(|(_, finding)| finding.is_ok()) {
        findings.push(("the cluster".to_owned(), ask(&client, limit)));
    }
    findings
}

fn connect(broker: &str, limit: Duration) -> anyhow::Result<String> {
    // `SSL://kafka-1:9092` is a way to write it, too.
    let address = broker.rsplit("://").next().unwrap_or(broker);
    let addresses = address.to_socket_addrs().context("cannot be resolved")?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => return Ok(format!("{address} takes connections")),
            Err(error) => last = Some(error),
        }
    }
    let error = last.context("has no address")?;
    Err(error).context("takes no connection")
}

fn ask(client: &ClientConfig, limit: Duration) -> anyhow::Result<String> {
    let producer: BaseProducer = client.create()?;
    let metadata = producer.client().fetch_metadata(None, limit);
    let metadata = metadata
        .context("does not say who is in it (wrong TLS, wrong credentials, or no Kafka?)")?;
    Ok(format!("has {} brokers", metadata.brokers().len()))
}
