//! The statistics that librdkafka gives as JSON, of which the counters of the output are fed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pipeline::counters::{KafkaBroker, KafkaCounters};

/// What is read of a producer's statistics; its counters begin with the producer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    msg_cnt: u64,
    msg_size: u64,
    txmsgs: u64,
    txmsg_bytes: u64,
    brokers: BTreeMap<String, Broker>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Broker {
    nodeid: i64,
    state: String,
    tx: u64,
    txbytes: u64,
    txerrs: u64,
    txretries: u64,
    rxerrs: u64,
    req_timeouts: u64,
    connects: u64,
    disconnects: u64,
    rtt: Window,
    throttle: Window,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Window {
    avg: u64,
    max: u64,
    p99: u64,
    cnt: u64,
}

/// What one producer reported last.
#[derive(Default)]
pub(super) struct Statistics {
    last: [u64; 8],
}

impl Statistics {
    /// Counts on by what has changed since the last report.
    pub(super) fn take(&mut self, json: &[u8], counters: &KafkaCounters) {
        let report: Report = match serde_json::from_slice(json) {
            Ok(report) => report,
            Err(error) => {
                tracing::debug!("librdkafka's statistics: {error}");
                return;
            }
        };
        let sum = |of: fn(&Broker) -> u64| report.brokers.values().map(of).sum::<u64>();
        let now = [
            report.txmsgs,
            report.txmsg_bytes,
            sum(|broker| broker.tx),
            sum(|broker| broker.txbytes),
            sum(|broker| broker.txretries),
            sum(|broker| broker.txerrs + broker.rxerrs + broker.req_timeouts),
            sum(|broker| broker.connects),
            sum(|broker| broker.disconnects),
        ];
        let totals = [
            &counters.messages,
            &counters.message_bytes,
            &counters.requests,
            &counters.request_bytes,
            &counters.retries,
            &counters.errors,
            &counters.connects,
            &counters.disconnects,
        ];
        for ((total, now), last) in totals.into_iter().zip(now).zip(self.last) {
            total.add(now.saturating_sub(last));
        }
        self.last = now;
        counters.queue_messages.set(report.msg_cnt);
        counters.queue_bytes.set(report.msg_size);
        let brokers = report.brokers.values();
        // Those without an id are the addresses to begin with.
        let known = brokers.filter(|broker| broker.nodeid >= 0);
        counters.set_brokers(known.map(Broker::level).collect());
    }
}

impl Broker {
    fn level(&self) -> KafkaBroker {
        let ns = |us: u64| us.saturating_mul(1000);
        KafkaBroker {
            id: self.nodeid,
            up: self.state == "UP",
            latency: (self.rtt.cnt > 0).then_some([
                ns(self.rtt.avg),
                ns(self.rtt.p99),
                ns(self.rtt.max),
            ]),
            throttle_ns: self.throttle.max.saturating_mul(1_000_000),
        }
    }
}
