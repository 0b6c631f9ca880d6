//! What a queue keeps, merges and gives up.

use std::{ops::RangeInclusive, sync::Arc};

use proptest::prelude::*;

use super::{
    super::fakes::{Random, source},
    *,
};
use crate::model::{Envelope, Part, Stream, Window};

/// A record of one series, so that merging two halves their weight.
fn record(stream: &str, number: u64) -> Numbered {
    Numbered {
        stream: Arc::new(Stream {
            id: stream.into(),
            previous: None,
        }),
        range: number..=number,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window: Window::default(),
            metadata: Arc::default(),
            sources: vec![source("alpha", Window::default(), &[number])],
        }),
    }
}

fn weight() -> u64 {
    envelope::weight(&record("s", 1).envelope)
}

/// With room for this many records.
fn queue(room: u64, when_full: WhenFull) -> Queue {
    Queue::new(room * weight(), when_full)
}

fn push(queue: &mut Queue, number: u64) -> Pushed {
    queue.push(record("s", number), weight())
}

fn hand_over(queue: &mut Queue) -> (Ticket, RangeInclusive<u64>) {
    let (ticket, record) = queue.next(|record| record).unwrap();
    (ticket, record.range)
}

fn ranges(queue: &Queue) -> Vec<(u64, u64)> {
    let ranges = queue.records().map(|record| record.range.clone());
    ranges.map(RangeInclusive::into_inner).collect()
}

fn lost(pushed: &Pushed) -> Vec<u64> {
    pushed
        .lost
        .iter()
        .map(|record| *record.range.start())
        .collect()
}

#[test]
fn full_queue_merges_the_oldest_pair_of_equal_width() {
    let mut queue = queue(4, WhenFull::Coalesce);
    let mut steps = Vec::new();
    for number in 1..=12 {
        assert_eq!(lost(&push(&mut queue, number)), [0; 0]);
        assert!(queue.bytes() <= 4 * weight());
        steps.push(ranges(&queue));
    }
    assert_eq!(steps[4], [(1, 2), (3, 3), (4, 4), (5, 5)]);
    assert_eq!(steps[5], [(1, 2), (3, 4), (5, 5), (6, 6)]);
    assert_eq!(steps[6], [(1, 4), (5, 5), (6, 6), (7, 7)]);
    assert_eq!(steps[7], [(1, 4), (5, 6), (7, 7), (8, 8)]);
    assert_eq!(steps[11], [(1, 8), (9, 10), (11, 11), (12, 12)]);
}

#[test]
fn without_equal_widths_the_oldest_pair_merges() {
    let mut queue = queue(2, WhenFull::Coalesce);
    for number in 1..=7 {
        push(&mut queue, number);
    }
    assert_eq!(ranges(&queue), [(1, 6), (7, 7)]);
}

#[test]
fn what_was_handed_over_is_neither_merged_nor_dropped() {
    for when_full in [
        WhenFull::Coalesce,
        WhenFull::DropOldest,
        WhenFull::DropNewest,
    ] {
        let mut queue = queue(2, when_full);
        push(&mut queue, 1);
        push(&mut queue, 2);
        let (first, _) = hand_over(&mut queue);
        hand_over(&mut queue);
        queue.again(first);
        let gone: Vec<_> = (3..=6)
            .flat_map(|number| lost(&push(&mut queue, number)))
            .collect();
        assert_eq!(ranges(&queue)[..2], [(1, 1), (2, 2)]);
        if when_full == WhenFull::Coalesce {
            // One pending record takes what comes.
            assert_eq!((ranges(&queue)[2], queue.len()), ((3, 6), 3));
            assert_eq!(gone, [0; 0]);
            assert!(queue.bytes() <= 3 * weight());
        } else {
            assert_eq!(gone, [3, 4, 5, 6]);
            assert_eq!(queue.bytes(), 2 * weight());
        }
    }
}

#[test]
fn a_record_larger_than_the_bound_gets_through() {
    for when_full in [
        WhenFull::Coalesce,
        WhenFull::DropOldest,
        WhenFull::DropNewest,
    ] {
        let mut queue = Queue::new(1, when_full);
        assert_eq!(lost(&push(&mut queue, 1)), [0; 0]);
        let (ticket, range) = hand_over(&mut queue);
        assert_eq!(range, 1..=1);
        let gone: Vec<_> = (2..=4)
            .flat_map(|number| lost(&push(&mut queue, number)))
            .collect();
        if when_full == WhenFull::Coalesce {
            assert_eq!((ranges(&queue), gone.len()), (vec![(1, 1), (2, 4)], 0));
        } else {
            assert_eq!((ranges(&queue), gone), (vec![(1, 1)], vec![2, 3, 4]));
        }
        queue.remove(ticket);
        assert_eq!(lost(&push(&mut queue, 5)), [0; 0]);
    }
}

#[test]
fn windows_without_common_series_do_not_grow_to_more_than_the_bound() {
    let mut queue = queue(4, WhenFull::Coalesce);
    let mut gone = Vec::new();
    for number in 1..=40 {
        let mut record = record("s", number);
        let mut envelope = Envelope::clone(&record.envelope);
        envelope.sources[0].metrics[0].labels = [number.to_string().into()].into();
        record.envelope = Arc::new(envelope);
        let pushed = queue.push(record, weight());
        gone.extend(pushed.lost.iter().flat_map(|record| record.range.clone()));
        assert!(queue.bytes() <= 4 * weight() + 16, "{number}");
    }
    let kept = queue.records().flat_map(|record| record.range.clone());
    assert!(
        gone.into_iter().chain(kept).eq(1..=40),
        "in order, each once"
    );
}

#[test]
fn full_queue_gives_up_the_oldest_or_the_newest() {
    let mut oldest = queue(2, WhenFull::DropOldest);
    let mut newest = queue(2, WhenFull::DropNewest);
    for number in 1..=2 {
        push(&mut oldest, number);
        push(&mut newest, number);
    }
    assert_eq!(lost(&push(&mut oldest, 3)), [1]);
    assert_eq!(ranges(&oldest), [(2, 2), (3, 3)]);
    assert_eq!(lost(&push(&mut newest, 3)), [3]);
    assert_eq!(ranges(&newest), [(1, 1), (2, 2)]);
}

#[test]
fn only_neighbours_of_one_stream_merge() {
    let mut queue = queue(3, WhenFull::Coalesce);
    for (stream, number) in [("a", 1), ("b", 1), ("a", 2), ("b", 2)] {
        queue.push(record(stream, number), weight());
    }
    assert_eq!(ranges(&queue), [(1, 2), (1, 1), (2, 2)]);
    assert!(
        queue
            .records()
            .all(|record| record.range.end() - record.range.start() < 2)
    );
}

#[test]
fn records_go_again_in_order_before_new_ones() {
    let mut queue = queue(9, WhenFull::Coalesce);
    for number in 1..=4 {
        push(&mut queue, number);
    }
    let tickets: Vec<_> = (0..3).map(|_| hand_over(&mut queue).0).collect();
    queue.again(tickets[2]);
    queue.again(tickets[0]);
    assert!(queue.remove(tickets[1]).is_some());
    assert!(queue.remove(tickets[1]).is_none());
    let order: Vec<_> = (0..3).map(|_| hand_over(&mut queue).1).collect();
    assert_eq!(order, [1..=1, 3..=3, 4..=4]);
    assert!(queue.next(|record| record).is_none());
    assert_eq!(queue.bytes(), 3 * weight());
}

proptest! {
    /// Whatever happens, each number is in the queue, lost or removed, exactly once; and the bytes are those of the records.
    #[test]
    fn every_number_is_somewhere(seed in 1..u64::MAX, room in 1..6_u64, policy in 0..3_usize) {
        let policies = [WhenFull::Coalesce, WhenFull::DropOldest, WhenFull::DropNewest];
        let mut queue = queue(room, policies[policy]);
        let mut random = Random(seed);
        let mut out = Vec::new();
        let mut gone: Vec<u64> = Vec::new();
        for number in 1..=60 {
            for lost in push(&mut queue, number).lost {
                gone.extend(lost.range);
            }
            if random.percent(40) && let Some((ticket, _)) = queue.next(|record| record) {
                out.push(ticket);
            }
            if random.percent(30) && !out.is_empty() {
                let ticket = out.swap_remove(random.below(out.len() as u64) as usize);
                if random.percent(50) {
                    queue.again(ticket);
                } else if let Some(removed) = queue.remove(ticket) {
                    gone.extend(removed.range);
                }
            }
            let held = queue.records().flat_map(|record| record.range.clone());
            let mut all: Vec<u64> = held.chain(gone.iter().copied()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (1..=number).collect::<Vec<_>>());
            let weights = queue.records().map(|record| envelope::weight(&record.envelope));
            prop_assert_eq!(queue.bytes(), weights.sum::<u64>());
            prop_assert!(queue.bytes() <= (room + 1) * weight());
        }
    }
}
