//! What stands behind an envelope: the labels of its sources. An envelope without any ends as those of older versions did.

use std::{collections::BTreeMap, iter};

use super::{Damaged, read, write_behind};
use crate::model::{Envelope, Labels};

/// So many different labels are kept to be shared.
const MOST: usize = 64;

/// Labels that were read, to share them among envelopes. Not kept: the empty ones.
#[derive(Default)]
pub(super) struct Known {
    empty: Labels,
    kept: Vec<Labels>,
}

impl Known {
    fn share(&mut self, labels: &BTreeMap<&str, &str>) -> Labels {
        if labels.is_empty() {
            return Labels::clone(&self.empty);
        }
        let same = |kept: &&Labels| {
            let kept = kept.iter().map(|(name, value)| (&**name, &**value));
            kept.eq(labels.iter().map(|(name, value)| (*name, *value)))
        };
        if let Some(kept) = self.kept.iter().find(same) {
            return Labels::clone(kept);
        }
        let own = labels
            .iter()
            .map(|(&name, &value)| (name.into(), value.into()));
        let labels = Labels::new(own.collect());
        if self.kept.len() >= MOST {
            self.kept.clear();
        }
        self.kept.push(Labels::clone(&labels));
        labels
    }
}

/// Appends the labels of each source, if any has some.
pub(super) fn append(envelope: &Envelope, out: &mut Vec<u8>) {
    let sources = &envelope.sources;
    if sources.iter().any(|source| !source.labels.is_empty()) {
        let labels: Vec<_> = sources.iter().map(|source| &*source.labels).collect();
        write_behind(&labels, out);
    }
}

/// The labels of each of so many sources.
pub(super) fn labels(
    bytes: &[u8],
    sources: usize,
    known: &mut Known,
) -> Result<Vec<Labels>, Damaged> {
    if bytes.is_empty() {
        return Ok(iter::repeat_n(Labels::clone(&known.empty), sources).collect());
    }
    let left_over = |_| Damaged("bytes are left over after the envelope");
    let (labels, rest): (Vec<BTreeMap<&str, &str>>, _) = read(bytes).map_err(left_over)?;
    if labels.len() != sources || !rest.is_empty() {
        return Err(Damaged("bytes are left over after the envelope"));
    }
    Ok(labels.iter().map(|labels| known.share(labels)).collect())
}
