//! What has become of the numbers of each stream: the state that the journal keeps.

use std::{ops::RangeInclusive, sync::Arc};

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::{
    model::{Cause, Gap, Previous, WallTime},
    pipeline::streams::{gap, join},
};

/// Names a stream in the journal.
pub(super) type Key = u32;

/// Every stream that is not settled, and the newest of each name, in the order of their births.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) accounts: Vec<Account>,
    next: Key,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) key: Key,
    pub(super) id: Arc<str>,
    /// `output` or `output/reader`.
    pub(super) name: String,
    /// Its highest number that is done.
    pub(super) last: u64,
    /// Where the window of that number stopped.
    pub(super) stop_time: WallTime,
    /// Whether a record of it that was handed over says what was before it.
    pub(super) introduced: bool,
    /// Acknowledged or lost.
    pub(super) done: Ranges,
    /// Lost, and no record that was handed over says so.
    pub(super) gaps: Vec<Gap>,
    /// Handed over and not done.
    pub(super) handed: Vec<Handed>,
}

/// A record that was handed over, and what it announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handed {
    pub(super) range: RangeInclusive<u64>,
    pub(super) gaps: Vec<Gap>,
    pub(super) previous: Option<Previous>,
}

/// Something that happened. Applying it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// A stream numbered its first envelope.
    Born {
        key: Key,
        id: Arc<str>,
        name: String,
    },
    /// A record is about to be handed over for the first time.
    Handed { key: Key, handed: Handed },
    /// It is safe at the other end.
    Delivered {
        key: Key,
        range: RangeInclusive<u64>,
        stop_time: WallTime,
    },
    /// It is lost; what it announced is to be announced again.
    Lost {
        key: Key,
        range: RangeInclusive<u64>,
        /// If that is known.
        stop_time: Option<WallTime>,
        cause: Cause,
    },
}

impl Account {
    /// The record that was handed over with exactly these numbers.
    pub(super) fn handed(&self, range: &RangeInclusive<u64>) -> Option<&Handed> {
        self.handed.iter().find(|handed| handed.range == *range)
    }
}

impl Ledger {
    /// The key of a stream; the event to apply first if it has none yet.
    pub(super) fn key(&self, id: &Arc<str>, name: &str) -> (Key, Option<Event>) {
        match self.accounts.iter().find(|account| account.id == *id) {
            Some(account) => (account.key, None),
            None => {
                let born = Event::Born {
                    key: self.next,
                    id: Arc::clone(id),
                    name: name.to_owned(),
                };
                (self.next, Some(born))
            }
        }
    }

    /// A stream by its key.
    pub(super) fn account(&self, key: Key) -> Option<&Account> {
        self.accounts.iter().find(|account| account.key == key)
    }

    fn account_mut(&mut self, key: Key) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.key == key)
    }

    /// Takes an event in.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Born { key, id, name } => self.bear(*key, id, name),
            Event::Handed { key, handed } => self.hand_over(*key, handed),
            Event::Delivered {
                key,
                range,
                stop_time,
            } => {
                self.settle(*key, range, Some(*stop_time));
            }
            Event::Lost {
                key,
                range,
                stop_time,
                cause,
            } => {
                let known = self
                    .account(*key)
                    .is_some_and(|account| account.done.contains(range));
                let announced = self.settle(*key, range, *stop_time);
                if let Some(Handed { gaps, previous, .. }) = announced {
                    self.announce_again(*key, gaps, previous);
                }
                if let Some(account) = self.account_mut(*key).filter(|_| !known) {
                    add(&mut account.gaps, gap(range, *cause));
                }
            }
        }
    }

    fn bear(&mut self, key: Key, id: &Arc<str>, name: &str) {
        if self.account(key).is_some() {
            return;
        }
        self.next = self.next.max(key.saturating_add(1));
        self.accounts.push(Account {
            key,
            id: Arc::clone(id),
            name: name.to_owned(),
            last: 0,
            stop_time: 0,
            introduced: false,
            done: Ranges::default(),
            gaps: Vec::new(),
            handed: Vec::new(),
        });
    }

    fn hand_over(&mut self, key: Key, handed: &Handed) {
        let Some(account) = self.account_mut(key) else {
            return;
        };
        account.gaps.retain(|gap| !handed.gaps.contains(gap));
        if account
            .handed
            .iter()
            .all(|known| known.range != handed.range)
        {
            account.handed.push(handed.clone());
        }
        account.introduced |= handed.previous.is_some();
        let mut earlier = handed.previous.as_ref();
        while let Some(previous) = earlier {
            if let Some(account) = self.by_id(&previous.id) {
                account.gaps.retain(|gap| !previous.gaps.contains(gap));
            }
            earlier = previous.previous.as_deref();
        }
    }

    /// Numbers that nothing is left to do for, and what the record that had them announced.
    fn settle(
        &mut self,
        key: Key,
        range: &RangeInclusive<u64>,
        stop_time: Option<WallTime>,
    ) -> Option<Handed> {
        let account = self.account_mut(key)?;
        account.done.insert(range);
        if *range.end() >= account.last {
            account.last = *range.end();
            account.stop_time = stop_time.unwrap_or(account.stop_time);
        }
        let place = account
            .handed
            .iter()
            .position(|known| known.range == *range)?;
        Some(account.handed.remove(place))
    }

    fn announce_again(&mut self, key: Key, gaps: Vec<Gap>, previous: Option<Previous>) {
        if let Some(account) = self.account_mut(key) {
            account.introduced &= previous.is_none();
            gaps.into_iter().for_each(|gap| add(&mut account.gaps, gap));
        }
        let mut earlier = previous.map(Box::new);
        while let Some(previous) = earlier {
            if let Some(account) = self.by_id(&previous.id) {
                previous
                    .gaps
                    .into_iter()
                    .for_each(|gap| add(&mut account.gaps, gap));
            }
            earlier = previous.previous;
        }
    }

    fn by_id(&mut self, id: &str) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| *account.id == *id)
    }

    /// Forgets streams of which everything is done and declared, and after which another of the same name has spoken.
    /// `held` says whether records of a stream are still on the disk, whose numbers must stay known.
    pub(super) fn forget_settled(&mut self, held: impl Fn(Key) -> bool) {
        let settled = |(place, account): (usize, &Account)| {
            let open = !account.gaps.is_empty() || !account.handed.is_empty();
            let followed = || {
                self.accounts[place + 1..].iter().any(|later| {
                    later.name == account.name
                        && later.introduced
                        && later.handed.iter().all(|handed| handed.previous.is_none())
                })
            };
            !open && !held(account.key) && followed()
        };
        let settled: Vec<Key> = self
            .accounts
            .iter()
            .enumerate()
            .filter(|&each| settled(each))
            .map(|(_, account)| account.key)
            .collect();
        self.accounts
            .retain(|account| !settled.contains(&account.key));
    }
}

fn add(gaps: &mut Vec<Gap>, gap: Gap) {
    if !gaps.contains(&gap) {
        gaps.push(gap);
        join(gaps);
    }
}
