//! What arrived in a topic, and when the broker had it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::Value;

use super::broker::Moment;

/// How long something may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// Follows a topic of one partition.
pub(super) struct Topic {
    name: String,
    consumer: BaseConsumer,
    /// So far, in the order of their arrival.
    pub(super) arrived: Vec<Arrived>,
}

/// An envelope that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) at: Moment,
    pub(super) stream: String,
    pub(super) first: u64,
    pub(super) last: u64,
    /// End of its window.
    pub(super) stop_time: String,
    pub(super) duration: Duration,
    /// Numbers that it names as lost, of whatever stream.
    pub(super) gaps: Vec<Value>,
}

impl Topic {
    /// Makes it; nothing is read yet.
    ///
    /// # Errors
    /// The broker does not answer, or has it already.
    pub(super) fn new(brokers: &str, name: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("reconnect.backoff.max.ms", "200")
            .set("topic.metadata.refresh.interval.ms", "500")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()?;
        create(brokers, name)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(name, 0, Offset::Beginning)?;
        consumer.assign(&partitions)?;
        Ok(Self {
            name: name.to_owned(),
            consumer,
            arrived: Vec::new(),
        })
    }

    /// How many records it has now.
    ///
    /// # Errors
    /// The broker does not say.
    pub(super) fn end(&self) -> anyhow::Result<i64> {
        let (_, end) = self.consumer.fetch_watermarks(&self.name, 0, PATIENCE)?;
        Ok(end)
    }

    /// Reads until `enough` says so of what has arrived.
    ///
    /// # Errors
    /// It takes too long, or something that is no envelope arrived.
    pub(super) fn until(
        &mut self,
        what: &str,
        enough: impl Fn(&[Arrived]) -> bool,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !enough(&self.arrived) {
            anyhow::ensure!(
                begin.elapsed() < PATIENCE,
                "waited in vain: {what}; {} envelopes arrived",
                self.arrived.len()
            );
            // An error means that the broker is away.
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(20)) {
                let at = message.timestamp().to_millis().context("no timestamp")?;
                let payload = message.payload().context("no payload")?;
                self.arrived.push(Arrived::parse(Moment(at), payload)?);
            }
        }
        Ok(())
    }

    /// Checks that of every stream each number from 1 on arrived, that none is in a gap, and says how many there are.
    ///
    /// # Errors
    /// One is missing or lost.
    pub(super) fn check_complete(&self) -> anyhow::Result<u64> {
        let mut streams: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for one in &self.arrived {
            streams
                .entry(&one.stream)
                .or_default()
                .extend(one.first..=one.last);
            anyhow::ensure!(one.gaps.is_empty(), "lost: {:?}", one.gaps);
        }
        let mut count = 0;
        for (stream, numbers) in streams {
            let last = numbers.last().copied().unwrap_or(0);
            anyhow::ensure!(
                numbers.len() as u64 == last,
                "of {stream}, {} of {last} numbers arrived and no gap names the others",
                numbers.len()
            );
            count += last;
        }
        Ok(count)
    }
}

impl Arrived {
    fn parse(at: Moment, payload: &[u8]) -> anyhow::Result<Self> {
        let envelope: Value = serde_json::from_slice(payload).context("no envelope")?;
        let stream = &envelope["stream"];
        let number = |value: &Value| value.as_u64().context("a number is missing");
        let text = |value: &Value| {
            value
                .as_str()
                .map(str::to_owned)
                .context("a text is missing")
        };
        let mut gaps = Vec::new();
        collect_gaps(stream, &mut gaps);
        Ok(Self {
            at,
            stream: text(&stream["id"])?,
            first: number(&stream["first"])?,
            last: number(&stream["last"])?,
            stop_time: text(&envelope["stop_time"])?,
            duration: Duration::from_nanos(number(&envelope["duration_ns"])?),
            gaps,
        })
    }
}

/// Makes a topic before anybody writes to it, so that no time is lost by that later.
fn create(brokers: &str, name: &str) -> anyhow::Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?;
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = AdminOptions::new();
    for result in runtime.block_on(admin.create_topics([&topic], &options))? {
        result.map_err(|(name, code)| anyhow::anyhow!("creating {name}: {code}"))?;
    }
    Ok(())
}

fn collect_gaps(stream: &Value, gaps: &mut Vec<Value>) {
    gaps.extend(stream["gaps"].as_array().into_iter().flatten().cloned());
    if stream["previous"].is_object() {
        collect_gaps(&stream["previous"], gaps);
    }
}
