//! Enums: their definitions, values that programs can hold, and several of one name.

use dataflux_common::kernel_fields::Lookup;

use super::{
    builder::{Builder, FLAG},
    lookups::{find, parse, unusable},
};
use crate::kernel::btf::types::kind;

#[test]
fn enumerators_are_those_of_the_definition() {
    let mut types = Builder::new();
    types.enumeration(kind::ENUM, "reason", &[]);
    types.typedef("reason", 1);
    let all = [
        ("NONE", 0),
        ("BUSY", 5),
        ("MASK", 0xffff_0000_u32.cast_signed()),
    ];
    types.enumeration(kind::ENUM, "reason", &all);
    types.enumeration(kind::ENUM, "declared", &[]);
    let btf = parse(&types);
    let expected = vec![("NONE", 0), ("BUSY", 5), ("MASK", 0xffff_0000)];
    assert_eq!(btf.enumerators("reason"), Ok(Some(expected)));
    assert_eq!(btf.enumerators("declared"), Ok(None));
    assert_eq!(btf.enumerators("other"), Ok(None));
}

#[test]
fn enums_of_one_name_must_agree() {
    const BUSY: &[Lookup] = &[Lookup::Enumerator {
        of: "reason",
        named: "BUSY",
    }];
    let mut types = Builder::new();
    for _ in 0..2 {
        types.enumeration(kind::ENUM, "reason", &[("BUSY", 5)]);
    }
    assert_eq!(
        parse(&types).enumerators("reason"),
        Ok(Some(vec![("BUSY", 5)]))
    );
    types.enumeration64("reason", &[("BUSY", 5), ("IDLE", 6)]);
    assert_eq!(find(&types, BUSY), Ok(Some(5)));
    assert!(parse(&types).enumerators("reason").is_err());
    types.enumeration(kind::ENUM, "reason", &[("BUSY", 6)]);
    let why = unusable(&types, BUSY);
    assert_eq!(why, "BUSY in enum reason is defined in several ways");
}

#[test]
fn enumerators_that_are_no_32_bit_numbers_are_refused() {
    const MASK: &[Lookup] = &[Lookup::Enumerator {
        of: "flags",
        named: "MASK",
    }];
    const LOW: &[Lookup] = &[Lookup::Enumerator {
        of: "flags",
        named: "LOW",
    }];
    let enums: [fn(&mut Builder); 4] = [
        |types| {
            types.enumeration(kind::ENUM | FLAG, "flags", &[("LOW", 1), ("MASK", -2)]);
        },
        |types| {
            types.enumeration(kind::ENUM, "flags", &[("LOW", 1), ("MASK", -1)]);
        },
        |types| {
            types.enumeration64("flags", &[("LOW", 1), ("MASK", 1 << 32)]);
        },
        |types| {
            types.enumeration64("flags", &[("LOW", 1), ("MASK", u32::MAX.into())]);
        },
    ];
    for add in enums {
        let mut types = Builder::new();
        add(&mut types);
        assert_eq!(find(&types, LOW), Ok(Some(1)));
        let why = unusable(&types, MASK);
        assert_eq!(
            why,
            "MASK in enum flags is not a number from 0 to 4294967294"
        );
        assert!(parse(&types).enumerators("flags").is_err());
    }
}
