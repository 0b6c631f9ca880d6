//! Inputs that were kept, and what can be made of them.

use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use anyhow::{Context as _, ensure};

/// No input becomes longer.
const LONGEST: usize = 64 << 10;
/// So many inputs are mutated, beside those that were kept.
const MOST: usize = 2_000;
/// Numbers at which something may turn.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Repeatable random numbers (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // The state must not be 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        let random = self.next() >> 11;
        usize::try_from(random % (bound as u64).max(1)).unwrap_or(0)
    }
}

/// A short name for an input.
pub(super) fn hash(input: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish()
}

/// Inputs that are dealt with in different ways.
pub(super) struct Corpus {
    inputs: Vec<Vec<u8>>,
    kept: usize,
    outcomes: HashSet<u64>,
}

impl Corpus {
    /// The kept inputs in a folder.
    pub(super) fn load(folder: &Path) -> anyhow::Result<Self> {
        let read = || -> std::io::Result<Vec<Vec<u8>>> {
            let mut paths = Vec::new();
            for entry in fs::read_dir(folder)? {
                paths.push(entry?.path());
            }
            // The order of a folder is not repeatable.
            paths.sort();
            paths.into_iter().map(fs::read).collect()
        };
        let inputs = read().with_context(|| format!("cannot read {}", folder.display()))?;
        ensure!(
            !inputs.is_empty(),
            "there is nothing in {}",
            folder.display()
        );
        Ok(Self {
            kept: inputs.len(),
            inputs,
            outcomes: HashSet::new(),
        })
    }

    /// How many were loaded.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// How many different outcomes there were.
    pub(super) fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// The input of this turn: first those that were kept as they are, then mutations.
    pub(super) fn next(&self, turn: u64, random: &mut Random) -> Vec<u8> {
        let turn = usize::try_from(turn).unwrap_or(usize::MAX);
        if let Some(kept) = self.inputs[..self.kept].get(turn) {
            return kept.clone();
        }
        let mut input = self.inputs[random.below(self.inputs.len())].clone();
        for _ in 0..=random.below(4) {
            self.mutate(&mut input, random);
        }
        input.truncate(LONGEST);
        input
    }

    /// Keeps an input to mutate it further if its outcome is new.
    pub(super) fn learn(&mut self, outcome: u64, input: Vec<u8>) {
        if self.outcomes.insert(outcome) && self.inputs.len() < MOST {
            self.inputs.push(input);
        }
    }

    fn mutate(&self, input: &mut Vec<u8>, random: &mut Random) {
        let length = input.len();
        let at = random.below(length);
        let some = random.below(32.min(length - at.min(length)));
        match random.below(9) {
            0 | 1 if length > 0 => input[at] ^= 1 << random.below(8),
            2 if length > 0 => input[at] = u8::try_from(random.below(256)).unwrap_or(0),
            3 => input.truncate(at),
            4 => drop(input.drain(at..at + some)),
            5 => {
                let copy = input[at..at + some].to_vec();
                input.splice(at..at, copy);
            }
            6 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                for (byte, new) in input[at..].iter_mut().zip(&edge[..1 << random.below(4)]) {
                    *byte = *new;
                }
            }
            7 => {
                let other = &self.inputs[random.below(self.inputs.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            // How an input is to be taken.
            _ if length > 0 => input[0] ^= 1 << random.below(3),
            _ => input.push(0),
        }
    }
}
