//! The kernel's files of protocols and sockets, word by word: each calls `visit` with the place of a field among all of the
//! file, its group, its name and its value.

use anyhow::{Context as _, ensure};

/// What happens to a field.
pub(super) trait Visit: FnMut(usize, &str, &str, &str) -> anyhow::Result<()> {}
impl<T: FnMut(usize, &str, &str, &str) -> anyhow::Result<()>> Visit for T {}

/// `snmp` and `netstat`: a line with the names of a group's fields, then one with their values.
pub(super) fn columns(text: &str, mut visit: impl Visit) -> anyhow::Result<()> {
    let mut lines = text.lines();
    let mut place = 0;
    while let Some(names) = lines.next() {
        let (group, names) = names
            .split_once(':')
            .with_context(|| format!("`{names}` has no colon"))?;
        let values = lines
            .next()
            .and_then(|line| line.strip_prefix(group)?.strip_prefix(':'));
        let values = values.with_context(|| format!("{group} has no values"))?;
        let mut values = values.split_ascii_whitespace();
        for name in names.split_ascii_whitespace() {
            let value = values.next();
            let value = value.with_context(|| format!("{group}{name} has no value"))?;
            visit(place, group, name, value)?;
            place += 1;
        }
        ensure!(
            values.next().is_none(),
            "{group} has more values than fields"
        );
    }
    Ok(())
}

/// `snmp6`: a line for each field, whose group is the beginning of its name up to the 6.
pub(super) fn lines(text: &str, mut visit: impl Visit) -> anyhow::Result<()> {
    for (place, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
            anyhow::bail!("`{line}` is not a name and a value");
        };
        // Some have no 6 in their name, and are none that anybody asks for.
        let end = name.find('6').map_or(0, |at| at + 1);
        visit(place, &name[..end], &name[end..], value)?;
    }
    Ok(())
}

/// `sockstat` and `sockstat6`: a line for each group, with its fields and their values by turns.
pub(super) fn pairs(text: &str, mut visit: impl Visit) -> anyhow::Result<()> {
    let mut place = 0;
    for line in text.lines() {
        let (group, rest) = line
            .split_once(':')
            .with_context(|| format!("`{line}` has no colon"))?;
        let mut words = rest.split_ascii_whitespace();
        while let Some(name) = words.next() {
            let value = words.next();
            let value = value.with_context(|| format!("{group} {name} has no value"))?;
            visit(place, group, name, value)?;
            place += 1;
        }
    }
    Ok(())
}

/// What the kernel tells of the connections that its firewall tracks, over all CPUs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conntrack {
    /// How many there are.
    pub(super) entries: u64,
    /// By [`EVENTS`].
    pub(super) events: [u64; EVENTS.len()],
}

/// The columns of `stat/nf_conntrack` that count what went wrong.
pub(super) const EVENTS: [&str; 4] = ["invalid", "insert_failed", "drop", "early_drop"];

/// `stat/nf_conntrack`: a line with the names of the columns, then one for each CPU, in hexadecimal digits. The number of
/// entries is the whole one in each line.
pub(super) fn conntrack(text: &str) -> anyhow::Result<Conntrack> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().context("it is empty")?.split(' ').collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let column = |wanted: &str| {
        let at = names.iter().position(|&name| name == wanted);
        at.with_context(|| format!("it has no column {wanted}"))
    };
    let entries = column("entries")?;
    let mut events = [0; EVENTS.len()];
    for (event, place) in EVENTS.into_iter().zip(&mut events) {
        *place = column(event)?;
    }
    let mut sum = Conntrack::default();
    for line in lines {
        let values: Vec<&str> = line.split_ascii_whitespace().collect();
        let value = |at: usize| {
            let value = values.get(at).with_context(|| format!("`{line}` is cut"))?;
            u64::from_str_radix(value, 16).with_context(|| format!("`{value}` is no number"))
        };
        sum.entries = value(entries)?;
        for (total, &at) in sum.events.iter_mut().zip(&events) {
            *total = total.saturating_add(value(at)?);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parser = fn(&str, &mut Vec<String>) -> anyhow::Result<()>;

    const PARSERS: [Parser; 3] = [
        |text, out| columns(text, collect(out)),
        |text, out| lines(text, collect(out)),
        |text, out| pairs(text, collect(out)),
    ];

    fn collect(out: &mut Vec<String>) -> impl Visit {
        |place, group, name, value| {
            assert_eq!(place, out.len(), "fields are counted");
            out.push(format!("{group} {name} {value}"));
            Ok(())
        }
    }

    fn fields(parser: usize, text: &str) -> anyhow::Result<Vec<String>> {
        let mut out = Vec::new();
        PARSERS[parser](text, &mut out).map(|()| out)
    }

    #[test]
    fn each_value_is_that_of_the_name_above_it() {
        let found = fields(0, "Ip: A B\nIp: 1 2\nTcp: C\nTcp: -1\n").unwrap();
        assert_eq!(found, ["Ip A 1", "Ip B 2", "Tcp C -1"]);
        for wrong in [
            "Ip: A B\nIp: 1\n",
            "Ip: A\nIp: 1 2\n",
            "Ip: A\nTcp: 1\n",
            "Ip: A\n",
            "Ip A\nIp 1\n",
        ] {
            fields(0, wrong).unwrap_err();
        }
    }

    #[test]
    fn names_of_ipv6_end_their_group_with_the_6() {
        let found = fields(1, "Ip6InReceives   \t30\nIcmp6InMsgs 5\nOdd 7\n").unwrap();
        assert_eq!(found, ["Ip6 InReceives 30", "Icmp6 InMsgs 5", " Odd 7"]);
        fields(1, "Ip6InReceives\n").unwrap_err();
        fields(1, "Ip6InReceives 1 2\n").unwrap_err();
    }

    #[test]
    fn sockets_are_told_in_pairs() {
        let found = fields(1 + 1, "sockets: used 36\nTCP: inuse 3 mem 161\n").unwrap();
        assert_eq!(found, ["sockets used 36", "TCP inuse 3", "TCP mem 161"]);
        fields(2, "TCP: inuse\n").unwrap_err();
        fields(2, "TCP inuse 1\n").unwrap_err();
    }

    #[test]
    fn connections_are_counted_once_and_events_on_every_cpu() {
        let text = "entries  searched found invalid insert_failed drop early_drop
0000001f  00000000 00000000 00000003 00000001 00000000 00000010
0000001f  00000000 00000000 00000004 00000000 00000002 000000ff
";
        let expected = Conntrack {
            entries: 31,
            events: [7, 1, 2, 271],
        };
        assert_eq!(conntrack(text).unwrap(), expected);
        assert_eq!(conntrack(text.lines().next().unwrap()).unwrap().entries, 0);
        conntrack("").unwrap_err();
        conntrack("entries found\n00 00\n").unwrap_err();
        conntrack(&text[..text.len() - 9]).unwrap_err();
        conntrack(&text.replace("000000ff", "000000xx")).unwrap_err();
    }

    proptest! {
        #[test]
        fn anything_is_fields_or_an_error(text in "([A-Za-z0-9: \n\t-]|\\PC){0,300}") {
            for parser in 0..PARSERS.len() {
                drop(fields(parser, &text));
            }
            drop(conntrack(&text));
        }

        #[test]
        fn what_is_written_as_the_kernel_does_is_read(rows in prop::collection::vec(("[A-Z][a-z]{1,5}", any::<u64>()), 1..40)) {
            let mut names = "Ip:".to_owned();
            let mut values = "Ip:".to_owned();
            let mut ipv6 = String::new();
            for (name, value) in &rows {
                names += &format!(" {name}");
                values += &format!(" {value}");
                ipv6 += &format!("Ip6{name:<29}\t{value}\n");
            }
            let expected: Vec<_> = rows.iter().map(|(name, value)| format!("Ip {name} {value}")).collect();
            prop_assert_eq!(fields(0, &format!("{names}\n{values}\n")).unwrap(), expected);
            let expected: Vec<_> = rows.iter().map(|(name, value)| format!("Ip6 {name} {value}")).collect();
            prop_assert_eq!(fields(1, &ipv6).unwrap(), expected);
        }
    }
}
