//! Numbers as text: every digit of an integer, and as few of a double as name it exactly.

/// The digits of the numbers below 1000, and how many they are: most of what a histogram consists of.
static SMALL: [[u8; 4]; 1000] = {
    let mut table = [[0; 4]; 1000];
    let mut value = 0;
    while value < table.len() {
        let digits = [value / 100, value / 10 % 10, value % 10];
        let length = if value < 10 {
            1
        } else if value < 100 {
            2
        } else {
            3
        };
        let mut place = 0;
        while place < length {
            table[value][place] = b'0' + digits[3 - length + place] as u8;
            place += 1;
        }
        table[value][3] = length as u8;
        value += 1;
    }
    table
};

/// As many digits as `u64::MAX` has, and one more: three at a time are written.
pub(super) const LONGEST: usize = 21;

/// Appends every digit.
pub(super) fn unsigned(value: u64, out: &mut Vec<u8>) {
    if value < 1000 {
        // To copy a fixed number of bytes and take some back is the quickest way.
        let small = SMALL[value as usize];
        out.extend_from_slice(&small);
        out.truncate(out.len() - 4 + usize::from(small[3]));
        return;
    }
    let mut place = [0; LONGEST];
    let length = put(value, &mut place);
    out.extend_from_slice(&place[..length]);
}

/// Appends every digit, after a sign if it has one.
pub(super) fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(value.unsigned_abs(), out);
}

/// Appends the shortest text that reads as exactly this number. It always has a decimal point or an exponent; what is not
/// finite is `NaN`, `inf` or `-inf`.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
    // Most gauges are whole, and all digits of those below this are certain.
    if value.abs() < 1e15 && value.fract() == 0.0 {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        unsigned(value.abs() as u64, out);
        out.extend_from_slice(b".0");
    } else if value.is_finite() {
        serde_json::to_writer(out, &value).expect("a number can be written to memory");
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    }
}

/// Writes the digits of a number to the start of `place`, which has room for [`LONGEST`], and says how many they are.
#[inline]
pub(super) fn put(value: u64, place: &mut [u8]) -> usize {
    if value < 1000 {
        let small = SMALL[value as usize];
        place[..4].copy_from_slice(&small);
        return usize::from(small[3]);
    }
    put_long(value, place)
}

/// Not below 1000. A function of its own, so that small numbers do without what it needs.
#[inline(never)]
fn put_long(mut value: u64, place: &mut [u8]) -> usize {
    // Three at a time from the end.
    let mut digits = [b'0'; LONGEST];
    let mut start = digits.len();
    while value >= 1000 {
        start -= 3;
        digits[start..start + 3].copy_from_slice(&all_three(value % 1000));
        value /= 1000;
    }
    let [first @ .., length] = SMALL[value as usize];
    let length = usize::from(length);
    start -= length;
    digits[start..start + length].copy_from_slice(&first[..length]);
    let digits = &digits[start..];
    place[..digits.len()].copy_from_slice(digits);
    digits.len()
}

/// A number below 1000 with zeros in front.
pub(super) fn all_three(value: u64) -> [u8; 3] {
    let [first, second, third, length] = SMALL[value as usize];
    match length {
        1 => [b'0', b'0', first],
        2 => [b'0', first, second],
        _ => [first, second, third],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"=".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn integers_are_written_in_full(value: u64, shift in 0_u32..64) {
            for value in [value >> shift, 10_u64.saturating_pow(shift), u64::MAX] {
                for value in [value.wrapping_sub(1), value] {
                    prop_assert_eq!(text(|out| unsigned(value, out)), format!("={value}"));
                    let value = value.cast_signed();
                    prop_assert_eq!(text(|out| signed(value, out)), format!("={value}"));
                }
            }
        }

        #[test]
        fn doubles_come_back_as_they_were(value: f64) {
            let text = text(|out| float(value, out));
            let read: f64 = text[1..].parse().unwrap();
            prop_assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan(), "{text}");
        }

        #[test]
        fn whole_doubles_are_those_of_serde_json(value: i64, shift in 0_u32..64) {
            let value = (value >> shift) as f64;
            for value in [value, -value, 1e15, 1e15 - 1.0, -0.0] {
                let expected = serde_json::to_string(&value).unwrap();
                prop_assert_eq!(text(|out| float(value, out)), format!("={expected}"));
            }
        }
    }

    #[test]
    fn a_double_is_told_from_an_integer() {
        for (value, expected) in [
            (1.0, "=1.0"),
            (-0.25, "=-0.25"),
            (f64::NAN, "=NaN"),
            (f64::INFINITY, "=inf"),
            (f64::NEG_INFINITY, "=-inf"),
        ] {
            assert_eq!(text(|out| float(value, out)), expected);
        }
    }
}
