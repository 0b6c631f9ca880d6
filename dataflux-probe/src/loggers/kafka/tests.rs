//! The logger against librdkafka's cluster in this process.

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
};

use super::*;
use crate::{loggers::contract, plugin::testing::context};

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
