//! What a process has in the kernel, and whether it is still there, by the kernel's own listing.

use std::{collections::BTreeSet, fs, path::PathBuf};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

/// Numbers of programs, maps and links, which the kernel gives out in turn and so does not soon give to others.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) programs: BTreeSet<u32>,
    pub(crate) maps: BTreeSet<u32>,
    pub(crate) links: BTreeSet<u32>,
}

impl Listing {
    /// What a process has a descriptor of, and the maps of its programs.
    pub(crate) fn of(process: u32) -> Self {
        let mut listing = Self::default();
        let folder = PathBuf::from(format!("/proc/{process}/fdinfo"));
        for entry in fs::read_dir(&folder).expect("the process runs").flatten() {
            // A descriptor that is closed meanwhile has no text.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u32>().ok()
            };
            listing.programs.extend(number("prog_id:"));
            listing.maps.extend(number("map_id:"));
            listing.links.extend(number("link_id:"));
        }
        let owned = loaded_programs()
            .flatten()
            .filter(|program| listing.programs.contains(&program.id()));
        let maps: Vec<u32> = owned
            .filter_map(|program| program.map_ids().ok()?)
            .flatten()
            .collect();
        listing.maps.extend(maps);
        listing
    }

    /// Those of them that the kernel still lists.
    pub(crate) fn remaining(&self) -> Self {
        let programs = loaded_programs().flatten().map(|program| program.id());
        let maps = loaded_maps().flatten().map(|map| map.id());
        let links = loaded_links().flatten().map(|link| link.id());
        let still = |all: &BTreeSet<u32>, now: &mut dyn Iterator<Item = u32>| {
            now.filter(|number| all.contains(number)).collect()
        };
        Self {
            programs: still(&self.programs, &mut programs.into_iter()),
            maps: still(&self.maps, &mut maps.into_iter()),
            links: still(&self.links, &mut links.into_iter()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.programs.extend(&other.programs);
        self.maps.extend(&other.maps);
        self.links.extend(&other.links);
    }
}
