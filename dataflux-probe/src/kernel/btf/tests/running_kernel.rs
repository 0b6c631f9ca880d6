//! The running kernel's own type information: it says what another reader of it says, and it may be damaged anywhere.
//!
//! The other reader is bpftool; without it, or without type information, the tests that need it say so and pass.

use std::{collections::BTreeMap, process::Command};

use dataflux_common::kernel_fields::{KernelField, Lookup};
use proptest::prelude::*;
use serde::Deserialize;

use super::damage::{ask_everything, facts};
use crate::kernel::btf::{Btf, BtfError};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types.
fn vmlinux() -> Option<Vec<u8>> {
    std::fs::read(VMLINUX)
        .map_err(|error| skipped(&format!("{VMLINUX}: {error}")))
        .ok()
}

#[expect(clippy::print_stderr, reason = "a test that proves nothing says why")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// One type as bpftool lists it. What its kind does not have is empty.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Listed {
    kind: String,
    name: String,
    size: u32,
    type_id: usize,
    nr_elems: u32,
    nr_bits: u32,
    members: Vec<ListedMember>,
    values: Vec<ListedValue>,
    params: Vec<ListedParameter>,
}

#[derive(Deserialize)]
struct ListedMember {
    name: String,
    type_id: usize,
    bits_offset: u32,
    #[serde(default)]
    bitfield_size: u32,
}

#[derive(Deserialize)]
struct ListedValue {
    name: String,
    val: serde_json::Number,
}

#[derive(Deserialize)]
struct ListedParameter {
    type_id: usize,
}

const ANONYMOUS: &str = "(anon)";

/// All types; number 1 is the first.
#[derive(Deserialize)]
struct Listing {
    types: Vec<Listed>,
}

impl Listing {
    fn read() -> Option<Self> {
        let arguments = ["-j", "btf", "dump", "file", VMLINUX, "format", "raw"];
        let places = ["bpftool", "/usr/sbin/bpftool"]; // not everyone's PATH has sbin
        let output = places
            .iter()
            .find_map(|place| Command::new(place).args(arguments).output().ok());
        match output {
            Some(output) if output.status.success() => {
                Some(serde_json::from_slice(&output.stdout).unwrap())
            }
            Some(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                skipped(&format!("bpftool: {why}"));
                None
            }
            None => {
                skipped("there is no bpftool");
                None
            }
        }
    }

    /// `None` is void.
    fn get(&self, id: usize) -> Option<&Listed> {
        id.checked_sub(1).map(|index| &self.types[index])
    }

    fn behind_names(&self, id: usize) -> Option<&Listed> {
        let found = self.get(id)?;
        match found.kind.as_str() {
            "TYPEDEF" | "CONST" | "VOLATILE" | "RESTRICT" | "TYPE_TAG" => {
                self.behind_names(found.type_id)
            }
            _ => Some(found),
        }
    }

    fn size(&self, id: usize) -> Option<u32> {
        let found = self.behind_names(id)?;
        Some(match found.kind.as_str() {
            "PTR" => 8,
            "ARRAY" => found.nr_elems * self.size(found.type_id)?,
            _ => found.size,
        })
    }

    /// Name, offset in bits and type of every member that is no bit-field, those of anonymous ones too.
    fn members<'a>(&'a self, of: &'a Listed, from: u32) -> Vec<(&'a str, u32, usize)> {
        let mut all = Vec::new();
        for member in &of.members {
            let bits = from + member.bits_offset;
            let inner = self.behind_names(member.type_id).unwrap();
            if member.name == ANONYMOUS {
                all.extend(self.members(inner, bits));
            } else if member.bitfield_size == 0
                && (inner.kind != "INT" || inner.nr_bits == 8 * inner.size)
            {
                all.push((&*member.name, bits, member.type_id));
            }
        }
        all
    }

    /// A type as C writes it, without qualifiers.
    fn written(&self, id: usize) -> String {
        let Some(found) = self.get(id) else {
            return "void".into();
        };
        match found.kind.as_str() {
            "CONST" | "VOLATILE" | "RESTRICT" | "TYPE_TAG" => self.written(found.type_id),
            "PTR" => format!("{} *", self.written(found.type_id)).replace("* *", "**"),
            "STRUCT" => format!("struct {}", found.name),
            "ENUM" => format!("enum {}", found.name),
            _ => found.name.clone(),
        }
    }

    fn look_up(&self, lookup: &Lookup) -> Option<u32> {
        let named = |kind: &'static str, name: String| {
            self.types
                .iter()
                .find(move |listed| listed.kind == kind && listed.name == name)
        };
        match lookup {
            Lookup::Member { of, path, size } => {
                let mut inside = named("STRUCT", (*of).into())?;
                let (mut bits, mut last) = (0, 0);
                for step in *path {
                    let all = self.members(inside, bits);
                    (_, bits, last) = *all.iter().find(|(name, ..)| name == step)?;
                    inside = self.behind_names(last)?;
                }
                assert_eq!(self.size(last), Some(*size), "{of} {path:?}");
                Some(bits / 8)
            }
            Lookup::Argument { of, is, at } => {
                let typedef = named("TYPEDEF", format!("btf_trace_{of}"))?;
                let prototype = self.get(self.get(typedef.type_id)?.type_id)?;
                let arguments = (0..).zip(&prototype.params[1..]);
                let mut fitting = arguments
                    .filter(|(_, parameter)| self.written(parameter.type_id) == *is)
                    .map(|(position, _)| position);
                fitting.find(|position| at.contains(position))
            }
            Lookup::Enumerator { of, named: name } => {
                let values = &named("ENUM", (*of).into())?.values;
                let found = values.iter().find(|value| value.name == *name)?;
                found.val.as_u64()?.try_into().ok()
            }
            Lookup::Otherwise(value) => Some(*value),
        }
    }
}

#[test]
fn every_fact_is_what_bpftool_says() {
    let Some((bytes, listing)) = vmlinux().zip(Listing::read()) else {
        return;
    };
    let btf = Btf::parse(bytes).unwrap();
    for fact in facts() {
        let expected = fact
            .alternatives
            .iter()
            .find_map(|lookup| listing.look_up(lookup));
        assert_eq!(btf.resolve(fact), Ok(expected), "{fact}");
    }
    let reasons = listing
        .types
        .iter()
        .find(|listed| listed.name == "skb_drop_reason" && !listed.values.is_empty());
    let expected = reasons.map(|listed| {
        let values = listed.values.iter();
        let pair = |value: &ListedValue| (value.name.clone(), value.val.as_u64().unwrap() as u32);
        values.map(pair).collect::<Vec<_>>()
    });
    let found = btf.enumerators("skb_drop_reason").unwrap().map(|all| {
        let pair = |(name, value): (&str, u32)| (name.to_owned(), value);
        all.into_iter().map(pair).collect::<Vec<_>>()
    });
    assert_eq!(found, expected);
}

#[test]
fn the_members_of_all_structs_are_what_bpftool_says() {
    let Some((bytes, listing)) = vmlinux().zip(Listing::read()) else {
        return;
    };
    let btf = Btf::parse(bytes).unwrap();
    let mut by_name: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for listed in &listing.types {
        if matches!(listed.kind.as_str(), "STRUCT" | "UNION") {
            by_name.entry(&listed.name).or_default().push(listed);
        }
    }
    let mut compared = 0;
    for (name, definitions) in by_name {
        // Where several have a name, which one is meant is a matter of its own.
        let [listed] = definitions[..] else { continue };
        let members = listing.members(listed, 0);
        for (member, bits, id) in &members {
            let Some(size) = listing.size(*id).filter(|_| bits % 8 == 0) else {
                continue;
            };
            assert_eq!(
                btf.member(name, &[member], size),
                Ok(Some(bits / 8)),
                "{name}.{member}"
            );
            compared += 1;
        }
    }
    assert!(compared > 10_000, "only {compared} members");
}

#[test]
fn nothing_about_the_running_kernel_is_unusable() {
    let Some(bytes) = vmlinux() else { return };
    let btf = Btf::parse(bytes).unwrap();
    for fact in facts() {
        assert!(btf.resolve(fact).is_ok(), "{fact}: {:?}", btf.resolve(fact));
    }
    assert_eq!(btf.has_tracepoint("sched_switch"), Ok(true));
    assert_eq!(btf.has_tracepoint("no_such_tracepoint"), Ok(false));
    let absent = KernelField {
        name: "ABSENT",
        alternatives: &[Lookup::Member {
            of: "task_struct",
            path: &["no_such_member"],
            size: 4,
        }],
    };
    assert_eq!(btf.resolve(&absent), Ok(None));
}

#[test]
fn truncated_it_is_damaged() {
    let Some(whole) = vmlinux() else { return };
    for part in 0..200 {
        let bytes = whole[..whole.len() / 200 * part].to_vec();
        let answer = ask_everything(bytes);
        assert!(
            matches!(answer, Err(BtfError::Damaged(_))),
            "{part}/200: {answer:?}"
        );
    }
}

proptest! {
    // Each case reads some MB.
    #![proptest_config(ProptestConfig {
        cases: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// With a header that fits what is left.
    #[test]
    fn with_fewer_types_it_is_an_error_or_an_answer(at in any::<prop::sample::Index>()) {
        if let Some(mut bytes) = vmlinux() {
            let types = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
            bytes[12..16].copy_from_slice(&(at.index(types as usize) as u32).to_le_bytes());
            let _answer = ask_everything(bytes);
        }
    }

    #[test]
    fn with_changed_bytes_it_is_an_error_or_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..8),
    ) {
        if let Some(mut bytes) = vmlinux() {
            for (at, change) in changes {
                let at = at.index(bytes.len());
                bytes[at] ^= change;
            }
            let _answer = ask_everything(bytes);
        }
    }
}
