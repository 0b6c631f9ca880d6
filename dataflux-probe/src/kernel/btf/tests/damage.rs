//! Bytes that are not what they should be: an error or an answer, never a panic and never without end.

use std::collections::{BTreeMap, BTreeSet};

use dataflux_common::{
    block_io,
    kernel_fields::{KernelField, Lookup},
    network, scheduler,
};
use proptest::prelude::*;

use super::builder::{Builder, HEADER_BYTES};
use crate::kernel::btf::{Btf, BtfError, types::kind};

/// The facts of every reader.
pub(super) fn facts() -> Vec<&'static KernelField> {
    let readers: [&[KernelField]; 3] = [
        &scheduler::KERNEL_FIELDS,
        &block_io::KERNEL_FIELDS,
        &network::KERNEL_FIELDS,
    ];
    readers.into_iter().flatten().collect()
}

/// Asks everything that the probe asks. How many answers there were.
pub(super) fn ask_everything(bytes: Vec<u8>) -> Result<usize, BtfError> {
    let btf = Btf::parse(bytes)?;
    let found = facts().into_iter().map(|fact| btf.resolve(fact));
    let found = found.filter(|answer| matches!(answer, Ok(Some(_)))).count();
    let tracepoints = facts().into_iter().flat_map(|fact| fact.alternatives);
    let tracepoints = tracepoints.filter(|lookup| match lookup {
        Lookup::Argument { of, .. } => btf.has_tracepoint(of) == Ok(true),
        _ => false,
    });
    let found = found + tracepoints.count();
    let enumerators = btf.enumerators("skb_drop_reason").ok().flatten();
    Ok(found + enumerators.map_or(0, |all| all.len()))
}

/// A type as C writes it, of as many bytes.
fn spelled(types: &mut Builder, c: &str) -> u32 {
    if let Some(to) = c.strip_suffix('*') {
        let to = spelled(types, to.trim_end());
        return types.pointer(to);
    }
    match c.split_once(' ') {
        Some(("struct", name)) => types.refer(name, kind::FWD, 0),
        Some(("enum", name)) => types.enumeration(kind::ENUM, name, &[]),
        _ => types.int(c, 4),
    }
}

/// Type information with the first alternative of every reader's facts: what a kernel would have of them.
fn small_kernel() -> Vec<u8> {
    let mut types = Builder::new();
    let mut structs: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut tracepoints: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    let mut enums: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for fact in facts() {
        match fact.alternatives[0] {
            Lookup::Member { of, path, size } => {
                structs.entry(of).or_default().insert((path, size));
            }
            Lookup::Argument { of, is, at } => {
                tracepoints
                    .entry(of)
                    .or_default()
                    .entry(at[0])
                    .or_insert(is);
            }
            Lookup::Enumerator { of, named } => enums.entry(of).or_default().push((named, 3)),
            Lookup::Otherwise(_) => {}
        }
    }
    for (name, members) in structs {
        let mut body = Vec::new();
        for (index, (path, size)) in members.iter().enumerate() {
            // From inside out; what lies in a path is in anonymous unions too.
            let mut inner = types.int("number", *size);
            for name in path[1..].iter().rev() {
                let holder = types.structure("", *size, &[(name, inner, 0)]);
                inner = types.union("", *size, &[("", holder, 0)]);
            }
            body.push((path[0], inner, 64 * index as u32));
        }
        types.structure(name, 8 * body.len() as u32, &body);
    }
    for (name, arguments) in tracepoints {
        let last = arguments.last_key_value().map_or(0, |(at, _)| *at);
        let arguments: Vec<_> = (0..=last)
            .map(|at| spelled(&mut types, arguments.get(&at).copied().unwrap_or("char")))
            .collect();
        types.tracepoint(name, &arguments);
    }
    for (name, all) in enums {
        types.enumeration(kind::ENUM, name, &all);
    }
    types.enumeration(kind::ENUM, "skb_drop_reason", &[("NONE", 0), ("MORE", 1)]);
    types.bytes()
}

#[test]
fn the_small_kernel_has_every_fact() {
    let tracepoints = facts()
        .into_iter()
        .flat_map(|fact| fact.alternatives)
        .filter(|lookup| matches!(lookup, Lookup::Argument { .. }));
    // A completion has a status or an error, not both.
    let expected = facts().len() - 1 + tracepoints.count() + 2;
    assert_eq!(ask_everything(small_kernel()), Ok(expected));
}

#[test]
fn every_truncation_is_an_error() {
    let whole = small_kernel();
    for length in 0..whole.len() {
        let answer = ask_everything(whole[..length].to_vec());
        assert!(
            matches!(answer, Err(BtfError::Damaged(_))),
            "{length} bytes: {answer:?}"
        );
    }
}

/// A header that fits what is left, so that the search meets the damage.
#[test]
fn every_truncation_of_the_types_ends() {
    let whole = small_kernel();
    let types = u32::from_le_bytes(whole[12..16].try_into().unwrap());
    let mut cut_off = 0;
    for length in 0..types {
        let mut bytes = whole.clone();
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        cut_off += u32::from(ask_everything(bytes).is_err());
    }
    // Only where one type ends and the next begins is nothing cut off.
    assert!(cut_off > types * 9 / 10, "{cut_off} of {types}");
}

#[test]
fn every_changed_byte_is_an_error_or_another_answer() {
    let whole = small_kernel();
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let answer = ask_everything(bytes);
            let in_frame = at < 8;
            assert!(
                !in_frame || answer.is_err(),
                "byte {at} ^ {change:#x}: {answer:?}"
            );
        }
    }
}

/// Names that are asked for, and none.
const NAMES: [&str; 8] = [
    "task_struct",
    "pid",
    "net_device",
    "nd_net",
    "net",
    "btf_trace_kfree_skb",
    "rqf_flags",
    "",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(ask_everything(bytes).is_err());
    }

    /// Arbitrary types of known kinds behind a good header, with names that are asked for.
    #[test]
    fn arbitrary_types_end(
        all in prop::collection::vec(
            (0..NAMES.len(), 1..20u32, any::<bool>(), 0..24u32, prop::collection::vec(0..24u32, 9)),
            0..40,
        ),
    ) {
        let mut types = Builder::new();
        let places = NAMES.map(|name| types.string(name));
        for (name, kind, flag, to, body) in all {
            let (length, words) = match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => (0, 1),
                kind::ARRAY => (0, 3),
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => (3, 9),
                kind::ENUM | kind::FUNC_PROTO => (4, 8),
                _ => (0, 0),
            };
            // Every third word is the name of a member.
            let word = |(at, word): (usize, &u32)| match at % 3 {
                0 => places[*word as usize % places.len()],
                _ => *word,
            };
            let body: Vec<_> = body.iter().enumerate().map(word).take(words).collect();
            types.add(NAMES[name], kind | u32::from(flag) << 31, length, to, &body);
        }
        prop_assert!(ask_everything(types.bytes()).is_ok());
    }

    #[test]
    fn spliced_bytes_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 4]>()), 1..20),
    ) {
        let mut bytes = small_kernel();
        for (at, word) in changes {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES - word.len());
            bytes[at..at + word.len()].copy_from_slice(&word);
        }
        // Either is fine; what counts is that there is an end.
        let _answer = ask_everything(bytes);
    }
}

fn refusal(bytes: Vec<u8>) -> String {
    Btf::parse(bytes).err().unwrap().to_string()
}

#[test]
fn headers_may_be_longer_but_not_shorter() {
    let mut types = Builder::new();
    types.tracepoint("wakeup", &[]);
    for header_bytes in [24, 25, 32, 4096] {
        let btf = Btf::parse(types.bytes_behind(header_bytes)).unwrap();
        assert_eq!(btf.has_tracepoint("wakeup"), Ok(true), "{header_bytes}");
    }
    let mut short = types.bytes();
    short[4] = 8;
    assert_eq!(
        refusal(short),
        "damaged type information: a header of 8 bytes"
    );
}

#[test]
fn what_this_probe_cannot_read_is_said() {
    let mut swapped = small_kernel();
    swapped[..2].copy_from_slice(&[0xeb, 0x9f]);
    assert_eq!(
        refusal(swapped),
        "type information of a machine with the other byte order"
    );
    let mut other = small_kernel();
    other[0] = 0;
    assert_eq!(
        refusal(other),
        "damaged type information: it begins with 0xeb00, not 0xeb9f"
    );
    let mut newer = small_kernel();
    newer[2] = 2;
    assert!(refusal(newer).starts_with("type information of version 2 with flags 0x0;"));
    let mut types = Builder::new();
    types.refer("", 20, 0);
    let unknown = "type information with types of kind 20, which this probe does not know";
    assert_eq!(refusal(types.bytes()), unknown);
}

#[test]
fn every_kind_is_stepped_over_by_its_own_length() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.add("variable", kind::VAR, 0, int, &[1]);
    types.add(".data", kind::DATASEC, 2, 8, &[2, 0, 4, 2, 4, 4]);
    types.add("tag", kind::DECL_TAG, 0, int, &[u32::MAX]);
    types.add("double", kind::FLOAT, 0, 8, &[]);
    types.enumeration64("wide", &[("BIG", 1 << 40), ("SMALL", 1)]);
    // A function keeps its linkage where others count what follows.
    types.add("function", kind::FUNC, 2, 1, &[]);
    types.enumeration(kind::ENUM, "narrow", &[("A", 0), ("B", 1)]);
    // More members than 16 bits count.
    let many = vec![("", int, 0); 0x1_0001];
    types.structure("many", 4, &many);
    types.structure("task_struct", 8, &[("pid", int, 32)]);
    let btf = Btf::parse(types.bytes()).unwrap();
    assert_eq!(
        btf.resolve(&scheduler::KERNEL_FIELDS[scheduler::TASK_PID]),
        Ok(Some(4))
    );
}
