//! Tells people of losses, once of each kind.

/// How many kinds are told at most.
const KINDS: usize = 16;

/// The kinds of losses that were told.
#[derive(Default)]
pub(super) struct Told(Vec<String>);

impl Told {
    /// Says why an envelope of an output is lost, unless that was said before. What differs in numbers only is one kind.
    pub(super) fn tell(&mut self, output: &str, reason: &str) {
        if self.is_new(reason) {
            tracing::warn!(output, "loses envelopes: {reason}");
        }
    }

    fn is_new(&mut self, reason: &str) -> bool {
        let kind: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
        let new = self.0.len() < KINDS && !self.0.contains(&kind);
        if new {
            self.0.push(kind);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_and_not_too_many() {
        let mut told = Told::default();
        let reasons = [
            "1 byte too large",
            "no format",
            "27 byte too large",
            "no format",
        ];
        let new = reasons.map(|reason| told.is_new(reason));
        assert_eq!(new, [true, true, false, false]);
        let others = (b'a'..=b'z').filter(|&c| told.is_new(&char::from(c).to_string()));
        assert_eq!(others.count(), KINDS - 2);
    }
}
