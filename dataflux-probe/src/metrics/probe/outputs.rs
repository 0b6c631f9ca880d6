//! What outputs take, deliver and lose.

use super::{COUNTER, OUTPUT, def};
use crate::{
    model::{Cause, Kind, LabelValue, MetricDef, Snapshot, Unit},
    pipeline::counters::{Counter, OutputCounters},
};

pub(super) static ENVELOPES: MetricDef = def(
    "probe.output.envelopes",
    COUNTER,
    Unit::Count,
    "Envelopes that the output took and numbered.",
    OUTPUT,
);
pub(super) static DELIVERED: MetricDef = def(
    "probe.output.delivered",
    COUNTER,
    Unit::Count,
    "Payloads that the other end acknowledged.",
    OUTPUT,
);
pub(super) static DELIVERED_BYTES: MetricDef = def(
    "probe.output.delivered_size",
    COUNTER,
    Unit::Bytes,
    "Bytes of the payloads that the other end acknowledged.",
    OUTPUT,
);
pub(super) static RETRIES: MetricDef = def(
    "probe.output.retries",
    COUNTER,
    Unit::Count,
    "Deliveries that failed and are tried again.",
    OUTPUT,
);
pub(super) static MERGED: MetricDef = def(
    "probe.output.merged",
    COUNTER,
    Unit::Count,
    "Times that two envelopes were merged because the queue was full.",
    OUTPUT,
);
pub(super) static LOST: MetricDef = def(
    "probe.output.lost",
    COUNTER,
    Unit::Count,
    "Numbers lost, by the cause that their gap names.",
    &["output", "cause"],
);
pub(super) static QUEUE_BYTES: MetricDef = def(
    "probe.output.queue_size",
    Kind::Gauge,
    Unit::Bytes,
    "Bytes in the queue; of an output that tells totals, those of its series.",
    OUTPUT,
);
pub(super) static QUEUE_ENVELOPES: MetricDef = def(
    "probe.output.queue_envelopes",
    Kind::Gauge,
    Unit::Count,
    "Envelopes in the queue.",
    OUTPUT,
);
pub(super) static IN_FLIGHT: MetricDef = def(
    "probe.output.in_flight",
    Kind::Gauge,
    Unit::Count,
    "Payloads that were handed over and are not acknowledged yet.",
    OUTPUT,
);

pub(super) static LEFT_OUT: MetricDef = def(
    "probe.output.left_out",
    Kind::Gauge,
    Unit::Count,
    "Series that an output that tells totals has no room for.",
    OUTPUT,
);

/// Everything of one output.
pub(super) fn push(out: &mut Snapshot, name: &str, output: &OutputCounters) {
    let name = || LabelValue::from(name.to_owned());
    let counters: [(_, &Counter); 5] = [
        (&ENVELOPES, &output.envelopes),
        (&DELIVERED, &output.delivered),
        (&DELIVERED_BYTES, &output.delivered_bytes),
        (&RETRIES, &output.retries),
        (&MERGED, &output.merged),
    ];
    for (def, counter) in counters {
        out.counter(def, None, [name()], counter.get());
    }
    for (cause, lost) in [
        (Cause::QueueFull, &output.lost_queue_full),
        (Cause::Rejected, &output.lost_rejected),
        (Cause::Unformattable, &output.lost_unformattable),
        (Cause::Damaged, &output.lost_damaged),
    ] {
        out.counter(&LOST, None, [name(), cause.name().into()], lost.get());
    }
    for (def, level) in [
        (&QUEUE_BYTES, &output.queue_bytes),
        (&QUEUE_ENVELOPES, &output.queue_envelopes),
        (&IN_FLIGHT, &output.in_flight),
        (&LEFT_OUT, &output.left_out),
    ] {
        out.gauge(def, None, [name()], level.get() as f64);
    }
}
