//! What stands in the files of cgroups (cgroup-v2.rst, cgroup-v1/), taken apart as bytes.

use anyhow::{Context as _, ensure};

/// Words without the blanks and line breaks between them.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A number of digits alone.
fn decimal(word: &[u8]) -> anyhow::Result<u64> {
    let text = str::from_utf8(word)
        .ok()
        .filter(|text| !text.starts_with('+'));
    let number = text.and_then(|text| text.parse().ok());
    // As much of it as a line of diagnostics has room for.
    let shown = &word[..word.len().min(40)];
    number.with_context(|| format!("`{}` is no number", shown.escape_ascii()))
}

/// A file that holds one number.
pub(super) fn number(text: &[u8]) -> anyhow::Result<u64> {
    decimal(text.strip_suffix(b"\n").unwrap_or(text))
}

/// A file that holds one number, or `max` for none.
pub(super) fn limit(text: &[u8]) -> anyhow::Result<Option<u64>> {
    match text {
        b"max\n" => Ok(None),
        _ => number(text).map(Some),
    }
}

/// `cpu.max`: quota or `max`, and period. How many processors that is.
pub(super) fn cpu_max(text: &[u8]) -> anyhow::Result<Option<f64>> {
    let mut words = words(text);
    let (quota, period) = words.next().zip(words.next()).context("not two words")?;
    if quota == b"max" {
        return Ok(None);
    }
    let (quota, period) = (decimal(quota)?, decimal(period)?);
    ensure!(period > 0, "the period is 0");
    Ok(Some(quota as f64 / period as f64))
}

/// The values of `names` in a file of lines with a name and a number, in their order. A file that was cut off has no end.
pub(super) fn values<const N: usize>(
    text: &[u8],
    names: [&str; N],
) -> anyhow::Result<[Option<u64>; N]> {
    ensure!(text.ends_with(b"\n"), "it does not end with a whole line");
    let mut found = [None; N];
    let mut missing = N;
    for line in text.split(|&byte| byte == b'\n') {
        let space = line.iter().position(|&byte| byte == b' ');
        let Some((name, value)) = space.map(|space| line.split_at(space)) else {
            continue;
        };
        let place = names.iter().position(|wanted| wanted.as_bytes() == name);
        if let Some(place) = place {
            found[place] = Some(decimal(&value[1..])?);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    Ok(found)
}

/// A file of pressure: microseconds of some and of all tasks, of which older kernels do not have all for processors.
pub(super) fn pressure(text: &[u8]) -> anyhow::Result<[Option<u64>; 2]> {
    let mut found = [None; 2];
    let mut line = None;
    for word in words(text) {
        match (word, line) {
            (b"some", _) => line = Some(0),
            (b"full", _) => line = Some(1),
            (word, Some(place)) => {
                if let Some(total) = word.strip_prefix(b"total=") {
                    found[place] = Some(decimal(total)?);
                }
            }
            (_, None) => {}
        }
    }
    ensure!(found[0].is_some(), "no total");
    Ok(found)
}

/// A block device, by major and minor number.
pub(super) type Device = (u32, u32);

/// What `read`, `write` and `discard` did on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Io {
    pub(super) bytes: [u64; 3],
    pub(super) operations: [u64; 3],
}

/// `io.stat`. Devices without any I/O may stand before another one on the same line.
pub(super) fn io_stat(text: &[u8]) -> anyhow::Result<Vec<(Device, Io)>> {
    const NAMES: [&str; 6] = ["rbytes", "wbytes", "dbytes", "rios", "wios", "dios"];
    let mut found: Vec<(Device, Io)> = Vec::new();
    let mut is_known = false;
    for word in words(text) {
        let equals = word.iter().position(|&byte| byte == b'=');
        let Some(equals) = equals else {
            let device = device(word);
            is_known = device.is_some();
            found.extend(device.map(|device| (device, Io::default())));
            continue;
        };
        let (name, value) = (&word[..equals], &word[equals + 1..]);
        let place = NAMES.iter().position(|wanted| wanted.as_bytes() == name);
        if let (true, Some(place), Some((_, io))) = (is_known, place, found.last_mut()) {
            let values = if place < 3 {
                &mut io.bytes
            } else {
                &mut io.operations
            };
            values[place % 3] = decimal(value)?;
        }
    }
    Ok(found)
}

/// A file of v1's blkio: lines of device, operation and number, and a sum at the end.
pub(super) fn blkio(text: &[u8]) -> anyhow::Result<Vec<(Device, [u64; 3])>> {
    let mut found: Vec<(Device, [u64; 3])> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut words = words(line);
        let (Some(first), Some(operation), Some(value)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some(device) = device(first) else {
            continue;
        };
        let place = match operation {
            b"Read" => 0,
            b"Write" => 1,
            b"Discard" => 2,
            _ => continue,
        };
        if found.last().is_none_or(|(last, _)| *last != device) {
            found.push((device, [0; 3]));
        }
        if let Some((_, values)) = found.last_mut() {
            values[place] = decimal(value)?;
        }
    }
    Ok(found)
}

/// `254:0`; some things that do I/O are no devices, and have words.
fn device(word: &[u8]) -> Option<Device> {
    let (major, minor) = str::from_utf8(word).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_limits() {
        assert_eq!(number(b"4096\n").unwrap(), 4096);
        assert_eq!(limit(b"max\n").unwrap(), None);
        assert_eq!(limit(b"0\n").unwrap(), Some(0));
        assert_eq!(cpu_max(b"max 100000\n").unwrap(), None);
        assert_eq!(cpu_max(b"25000 100000\n").unwrap(), Some(0.25));
        for wrong in [
            &b""[..],
            b"-1\n",
            b"+1\n",
            b"1 2\n",
            b"18446744073709551616\n",
        ] {
            number(wrong).unwrap_err();
            limit(wrong).unwrap_err();
        }
        for wrong in [&b"max"[..], b"1\n", b"1 0\n", b"x 1\n"] {
            cpu_max(wrong).unwrap_err();
        }
    }

    #[test]
    fn names_have_their_values() {
        let text = b"usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 0\n";
        let found = values(text, ["system_usec", "usage_usec", "nr_bursts"]).unwrap();
        assert_eq!(found, [Some(3), Some(7), None]);
        values(&text[..text.len() - 1], ["system_usec"]).unwrap_err();
        values(b"usage_usec x\n", ["usage_usec"]).unwrap_err();
    }

    #[test]
    fn pressure_is_its_totals() {
        let text = b"some avg10=0.00 avg60=1.06 avg300=1.43 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(pressure(text).unwrap(), [Some(12), Some(7)]);
        assert_eq!(pressure(&text[..48]).unwrap(), [Some(12), None]);
        pressure(b"full total=7\n").unwrap_err();
    }

    #[test]
    fn io_is_by_device_even_where_the_kernel_forgets_a_line_break() {
        let text = b"7:0 254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=3 dios=4 cost.usage=9\n(unknown) rbytes=5\n\
            259:3 \n8:16 wbytes=1\n";
        let io = Io {
            bytes: [4096, 8192, 3],
            operations: [1, 2, 4],
        };
        let written = Io {
            bytes: [0, 1, 0],
            ..Io::default()
        };
        let none = Io::default();
        let expected = [
            ((7, 0), none),
            ((254, 0), io),
            ((259, 3), none),
            ((8, 16), written),
        ];
        assert_eq!(io_stat(text).unwrap(), expected);
        let text = b"254:0 Read 5\n254:0 Write 6\n254:0 Sync 11\n254:0 Discard 7\n254:0 Total 18\n8:0 Write 1\nTotal 19\n";
        assert_eq!(
            blkio(text).unwrap(),
            [((254, 0), [5, 6, 7]), ((8, 0), [0, 1, 0])]
        );
        assert_eq!(blkio(b"Total 0\n").unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_values_or_an_error(bytes: Vec<u8>, text in "[0-9a-z=: \n.]{0,40}") {
            for text in [&bytes[..], text.as_bytes()] {
                drop((number(text), limit(text), cpu_max(text), pressure(text)));
                drop((io_stat(text), blkio(text), values(text, ["a", "b"])));
            }
        }
    }
}
