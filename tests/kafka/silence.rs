//! A broker that says nothing while much waits for it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes, series},
};

use super::{
    cluster::{Cluster, until_there_are},
    consume,
    delivery::config,
    faults::until_it_flows,
    proxy::{Mode, Proxy},
};

/// How many payloads may be in flight while nothing is acknowledged; beyond that librdkafka is known to burn a core.
const FEW: f64 = 4.0;

/// What the client has to tell of itself.
const METRICS: [&str; 7] = [
    "probe.kafka.acknowledge_time",
    "probe.kafka.producers",
    "probe.kafka.messages",
    "probe.kafka.requests",
    "probe.kafka.queue_messages",
    "probe.kafka.broker_up",
    "probe.kafka.broker_latency",
];

/// A gauge of the Kafka output in the newest envelope of the file.
fn level(probe: &Probe, metric: &str) -> Option<f64> {
    let found = envelopes(&probe.path("envelopes"));
    let series = series(found.last()?, metric);
    let mut own = series
        .iter()
        .filter(|own| own["labels"]["output"] == "main");
    own.next()?["value"].as_f64()
}

/// Scenario: hundreds of envelopes leave over a slow network when it goes silent; then it is back.
/// Guarantees: few are in flight while nothing is acknowledged, the rest waits in the queue, and every number arrives; the
/// client's own metrics are there.
#[test]
fn a_silence_leaves_few_in_flight() {
    let Some(cluster) = Cluster::shared("a_silence_leaves_few_in_flight") else {
        return;
    };
    let (listens, advertises) = cluster.proxied();
    let proxy = Proxy::start(advertises, listens);
    let topic = "silence";
    let output = "spool_bytes = '8MiB'\nenvelope = 'per_reader'";
    let mut probe = Probe::start(&format!(
        "{}[metrics.disk]\n[metrics.interface]\n[metrics.probe]\n\
         [output.file]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/envelopes'\n",
        config(advertises, topic, output, "")
    ));
    until_there_are(cluster, topic, 50);
    proxy.set(Mode::Reset);
    until("hundreds wait", || {
        (level(&probe, "probe.output.queue_envelopes")? >= 300.0).then_some(())
    });
    proxy.set(Mode::Slow);
    until("many are in flight", || {
        (level(&probe, "probe.output.in_flight")? > 4.0 * FEW).then_some(())
    });
    proxy.set(Mode::Mute);
    until("few are in flight", || {
        (level(&probe, "probe.output.in_flight")? <= FEW).then_some(())
    });
    let (begin, before) = (Instant::now(), processor_time(probe.pid()));
    for _ in 0..15 {
        thread::sleep(Duration::from_millis(200));
        let in_flight = level(&probe, "probe.output.in_flight");
        assert!(in_flight <= Some(FEW), "{in_flight:?}");
    }
    println!(
        "figure: CPU while a broker is silent: {:.2} of a core",
        (processor_time(probe.pid()) - before) / begin.elapsed().as_secs_f64()
    );
    assert!(level(&probe, "probe.output.queue_envelopes") >= Some(100.0));
    proxy.set(Mode::Open);
    until_it_flows(cluster, topic);
    let ended = probe.stop();

    let streams = account(&consume::envelopes(cluster, topic));
    let streams = streams.unwrap_or_else(|error| panic!("{error}\n{}", ended.diagnostics));
    assert_eq!(streams.len(), 5, "a stream for each reader");
    let whole = |lost: usize, merged: usize| lost + merged == 0;
    assert!(
        streams
            .values()
            .all(|stream| whole(stream.lost.len(), stream.merged())),
        "{streams:?}"
    );
    let told = envelopes(&probe.path("envelopes"));
    for metric in METRICS {
        let anywhere = told
            .iter()
            .any(|envelope| !series(envelope, metric).is_empty());
        assert!(anywhere, "no {metric}");
    }
}

/// Seconds of all its threads.
fn processor_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the probe runs");
    // The name, which may hold anything, ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
