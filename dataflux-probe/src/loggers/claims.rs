//! Claims: whether two outputs could write to one place, also where a name is only known later.

/// A piece of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Character(char),
    Digit,
    /// The host's name: the same one wherever it stands.
    Host,
}

/// What `{date}` looks like; `d` is any digit.
pub(super) const DATE: &str = "dddd-dd-dd";
/// What `{time}` looks like, as closed files have it in their names.
pub(super) const TIME: &str = "ddddddddTdddddd.dddZ";

/// Whether two claims can be one and the same place: `{date}` and `{time}` stand for digits in their order, `{host}` for any
/// name.
pub(crate) fn collide(one: &str, other: &str) -> bool {
    one == other || meet(&symbols(one), &symbols(other))
}

fn symbols(claim: &str) -> Vec<Symbol> {
    let shape = |shape: &str| -> Vec<Symbol> {
        let symbol = |c| match c {
            'd' => Symbol::Digit,
            c => Symbol::Character(c),
        };
        shape.chars().map(symbol).collect()
    };
    let mut symbols = Vec::new();
    let mut rest = claim;
    while let Some(first) = rest.chars().next() {
        let known = [
            ("{date}", shape(DATE)),
            ("{time}", shape(TIME)),
            ("{host}", vec![Symbol::Host]),
        ];
        let found = known
            .into_iter()
            .find_map(|(name, symbols)| Some((rest.strip_prefix(name)?, symbols)));
        let (after, these) =
            found.unwrap_or_else(|| (&rest[first.len_utf8()..], vec![Symbol::Character(first)]));
        symbols.extend(these);
        rest = after;
    }
    symbols
}

fn meet(one: &[Symbol], other: &[Symbol]) -> bool {
    let (Some((&first, rest)), Some((&other_first, other_rest))) =
        (one.split_first(), other.split_first())
    else {
        return one.is_empty() && other.is_empty();
    };
    match (first, other_first) {
        (Symbol::Host, Symbol::Host) => meet(rest, other_rest),
        (Symbol::Host, _) => named(rest, other),
        (_, Symbol::Host) => named(other_rest, one),
        (Symbol::Character(c), Symbol::Character(other_c)) if c != other_c => false,
        (Symbol::Character(c), Symbol::Digit) | (Symbol::Digit, Symbol::Character(c))
            if !c.is_ascii_digit() =>
        {
            false
        }
        _ => meet(rest, other_rest),
    }
}

/// Whether the host could have a name that `other` begins with, so that what comes after it is `rest`.
fn named(rest: &[Symbol], other: &[Symbol]) -> bool {
    let longest = other
        .iter()
        .take_while(|symbol| !matches!(symbol, Symbol::Character('/') | Symbol::Host))
        .count();
    (1..=longest).any(|length| meet(rest, &other[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_collide_if_they_could_be_one_place() {
        for (one, other, expected) in [
            ("/x/a", "/x/a", true),
            ("/x/a", "/x/ab", false),
            ("/x/{date}", "/x/2026-11-21", true),
            ("/x/{date}", "/x/today", false),
            ("/x/{date}", "/x/2026-11-2", false),
            ("/x/{host}.a", "/x/web.a", true),
            ("/x/{host}.a", "/x/web.b", false),
            ("/x/{host}/a", "/x/a", false),
            ("/x/{host}", "/x/", false),
            ("/x/{host}", "/x/y/z", false),
            ("/x/{host}-{date}", "/x/web-2026-11-21", true),
            ("/x/{host}-{date}", "/x/{host}-{date}", true),
            ("/x/{host}-b", "/x/{host}", false),
            ("/x/{host}-{date}", "/x/{host}-2026-11-21", true),
            ("/x/{date}", "/x/{time}", false),
            ("/x/a-{time}.b", "/x/a-20261121T221501.000Z.b", true),
            ("standard output", "/x/{host}", false),
            ("127.0.0.1:9100", "127.0.0.1:9101", false),
        ] {
            assert_eq!(collide(one, other), expected, "{one} and {other}");
            assert_eq!(collide(other, one), expected, "{other} and {one}");
        }
    }
}
