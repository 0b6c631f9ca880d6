//! Every form in which a kernel may have a fact.

use dataflux_common::kernel_fields::{KernelField, Lookup, argument, member};

use super::builder::{Builder, FLAG};
use crate::kernel::btf::{Btf, BtfError, types::kind};

pub(super) fn parse(builder: &Builder) -> Btf {
    Btf::parse(builder.bytes()).unwrap()
}

pub(super) fn find(builder: &Builder, alternatives: &[Lookup]) -> Result<Option<u32>, BtfError> {
    let fact = KernelField {
        name: "FACT",
        alternatives: alternatives.to_vec().leak(), // facts are static
    };
    parse(builder).resolve(&fact)
}

pub(super) fn unusable(builder: &Builder, alternatives: &[Lookup]) -> String {
    match find(builder, alternatives) {
        Err(BtfError::Unusable(why)) => why,
        other => panic!("not unusable, but {other:?}"),
    }
}

fn damaged(builder: &Builder, alternatives: &[Lookup]) -> String {
    match find(builder, alternatives) {
        Err(BtfError::Damaged(why)) => why,
        other => panic!("not damaged, but {other:?}"),
    }
}

/// Wherever the argument is.
const ALL: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8];
const PID: &[Lookup] = &[member("task", &["pid"], 4)];

#[test]
fn members_of_anonymous_structs_and_unions_count_from_the_outermost_struct() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let inner = types.structure("", 8, &[("cpu", int, 0), ("pid", int, 32)]);
    let qualified = types.refer("", kind::CONST, inner);
    let union = types.union("", 8, &[("raw", int, 0), ("", qualified, 0)]);
    types.structure("task", 24, &[("flags", int, 0), ("", union, 64)]);
    assert_eq!(find(&types, PID), Ok(Some(12)));
    assert_eq!(find(&types, &[member("task", &["raw"], 4)]), Ok(Some(8)));
    assert_eq!(find(&types, &[member("task", &["tgid"], 4)]), Ok(None));
    assert_eq!(find(&types, &[member("process", &["pid"], 4)]), Ok(None));
}

#[test]
fn paths_lead_through_named_members_and_typedefs_but_not_through_pointers() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let net = types.structure("net", 16, &[("id", int, 0), ("inum", int, 32)]);
    let pointer = types.pointer(net);
    let possible = types.structure("", 8, &[("net", pointer, 0)]);
    let possible = types.typedef("possible_net_t", possible);
    types.structure("device", 32, &[("own", net, 32), ("other", possible, 192)]);
    let inum = member("device", &["own", "inum"], 4);
    assert_eq!(find(&types, &[inum]), Ok(Some(8)));
    let pointer = member("device", &["other", "net"], 8);
    assert_eq!(find(&types, &[pointer]), Ok(Some(24)));
    let behind = member("device", &["other", "net", "id"], 4);
    assert_eq!(find(&types, &[behind]), Ok(None));
}

#[test]
fn offsets_of_structs_that_mark_bit_fields_do_not_contain_their_sizes() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let members = [
        ("flag", int, 8 << 24),
        ("pid", int, 32),
        ("wide", int, 32 << 24 | 64),
    ];
    types.members(kind::STRUCT | FLAG, "task", 12, &members);
    assert_eq!(find(&types, PID), Ok(Some(4)));
    for bit_field in [
        &[member("task", &["flag"], 4)],
        &[member("task", &["wide"], 4)],
    ] {
        assert!(unusable(&types, bit_field).ends_with("is a bit-field"));
    }
    assert_eq!(find(&types, &[member("task", &["flag", "x"], 4)]), Ok(None));
}

#[test]
fn offsets_of_structs_that_mark_no_bit_fields_have_all_bits() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.structure("task", 0x400_0000, &[("pid", int, 0x100_0020)]);
    assert_eq!(find(&types, PID), Ok(Some(0x20_0004)));
}

#[test]
fn bit_fields_are_told_by_their_integer_where_the_struct_does_not() {
    for (first_bit, bits) in [(0, 31), (8, 32), (4, 28)] {
        let mut types = Builder::new();
        let int = types.int_of_bits(4, first_bit, bits);
        let typedef = types.typedef("pid_t", int);
        types.structure("task", 8, &[("pid", typedef, 0)]);
        assert_eq!(unusable(&types, PID), "task.pid is a bit-field");
    }
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.structure("task", 8, &[("pid", int, 4)]);
    assert_eq!(unusable(&types, PID), "task.pid does not begin at a byte");
}

#[test]
fn structs_of_one_name_must_agree_where_they_have_the_member() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.structure("task", 8, &[("other", int, 0)]);
    types.structure("task", 8, &[("pid", int, 32)]);
    types.structure("task", 16, &[("more", int, 0), ("pid", int, 32)]);
    assert_eq!(find(&types, PID), Ok(Some(4)));
    types.structure("task", 16, &[("pid", int, 64)]);
    assert_eq!(unusable(&types, PID), "task.pid is defined in several ways");
}

#[test]
fn sizes_are_those_behind_typedefs_of_arrays_pointers_and_structs() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let pair = types.structure("pair", 8, &[]);
    let row = types.array(pair, 3);
    let matrix = types.array(row, 5);
    let matrix = types.typedef("matrix", matrix);
    let pointer = types.pointer(matrix);
    let volatile = types.refer("", kind::VOLATILE, pointer);
    let float = types.add("double", kind::FLOAT, 0, 8, &[]);
    let wide = types.enumeration64("wide", &[("BIG", 1 << 40)]);
    let members = [
        ("matrix", matrix, 0),
        ("at", volatile, 960),
        ("ratio", float, 1024),
    ];
    let members = [
        &members[..],
        &[("wide", wide, 1088), ("pid", int, 1152), ("end", int, 1184)],
    ];
    types.structure("task", 152, &members.concat());
    assert_eq!(
        find(&types, &[member("task", &["matrix"], 120)]),
        Ok(Some(0))
    );
    assert_eq!(find(&types, &[member("task", &["at"], 8)]), Ok(Some(120)));
    assert_eq!(
        find(&types, &[member("task", &["ratio"], 8)]),
        Ok(Some(128))
    );
    assert_eq!(find(&types, &[member("task", &["wide"], 8)]), Ok(Some(136)));
    assert_eq!(find(&types, &[member("task", &["end"], 4)]), Ok(Some(148)));
    let other = unusable(&types, &[member("task", &["pid"], 8), Lookup::Otherwise(7)]);
    assert_eq!(other, "task.pid has 4 bytes, not 8");
}

#[test]
fn members_beyond_the_end_of_their_struct_are_damage() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.structure("task", 8, &[("pid", int, 40)]);
    assert_eq!(damaged(&types, PID), "task.pid lies outside of its struct");
}

#[test]
fn types_that_contain_themselves_end_the_search() {
    let mut types = Builder::new();
    let typedef = types.next();
    types.typedef("round", typedef);
    let int = types.int("int", 4);
    types.structure("task", 8, &[("pid", typedef, 0), ("cpu", int, 32)]);
    assert_eq!(damaged(&types, PID), "typedefs nest without end");

    // Followed to the end, each of these would be a search of more than 2^30 steps.
    let mut types = Builder::new();
    let itself = types.next();
    types.structure("task", 8, &[("", itself, 0), ("", itself, 0)]);
    assert_eq!(find(&types, PID), Ok(None));
    let mut types = Builder::new();
    for next in 2..34 {
        types.structure(
            if next == 2 { "task" } else { "" },
            8,
            &[("", next, 0), ("", next, 0)],
        );
    }
    types.structure("", 8, &[]);
    assert_eq!(find(&types, PID), Ok(None));

    let mut types = Builder::new();
    let array = types.next();
    types.array(array, 1);
    let pointer = types.next();
    types.pointer(pointer);
    types.structure("task", 8, &[("pid", array, 0)]);
    types.tracepoint("switch", &[pointer]);
    assert_eq!(damaged(&types, PID), "arrays nest without end");
    let argument = damaged(&types, &[argument("switch", "int", ALL)]);
    assert_eq!(argument, "pointers nest without end");
}

#[test]
fn numbers_that_overflow_are_damage() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let array = types.array(int, 1 << 31);
    let inner = types.structure("", 8, &[("tgid", int, u32::MAX)]);
    types.structure("task", 8, &[("pid", array, 0), ("", inner, 64)]);
    assert_eq!(damaged(&types, PID), "an array of more than 4 GiB");
    let tgid = damaged(&types, &[member("task", &["tgid"], 4)]);
    assert_eq!(tgid, "the offset of tgid");
}

#[test]
fn arguments_are_found_by_their_type_as_c_writes_it() {
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4);
    let byte = types.int("unsigned char", 1);
    let status = types.typedef("blk_status_t", byte);
    let reason = types.enumeration(kind::ENUM, "skb_drop_reason", &[("NONE", 0)]);
    let request = types.structure("request", 8, &[]);
    let request = types.pointer(request);
    let volatile = types.refer("", kind::VOLATILE, int);
    let socket = types.refer("sock", kind::FWD, 0);
    let tagged = types.refer("user", kind::TYPE_TAG, socket);
    let tagged = types.refer("", kind::CONST, tagged);
    let socket = types.pointer(tagged);
    let socket = types.refer("", kind::RESTRICT, socket);
    let pages = types.refer("page", kind::FWD | FLAG, 0);
    let pages = types.pointer(pages);
    let pages = types.pointer(pages);
    let data = types.pointer(0);
    let all = [
        volatile, status, reason, request, socket, pages, data, data, int,
    ];
    types.tracepoint("complete", &all);
    assert_eq!(
        find(&types, &[argument("complete", "unsigned int", ALL)]),
        Ok(Some(0))
    );
    assert_eq!(
        find(&types, &[argument("complete", "blk_status_t", ALL)]),
        Ok(Some(1))
    );
    assert_eq!(
        find(&types, &[argument("complete", "enum skb_drop_reason", ALL)]),
        Ok(Some(2))
    );
    assert_eq!(
        find(&types, &[argument("complete", "struct request *", ALL)]),
        Ok(Some(3))
    );
    assert_eq!(
        find(&types, &[argument("complete", "struct sock *", ALL)]),
        Ok(Some(4))
    );
    assert_eq!(
        find(&types, &[argument("complete", "union page **", ALL)]),
        Ok(Some(5))
    );
    assert_eq!(
        find(&types, &[argument("complete", "void *", ALL)]),
        Ok(Some(6))
    );
    for absent in [
        &[argument("complete", "request *", ALL)],
        &[argument("complete", "unsigned char", ALL)],
    ] {
        assert_eq!(find(&types, absent), Ok(None));
    }
    assert_eq!(find(&types, &[argument("issue", "void *", ALL)]), Ok(None));
}

#[test]
fn an_argument_that_has_moved_is_unusable_and_not_another_one() {
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4);
    let task = types.structure("task_struct", 8, &[]);
    let task = types.pointer(task);
    types.tracepoint("switch", &[int, task, task]);
    let at = |is, at| [argument("switch", is, at)];
    let task = "struct task_struct *";
    assert_eq!(find(&types, &at(task, &[1])), Ok(Some(1)));
    assert_eq!(find(&types, &at(task, &[2])), Ok(Some(2)));
    assert_eq!(find(&types, &at(task, &[0, 2])), Ok(Some(2)));
    assert_eq!(find(&types, &at("bool", &[0])), Ok(None));
    assert_eq!(
        unusable(&types, &at("unsigned int", &[3])),
        "`unsigned int` is argument 0 of switch, where no program expects it"
    );
}

#[test]
fn qualifiers_of_members_change_nothing() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let mut qualified = types.typedef("inner_t", int);
    for kind in [kind::CONST, kind::VOLATILE, kind::TYPE_TAG, kind::RESTRICT] {
        let tag = if kind == kind::TYPE_TAG { "rcu" } else { "" };
        qualified = types.refer(tag, kind, qualified);
        qualified = types.typedef("outer_t", qualified);
    }
    types.structure("task", 8, &[("pid", qualified, 32)]);
    assert_eq!(find(&types, PID), Ok(Some(4)));
    // A qualified bit-field stays one.
    let bits = types.int_of_bits(4, 0, 3);
    let bits = types.refer("", kind::CONST, bits);
    types.structure("flags", 8, &[("pid", bits, 32)]);
    let flags = unusable(&types, &[member("flags", &["pid"], 4)]);
    assert_eq!(flags, "flags.pid is a bit-field");
}

#[test]
fn tracepoints_are_there_or_absent_or_something_else() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let pointer = types.pointer(int);
    let nothing = types.pointer(0);
    types.structure("btf_trace_wakeup", 0, &[]);
    types.tracepoint("wakeup", &[]);
    types.typedef("btf_trace_number", int);
    types.typedef("btf_trace_pointer", pointer);
    types.typedef("btf_trace_nothing", nothing);
    let btf = parse(&types);
    assert_eq!(btf.has_tracepoint("wakeup"), Ok(true));
    assert_eq!(btf.has_tracepoint("switch"), Ok(false));
    assert_eq!(btf.has_tracepoint(""), Ok(false));
    for other in ["number", "pointer", "nothing"] {
        let why = format!("btf_trace_{other} is not a pointer to a function");
        assert_eq!(btf.has_tracepoint(other), Err(BtfError::Unusable(why)));
    }
}

#[test]
fn the_first_alternative_that_the_kernel_has_counts() {
    const STATE: &[Lookup] = &[
        member("task", &["__state"], 4),
        member("task", &["state"], 8),
    ];
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let long = types.int("long", 8);
    assert_eq!(find(&types, STATE), Ok(None));
    types.structure("task", 16, &[("state", long, 64)]);
    assert_eq!(find(&types, STATE), Ok(Some(8)));
    types.structure("task", 16, &[("__state", int, 32)]);
    assert_eq!(find(&types, STATE), Ok(Some(4)));
}

#[test]
fn the_value_for_kernels_that_do_not_describe_it_is_not_used_where_they_do() {
    const BIT: &[Lookup] = &[
        Lookup::Enumerator {
            of: "rqf_flags",
            named: "FLUSH",
        },
        Lookup::Otherwise(4),
    ];
    let mut types = Builder::new();
    types.enumeration(kind::ENUM, "rqf_flags", &[]);
    assert_eq!(find(&types, BIT), Ok(Some(4)));
    types.enumeration(kind::ENUM, "rqf_flags", &[("STARTED", 0)]);
    assert_eq!(find(&types, BIT), Ok(None));
    let mut types = Builder::new();
    types.enumeration(kind::ENUM, "rqf_flags", &[("FLUSH", 1)]);
    assert_eq!(find(&types, BIT), Ok(Some(1)));
}
