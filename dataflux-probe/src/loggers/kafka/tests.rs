//! The logger against librdkafka's cluster in this process.

mod config;
mod faults;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::json;

use super::*;
use crate::{
    loggers::contract,
    model::{Metadata, Part},
    plugin::testing::context,
};

type Cluster = MockCluster<'static, DefaultProducerContext>;

const PATIENCE: Duration = Duration::from_secs(30);

fn cluster(topics: &[&str]) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    cluster
}

fn logger(cluster: &Cluster, text: &str) -> Box<dyn Logger> {
    let brokers = cluster.bootstrap_servers();
    let text = format!("brokers = ['{brokers}']\n{text}");
    PLUGIN
        .build_from(&text, &context(Path::new("/nowhere")))
        .unwrap()
}

#[test]
fn a_cluster_can_be_reached_and_a_closed_port_cannot() {
    let limit = Duration::from_secs(10);
    let cluster = cluster(&["metrics"]);
    let found = logger(&cluster, "topic = 'metrics'").reach(limit);
    let said: Vec<_> = found
        .into_iter()
        .map(|(place, finding)| (place, finding.unwrap()))
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0].0, cluster.bootstrap_servers());
    assert_eq!(
        said[1],
        ("the cluster".to_owned(), "has 1 brokers".to_owned())
    );

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let text = format!("brokers = ['{address}']\ntopic = 'metrics'");
    let nowhere = context(Path::new("/nowhere"));
    let found = PLUGIN.build_from(&text, &nowhere).unwrap().reach(limit);
    assert_eq!(found.len(), 1, "{found:?}");
    let error = format!("{:#}", found[0].1.as_ref().unwrap_err());
    assert!(error.starts_with("takes no connection: "), "{error}");
}

fn consumer(cluster: &Cluster, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut partitions = rdkafka::TopicPartitionList::new();
    partitions
        .add_partition_offset(topic, 0, rdkafka::Offset::Beginning)
        .unwrap();
    consumer.assign(&partitions).unwrap();
    consumer
}

/// Key, value and headers of the next record.
fn receive(consumer: &BaseConsumer) -> (Option<String>, Vec<u8>, BTreeMap<String, String>) {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "nothing arrives");
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().into_iter().flat_map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
        });
        return (
            message.key().map(text),
            message.payload().unwrap().to_vec(),
            headers.collect(),
        );
    }
}

#[tokio::test]
async fn keeps_the_contract_of_loggers() {
    let cluster = cluster(&["all"]);
    let mut logger = logger(&cluster, "topic = 'all'\nmessage_bytes = '4MB'\n");
    let consumer = consumer(&cluster, "all");
    let mut held = Vec::new();
    contract::check(&mut *logger, |bytes| {
        while held.len() < bytes {
            held.extend(receive(&consumer).1);
        }
        held.drain(..bytes).collect()
    })
    .await;
}

#[tokio::test]
async fn a_record_says_where_it_belongs() {
    let cluster = cluster(&["a.web_1.b12.unknown.memory"]);
    let brokers = cluster.bootstrap_servers();
    let text = format!(
        "brokers = ['{brokers}']\nkey = 'label.rack'\n\
         topic = 'a.{{host}}.{{label.rack}}.{{label.none}}.{{reader}}'\n"
    );
    let mut context = context(Path::new("/nowhere"));
    context.per_reader = true;
    let mut logger = PLUGIN.build_from(&text, &context).unwrap();
    let sections = [
        ("host", json!({"name": "web/1"})),
        ("labels", json!({"rack": "b12"})),
    ];
    let sections = sections.map(|(name, section)| (name, section.as_object().unwrap().clone()));
    let payload = Payload {
        content_type: "application/json",
        range: 7..=9,
        part: Part { part: 2, parts: 3 },
        readers: vec!["memory"],
        metadata: Arc::new(Metadata {
            sections: sections.into(),
        }),
        ..contract::payload("text")
    };
    logger.send(payload).await.unwrap();
    let (key, value, headers) = receive(&consumer(&cluster, "a.web_1.b12.unknown.memory"));
    assert_eq!((key.as_deref(), &*value), (Some("b12"), "text".as_bytes()));
    let expected = [
        ("content-type", "application/json"),
        ("first", "7"),
        ("last", "9"),
        ("part", "2"),
        ("parts", "3"),
        ("schema", "dataflux.envelope/1"),
        ("stream", "test-1"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(headers, expected.into());
}

#[tokio::test]
async fn the_key_is_the_host_or_none() {
    let cluster = cluster(&["t"]);
    let metadata = || {
        let section = json!({"name": "web-1"}).as_object().unwrap().clone();
        Arc::new(Metadata {
            sections: [("host", section)].into(),
        })
    };
    for keys in ["", "key = 'none'\n"] {
        let mut logger = logger(&cluster, &format!("topic = 't'\n{keys}"));
        let payload = Payload {
            metadata: metadata(),
            ..contract::payload("text")
        };
        logger.send(payload).await.unwrap();
    }
    let consumer = consumer(&cluster, "t");
    let keys = [receive(&consumer).0, receive(&consumer).0];
    assert_eq!(keys, [Some("web-1".to_owned()), None]);
}
