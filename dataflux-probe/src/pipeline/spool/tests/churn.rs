//! Windows that have no series in common cannot become smaller by merging.

use super::*;

#[test]
fn the_oldest_go_where_merging_wins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 1 << 20);
    let (mut spool, _) = open(&settings);
    let (mut gone, mut accepted) = (Vec::new(), 0);
    let records = 4_000;
    for number in 1..=records {
        let (mut record, _) = record("out-1", number, 100);
        let mut envelope = Envelope::clone(&record.envelope);
        for metric in &mut envelope.sources[0].metrics {
            metric.labels = [format!("{number}-{}", metric.labels[0]).into()].into();
        }
        record.envelope = Arc::new(envelope);
        let mut losses = spool.append("out", &record).unwrap();
        accepted += u64::from(spool.newest);
        spool.make_room(&mut losses).unwrap();
        spool.note().unwrap();
        spool.trim().unwrap();
        for loss in losses {
            assert_eq!(loss.cause, Cause::QueueFull);
            gone.extend(loss.range);
        }
        if number % 100 == 0 {
            let used = disk_usage(folder.path());
            assert!(used <= 1 << 20, "{used} bytes on disk at {number}");
        }
    }
    let kept: Vec<u64> = drain(&mut spool)
        .into_iter()
        .flat_map(|(range, _)| range)
        .collect();
    assert!(gone.len() > 2_000 && kept.len() > 50, "{} kept", kept.len());
    assert!(
        gone.into_iter().chain(kept).eq(1..=records),
        "in order, each once"
    );
    assert!(spool.store.written() < 10 * accepted);
}
