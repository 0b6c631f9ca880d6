//! What the Kafka clients of outputs tell of themselves and of their brokers.

use super::{COUNTER, OUTPUT, def};
use crate::{
    model::{Kind, LabelValue, MetricDef, Snapshot, Unit},
    pipeline::counters::{KafkaBroker, KafkaCounters},
};

/// A cluster may have hundreds of brokers; those with the lowest ids are told.
const BROKERS: usize = 16;

pub(super) static ACKNOWLEDGE_TIME: MetricDef = def(
    "probe.kafka.acknowledge_time",
    Kind::Histogram,
    Unit::Nanoseconds,
    "Time from the hand-over of a record to librdkafka to its acknowledgement.",
    OUTPUT,
);
pub(super) static PRODUCERS: MetricDef = def(
    "probe.kafka.producers",
    COUNTER,
    Unit::Count,
    "Producers made: the first one, and one for each that had to be replaced.",
    OUTPUT,
);
pub(super) static MESSAGES: MetricDef = def(
    "probe.kafka.messages",
    COUNTER,
    Unit::Count,
    "Records that librdkafka sent; some of them again.",
    OUTPUT,
);
pub(super) static MESSAGE_BYTES: MetricDef = def(
    "probe.kafka.message_size",
    COUNTER,
    Unit::Bytes,
    "Bytes of the records that librdkafka sent, before compression.",
    OUTPUT,
);
pub(super) static REQUESTS: MetricDef = def(
    "probe.kafka.requests",
    COUNTER,
    Unit::Count,
    "Requests sent to brokers.",
    OUTPUT,
);
pub(super) static REQUEST_BYTES: MetricDef = def(
    "probe.kafka.request_size",
    COUNTER,
    Unit::Bytes,
    "Bytes of the requests sent to brokers, as compressed.",
    OUTPUT,
);
pub(super) static RETRIES: MetricDef = def(
    "probe.kafka.retries",
    COUNTER,
    Unit::Count,
    "Requests that librdkafka sent again by itself.",
    OUTPUT,
);
pub(super) static ERRORS: MetricDef = def(
    "probe.kafka.errors",
    COUNTER,
    Unit::Count,
    "Requests that failed on the way, or were not answered in time.",
    OUTPUT,
);
pub(super) static CONNECTS: MetricDef = def(
    "probe.kafka.connects",
    COUNTER,
    Unit::Count,
    "Connections to brokers that were tried.",
    OUTPUT,
);
pub(super) static DISCONNECTS: MetricDef = def(
    "probe.kafka.disconnects",
    COUNTER,
    Unit::Count,
    "Connections to brokers that ended.",
    OUTPUT,
);
pub(super) static QUEUE_MESSAGES: MetricDef = def(
    "probe.kafka.queue_messages",
    Kind::Gauge,
    Unit::Count,
    "Records in librdkafka's queues or on their way.",
    OUTPUT,
);
pub(super) static QUEUE_BYTES: MetricDef = def(
    "probe.kafka.queue_size",
    Kind::Gauge,
    Unit::Bytes,
    "Bytes of the records in librdkafka's queues or on their way.",
    OUTPUT,
);
pub(super) static BROKER_UP: MetricDef = def(
    "probe.kafka.broker_up",
    Kind::Gauge,
    Unit::Count,
    "Whether there is a connection to the broker that works, 1 or 0; told of the 16 brokers with the lowest ids.",
    &["output", "broker"],
);
pub(super) static BROKER_LATENCY: MetricDef = def(
    "probe.kafka.broker_latency",
    Kind::Gauge,
    Unit::Nanoseconds,
    "Round trips to the broker in the latest 5 s with any: mean, 99th percentile and longest.",
    &["output", "broker", "statistic"],
);
pub(super) static BROKER_THROTTLE: MetricDef = def(
    "probe.kafka.broker_throttle",
    Kind::Gauge,
    Unit::Nanoseconds,
    "Longest time in the latest 5 s that the broker made the probe wait for its quota.",
    &["output", "broker"],
);

pub(super) fn push(out: &mut Snapshot, name: &str, kafka: &KafkaCounters) {
    let output = || LabelValue::from(name.to_owned());
    out.histogram(&ACKNOWLEDGE_TIME, None, [output()], kafka.latencies());
    for (def, counter) in [
        (&PRODUCERS, &kafka.producers),
        (&MESSAGES, &kafka.messages),
        (&MESSAGE_BYTES, &kafka.message_bytes),
        (&REQUESTS, &kafka.requests),
        (&REQUEST_BYTES, &kafka.request_bytes),
        (&RETRIES, &kafka.retries),
        (&ERRORS, &kafka.errors),
        (&CONNECTS, &kafka.connects),
        (&DISCONNECTS, &kafka.disconnects),
    ] {
        out.counter(def, None, [output()], counter.get());
    }
    for (def, level) in [
        (&QUEUE_MESSAGES, &kafka.queue_messages),
        (&QUEUE_BYTES, &kafka.queue_bytes),
    ] {
        out.gauge(def, None, [output()], level.get() as f64);
    }
    let mut brokers = kafka.brokers();
    brokers.sort_by_key(|broker| broker.id);
    for broker in brokers.iter().take(BROKERS) {
        push_broker(out, &output, broker);
    }
}

fn push_broker(out: &mut Snapshot, output: &impl Fn() -> LabelValue, broker: &KafkaBroker) {
    let id = || LabelValue::from(broker.id.to_string());
    let up = if broker.up { 1.0 } else { 0.0 };
    out.gauge(&BROKER_UP, None, [output(), id()], up);
    let throttle = broker.throttle_ns as f64;
    out.gauge(&BROKER_THROTTLE, None, [output(), id()], throttle);
    let latency = broker.latency.into_iter().flatten();
    for (statistic, value) in ["mean", "p99", "max"].into_iter().zip(latency) {
        let labels = [output(), id(), statistic.into()];
        out.gauge(&BROKER_LATENCY, None, labels, value as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{host_file::testing::total, model::Total};

    #[test]
    fn every_counter_and_the_first_brokers_are_told() {
        let kafka = KafkaCounters::default();
        let counters = [
            &kafka.producers,
            &kafka.messages,
            &kafka.message_bytes,
            &kafka.requests,
            &kafka.request_bytes,
            &kafka.retries,
            &kafka.errors,
            &kafka.connects,
            &kafka.disconnects,
            &kafka.queue_messages,
            &kafka.queue_bytes,
        ];
        (1..).zip(counters).for_each(|(n, counter)| counter.add(n));
        kafka.acknowledge(Duration::from_nanos(5));
        let broker = |id| KafkaBroker {
            id,
            up: id == 3,
            latency: (id == 3).then_some([1, 2, 3]),
            throttle_ns: 7,
        };
        kafka.set_brokers((0..100).rev().map(broker).collect());
        let mut out = Snapshot::default();
        push(&mut out, "main", &kafka);
        let told = out.series.iter().filter_map(|series| match series.value {
            Total::Counter(value) => Some(value),
            Total::Gauge(value) if series.labels.len() == 1 => Some(value as u64),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
        let of = |name: &str, labels: &[&str]| total(&out, name, labels);
        let up = |id| of("probe.kafka.broker_up", &["main", id]);
        assert_eq!(up("3"), Some(Total::Gauge(1.0)));
        assert_eq!(up("4"), Some(Total::Gauge(0.0)));
        assert_eq!((up("15").is_some(), up("16")), (true, None));
        let latency = of("probe.kafka.broker_latency", &["main", "3", "p99"]);
        assert_eq!(latency, Some(Total::Gauge(2.0)));
        let Some(Total::Histogram(time)) = of("probe.kafka.acknowledge_time", &["main"]) else {
            panic!("no histogram");
        };
        assert_eq!((time.sum, time.count()), (5, 1));
    }
}
