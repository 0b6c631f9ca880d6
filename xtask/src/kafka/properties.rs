//! The brokers' own configuration.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use anyhow::Context as _;

use super::cluster::{Cluster, Node};

/// What clients connect to.
pub(super) const LISTENERS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Everything that brokers say goes to their standard output.
pub(super) const LOG4J: &str = r#"<Configuration status="WARN">
  <Appenders>
    <Console name="stdout"><PatternLayout pattern="%d %p %m (%c)%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="stdout"/></Root>
  </Loggers>
</Configuration>
"#;

/// `KEY=VALUE` settings of the command line.
pub(super) fn parse(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word
                .split_once('=')
                .with_context(|| format!("--property {word} is not KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// `server.properties` of a node.
pub(super) fn server(cluster: &Cluster, node: &Node) -> String {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: &dyn fmt::Display| {
        settings.insert(key.to_owned(), value.to_string());
    };
    let nodes = cluster.nodes.len();
    let voters = joined(
        cluster
            .nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, node.controller)),
    );
    let (mut listening, mut advertised): (Vec<_>, Vec<_>) = LISTENERS
        .iter()
        .map(|name| {
            let address = format!("{name}://{}", node.listeners[&name.to_ascii_lowercase()]);
            (address.clone(), address)
        })
        .unzip();
    listening.push(format!("PROXIED://{}", node.proxied.listens));
    advertised.push(format!("PROXIED://{}", node.proxied.advertises));
    listening.push(format!("CONTROLLER://{}", node.controller));

    set("process.roles", &"broker,controller");
    set("node.id", &node.id);
    set("controller.quorum.voters", &voters);
    set("controller.listener.names", &"CONTROLLER");
    set("inter.broker.listener.name", &"PLAINTEXT");
    set("listeners", &joined(listening));
    set("advertised.listeners", &joined(advertised));
    set(
        "listener.security.protocol.map",
        &"CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
          SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
    );
    set(
        "log.dirs",
        &cluster.node_folder(node.id).join("data").display(),
    );
    // Small and quick: nothing here is kept or shared.
    set("num.partitions", &1);
    set("default.replication.factor", &nodes);
    set("min.insync.replicas", &nodes.div_ceil(2));
    set("offsets.topic.num.partitions", &1);
    set("offsets.topic.replication.factor", &nodes);
    set("transaction.state.log.num.partitions", &1);
    set("transaction.state.log.replication.factor", &nodes);
    set("transaction.state.log.min.isr", &1);
    set("group.initial.rebalance.delay.ms", &0);
    // A broker that was killed comes back soon.
    set("broker.session.timeout.ms", &3000);
    set("broker.heartbeat.interval.ms", &500);
    // Whoever comes in without a name may do everything; named users what no rule forbids.
    set(
        "authorizer.class.name",
        &"org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    );
    set("super.users", &"User:ANONYMOUS");
    set("allow.everyone.if.no.acl.found", &true);
    security(cluster, &mut set);
    settings.extend(cluster.extra.clone());

    let mut text = String::new();
    for (key, value) in &settings {
        writeln!(text, "{key}={value}").expect("a string takes everything");
    }
    text
}

/// TLS and SASL of every listener that has them.
fn security(cluster: &Cluster, set: &mut dyn FnMut(&str, &dyn fmt::Display)) {
    set("ssl.keystore.type", &"PEM");
    set(
        "ssl.keystore.location",
        &cluster.certificates.server.display(),
    );
    set("ssl.truststore.type", &"PEM");
    set(
        "ssl.truststore.location",
        &cluster.certificates.ca.display(),
    );
    set("listener.name.ssl.ssl.client.auth", &"required");
    set("listener.name.sasl_ssl.ssl.client.auth", &"none");
    set(
        "sasl.enabled.mechanisms",
        &"PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    );
    let Cluster { user, password, .. } = cluster;
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mechanisms = [
        (
            "plain",
            format!(
                "org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";"
            ),
        ),
        ("scram-sha-256", scram.to_owned()),
        ("scram-sha-512", scram.to_owned()),
        (
            "oauthbearer",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";"
                .to_owned(),
        ),
    ];
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        for (mechanism, module) in &mechanisms {
            set(
                &format!("listener.name.{listener}.{mechanism}.sasl.jaas.config"),
                module,
            );
        }
    }
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(",")
}
