//! The way of an envelope from the readers' sources to Kafka's acknowledgement, beside librdkafka alone.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    metadata::names::Names,
    model::{Envelope, SCHEMA},
    pipeline::benching::Feed,
};
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};

use super::{
    super::{
        process::Row,
        statistics::{Bar, Spread},
    },
    Section,
    broker::Broker,
    empty, envelopes, size,
};
use crate::command::say;

/// Envelopes of each measurement.
const COUNT: u64 = 24_000;
/// Different ones among them.
const VARIANTS: usize = 128;
/// The bench makes no more while so many wait to be handed over: enough that there is always one, and with a spool no more
/// than it has in memory, since a probe that keeps up with its interval has one or none.
const AHEAD: [usize; 2] = [512, 120];
/// Measurements that do not count, before all others.
const WARM_UP: usize = 2;
/// How long one measurement may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn measure(rounds: usize, folder: &Path) -> anyhow::Result<Section> {
    say("kafka: reading envelopes of real size");
    let like = envelopes::read(Duration::from_secs(2))?;
    let envelopes = envelopes::varied(&like, VARIANTS);
    let json = size::formatter()?;
    let payloads = (1..)
        .zip(&envelopes)
        .map(|(number, envelope)| size::format(&*json, &size::numbered(envelope, number)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let bytes = payloads.iter().map(Vec::len).sum::<usize>() as f64 / payloads.len() as f64;
    let broker = Broker::start(folder)?;
    say(format_args!(
        "kafka: {rounds} rounds of 3 times {COUNT} envelopes of {bytes:.0} bytes"
    ));
    let peer = Peer::new(&broker.address)?;
    let ours = |spool| Ours {
        brokers: &broker.address,
        folder,
        spool,
    };
    let rate = |took: Duration| COUNT as f64 / took.as_secs_f64();
    let mut rates: [Vec<f64>; 3] = Default::default();
    // The Java of the broker compiles what it runs often.
    for _ in 0..WARM_UP {
        peer.deliver(&payloads)?;
    }
    for round in 0..=rounds {
        let mut measured = [0.0; 3];
        // No one always comes first.
        for turn in 0..3 {
            let which = (round + turn) % 3;
            measured[which] = rate(match which {
                0 => peer.deliver(&payloads)?,
                1 => ours(false).deliver(&envelopes)?,
                _ => ours(true).deliver(&envelopes)?,
            });
        }
        if round > 0 {
            (0..3).for_each(|which| rates[which].push(measured[which]));
        }
    }
    let spread = |values: Vec<f64>| Spread::of(values).context("no round was measured");
    let ratio = |which: usize| {
        let pairs = rates[which].iter().zip(&rates[0]);
        spread(pairs.map(|(ours, peer)| ours / peer).collect())
    };
    let [memory, disk] = [ratio(1)?, ratio(2)?];
    let [peer, in_memory, on_disk] = rates;
    Ok(Section {
        title: format!(
            "The whole path to Kafka's acknowledgement, envelopes of {bytes:.0} bytes, acks = all, idempotent, zstd"
        ),
        rows: vec![
            Row::of_rounds("librdkafka alone", "1/s", spread(peer)?, None),
            Row::of_rounds("probe, queue in memory", "1/s", spread(in_memory)?, None),
            Row::of_rounds(
                "probe, queue on disk, sync = interval",
                "1/s",
                spread(on_disk)?,
                None,
            ),
            Row::of_rounds(
                "in memory, of librdkafka alone",
                "",
                memory,
                Some(Bar::AtLeast(0.9)),
            ),
            Row::of_rounds(
                "on disk, of librdkafka alone",
                "",
                disk,
                Some(Bar::AtLeast(0.7)),
            ),
        ],
    })
}

/// Librdkafka by itself.
struct Peer {
    producer: BaseProducer<Acknowledged>,
}

/// Counts delivery reports.
#[derive(Default)]
struct Acknowledged {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = match result {
            Ok(_) => &self.delivered,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Peer {
    /// With the settings of the probe's logger, and a topic like those of the other.
    fn new(brokers: &str) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("batch.size", "1000000")
            .set("linger.ms", "5")
            .set("message.max.bytes", "1000000")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "0")
            .create_with_context(Acknowledged::default())?;
        let peer = Self { producer };
        // The connection and the topic are there before anything is measured.
        peer.deliver(&[vec![b' '; 100]])?;
        Ok(peer)
    }

    fn deliver(&self, payloads: &[Vec<u8>]) -> anyhow::Result<Duration> {
        let counts = self.producer.context();
        let count = if payloads.len() == 1 { 1 } else { COUNT };
        let goal = counts.delivered.load(Ordering::Relaxed) + count;
        // Each in memory of its own, as what the probe reads.
        let sent = payloads.iter().cycle().take(usize::try_from(count)?);
        let sent: Vec<_> = sent.cloned().collect();
        let begin = Instant::now();
        for (number, payload) in (1..=count).zip(&sent) {
            let number = number.to_string();
            let mut record = BaseRecord::to("peer")
                .key("host")
                .payload(payload)
                .headers(headers(&number));
            while let Err((error, back)) = self.producer.send(record) {
                let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                anyhow::ensure!(error == full, "librdkafka: {error}");
                self.producer.poll(Duration::from_millis(1));
                record = back;
            }
            self.producer.poll(Duration::ZERO);
        }
        while counts.delivered.load(Ordering::Relaxed) < goal {
            self.producer.poll(Duration::from_millis(10));
            anyhow::ensure!(begin.elapsed() < PATIENCE, "librdkafka does not deliver");
        }
        anyhow::ensure!(
            counts.failed.load(Ordering::Relaxed) == 0,
            "librdkafka failed"
        );
        Ok(begin.elapsed())
    }
}

/// What the probe's logger sends along.
fn headers(number: &str) -> OwnedHeaders {
    let headers = [
        ("schema", SCHEMA),
        ("stream", "bench-5d41f0c29b7a6e38"),
        ("content-type", "application/x-ndjson"),
        ("first", number),
        ("last", number),
        ("part", "1"),
        ("parts", "1"),
    ];
    let new = OwnedHeaders::new_with_capacity(headers.len());
    headers.into_iter().fold(new, |all, (key, value)| {
        let value = Some(value);
        all.insert(Header { key, value })
    })
}

/// The probe's pipeline.
struct Ours<'a> {
    brokers: &'a str,
    folder: &'a Path,
    spool: bool,
}

impl Ours<'_> {
    fn config(&self) -> String {
        let state = self.folder.join("state").display().to_string();
        let spool = if self.spool {
            "spool_bytes = \"1GiB\"\nspool_sync = \"interval\"\n"
        } else {
            ""
        };
        format!(
            "[probe]\ninterval = \"1s\"\nstate_dir = {state:?}\n[metrics.cpu]\n\
             [output.bench]\nformatter = \"json\"\nlogger = \"kafka\"\nspread = \"0s\"\nqueue_bytes = \"1GiB\"\n{spool}\
             [output.bench.kafka]\nbrokers = [{:?}]\ntopic = \"probe\"\n",
            self.brokers
        )
    }

    fn deliver(&self, envelopes: &[Arc<Envelope>]) -> anyhow::Result<Duration> {
        let state = self.folder.join("state");
        empty(&state)?;
        let config = Config::parse(Path::new("bench"), self.config(), Registries::BUILT_IN)?;
        let mut outputs = config.outputs;
        for output in &mut outputs {
            output.logger.open()?;
            output.opened = true;
        }
        // On one thread, as in the probe.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let took = runtime.block_on(async {
            let names = Names::new(config.context.roots.sys);
            let mut feed = Feed::start(outputs, Some(state), &config.context.counters, names)?;
            // The connection and the topic are there before anything is measured.
            feed.tick(Envelope::clone(&envelopes[0]));
            until(|| feed.left() == 0).await?;
            // As payloads are for librdkafka, what was read is there before anything is measured.
            let read: Vec<_> = (0..COUNT)
                .zip(envelopes.iter().cycle())
                .map(|(_, envelope)| Envelope::clone(envelope))
                .collect();
            let begin = Instant::now();
            for read in read {
                feed.tick(read);
                tokio::task::yield_now().await;
                until(|| feed.waiting() < AHEAD[usize::from(self.spool)]).await?;
            }
            until(|| feed.left() == 0).await?;
            let took = begin.elapsed();
            feed.stop(Duration::from_secs(1)).await;
            anyhow::Ok(took)
        })?;
        runtime.shutdown_background();
        let counters = config.context.counters.output("bench");
        let told = [&counters.merged, &counters.retries, &counters.delivered].map(|one| one.get());
        anyhow::ensure!(
            told == [0, 0, COUNT + 1],
            "merged, retried and delivered are {told:?}, not 0, 0 and {}",
            COUNT + 1
        );
        Ok(took)
    }
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        anyhow::ensure!(begin.elapsed() < PATIENCE, "the probe does not deliver");
    }
    Ok(())
}
