//! Which processes are told.

use std::cmp::Reverse;

use super::table::{Pass, Process};
use crate::pipeline::shape::wildcard;

/// How many of which.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) top_cpu: usize,
    pub(super) top_memory: usize,
    /// Wildcards.
    pub(super) commands: Vec<String>,
    pub(super) max_commands: usize,
}

/// What was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Of the processes of the pass, ascending, none twice.
    pub(super) places: Vec<usize>,
    /// Processes with a wanted command that are too many, and not chosen for what they take.
    pub(super) left_out: usize,
}

impl Limits {
    /// `used` is the processor time of a process in the window, if it is known. Who used none, or has no memory, is not among
    /// the first. Where two are equal, the lower pid comes first.
    pub(super) fn choose(&self, pass: &Pass, used: impl Fn(&Process) -> Option<u64>) -> Choice {
        let processes = &pass.processes;
        let used: Vec<u64> = processes.iter().map(|it| used(it).unwrap_or(0)).collect();
        let mut chosen = vec![false; processes.len()];
        for place in highest(used.iter().copied(), self.top_cpu) {
            chosen[place] = true;
        }
        for place in highest(processes.iter().map(|it| it.resident), self.top_memory) {
            chosen[place] = true;
        }
        let left_out = if self.commands.is_empty() {
            0
        } else {
            self.choose_commands(processes, &used, &mut chosen)
        };
        let places = (0..processes.len()).filter(|&place| chosen[place]);
        Choice {
            places: places.collect(),
            left_out,
        }
    }

    /// Those that use most come first, so that it matters least who is left out. Gives how many are.
    fn choose_commands(&self, processes: &[Process], used: &[u64], chosen: &mut [bool]) -> usize {
        let wanted = |process: &Process| {
            let mut patterns = self.commands.iter();
            patterns.any(|pattern| wildcard::matches(pattern, &process.command))
        };
        let mut places: Vec<_> = (0..processes.len())
            .filter(|&place| wanted(&processes[place]))
            .collect();
        places.sort_by_key(|&place| (Reverse((used[place], processes[place].resident)), place));
        let beyond = places.split_off(self.max_commands.min(places.len()));
        for place in places {
            chosen[place] = true;
        }
        beyond.into_iter().filter(|&place| !chosen[place]).count()
    }
}

/// The places of the highest values above 0.
fn highest(values: impl Iterator<Item = u64>, count: usize) -> Vec<usize> {
    let mut places: Vec<_> = values.zip(0..).filter(|&(value, _)| value > 0).collect();
    let order = |&(value, place): &(u64, usize)| (Reverse(value), place);
    if count < places.len() {
        places.select_nth_unstable_by_key(count, order);
        places.truncate(count);
    }
    places.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::stat::{Stat, State},
        *,
    };

    fn process(pid: u32, command: &str, resident: u64) -> Process {
        let stat = Stat {
            command: command.as_bytes(),
            state: State::Sleeping,
            is_kernel_thread: false,
            major_faults: 0,
            user: 0,
            system: 0,
            threads: 1,
            started: 0,
            resident,
        };
        Process::new(pid, &stat, None, None)
    }

    #[test]
    fn those_that_take_most_and_those_that_are_wanted() {
        let names = ["init", "worker", "worker", "shell", "worker", "idle"];
        let used = [1, 0, 3, 7, 0, 0];
        let resident = [5, 4, 0, 1, 9, 0];
        let processes = (1..).zip(names).zip(resident);
        let pass = Pass {
            processes: processes
                .map(|((pid, name), resident)| process(pid, name, resident))
                .collect(),
            hidden: 0,
        };
        let choose = |top_cpu, top_memory, commands: &[&str], max_commands| {
            let limits = Limits {
                top_cpu,
                top_memory,
                commands: commands.iter().map(|&it| it.to_owned()).collect(),
                max_commands,
            };
            let choice = limits.choose(&pass, |it| Some(used[it.pid as usize - 1]));
            (choice.places, choice.left_out)
        };
        assert_eq!(choose(2, 0, &[], 9), (vec![2, 3], 0));
        assert_eq!(choose(9, 0, &[], 9), (vec![0, 2, 3], 0));
        assert_eq!(choose(0, 2, &[], 9), (vec![0, 4], 0));
        assert_eq!(choose(1, 1, &["work*"], 9), (vec![1, 2, 3, 4], 0));
        assert_eq!(choose(0, 0, &["work*"], 1), (vec![2], 2));
        assert_eq!(choose(0, 1, &["work*"], 1), (vec![2, 4], 1));
        assert_eq!(choose(0, 0, &["*", "init"], 0), (vec![], 6));
    }

    proptest! {
        #[test]
        fn the_highest_are_those_of_a_sorted_list(values: Vec<u8>, count in 0..12_usize) {
            let mut sorted: Vec<_> = values.iter().copied().filter(|&value| value > 0).zip(0..).collect();
            let mut places: Vec<_> = highest(values.iter().map(|&value| value.into()), count);
            places.sort_unstable();
            places.dedup();
            let mut found: Vec<u8> = places.iter().map(|&place| values[place]).collect();
            found.sort_unstable();
            sorted.sort_by_key(|&(value, _): &(u8, usize)| Reverse(value));
            let mut expected: Vec<u8> = sorted.into_iter().take(count).map(|(value, _)| value).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
