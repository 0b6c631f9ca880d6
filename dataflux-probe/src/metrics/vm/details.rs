//! Which lines of `/proc/vmstat` are which of the metrics that are sent only where they are asked for.

use super::events::{Event, event};

/// What few people look at.
pub(super) static DETAILS: [Event; 39] = [
    event(
        "vm.pages_activated",
        &[],
        &[("", &["pgactivate"])],
        "Pages moved to the active list.",
    ),
    event(
        "vm.pages_deactivated",
        &[],
        &[("", &["pgdeactivate"])],
        "Pages moved to the inactive list.",
    ),
    event(
        "vm.pages_rotated",
        &[],
        &[("", &["pgrotated"])],
        "Pages moved to the end of the inactive list once they were written, to be reclaimed next.",
    ),
    event(
        "vm.pages_lazily_freed",
        &[],
        &[("", &["pglazyfreed"])],
        "Pages given up by MADV_FREE that were reclaimed.",
    ),
    event(
        "vm.working_set_activations",
        &["pages"],
        &[
            ("anonymous", &["workingset_activate_anon"]),
            ("file", &["workingset_activate_file"]),
        ],
        "Pages needed again so soon that they went to the active list at once.",
    ),
    event(
        "vm.working_set_restores",
        &["pages"],
        &[
            ("anonymous", &["workingset_restore_anon"]),
            ("file", &["workingset_restore_file"]),
        ],
        "Pages needed again that had been on the active list before they were reclaimed.",
    ),
    event(
        "vm.reclaim_throttles",
        &[],
        &[("", &["pgscan_direct_throttle"])],
        "Times that somebody who needed memory had to wait for kswapd because reserves were low.",
    ),
    event(
        "vm.reclaim_writes",
        &[],
        &[("", &["nr_vmscan_write"])],
        "Pages that reclaim itself wrote.",
    ),
    event(
        "vm.kswapd_runs",
        &[],
        &[("", &["pageoutrun"])],
        "Times that kswapd set out to balance a node.",
    ),
    event(
        "vm.kswapd_short_runs",
        &["watermark"],
        &[
            ("low", &["kswapd_low_wmark_hit_quickly"]),
            ("high", &["kswapd_high_wmark_hit_quickly"]),
        ],
        "Times that a node fell below a watermark again soon after kswapd had gone to sleep.",
    ),
    event(
        "vm.slab_objects_scanned",
        &[],
        &[("", &["slabs_scanned"])],
        "Objects of kernel caches that reclaim looked at.",
    ),
    event(
        "vm.inode_pages_reclaimed",
        &["reclaimer"],
        &[
            ("kswapd", &["kswapd_inodesteal"]),
            ("direct", &["pginodesteal"]),
        ],
        "Pages freed because the inode that they belonged to was.",
    ),
    event(
        "vm.caches_dropped",
        &["cache"],
        &[("page", &["drop_pagecache"]), ("slab", &["drop_slab"])],
        "Times that caches were dropped by vm.drop_caches.",
    ),
    event(
        "vm.pages_migrated",
        &["outcome"],
        &[
            ("success", &["pgmigrate_success"]),
            ("failure", &["pgmigrate_fail"]),
        ],
        "Pages moved elsewhere in memory, for compaction, NUMA or hot-unplug, and those that could not be.",
    ),
    event(
        "vm.compactions",
        &["outcome"],
        &[
            ("success", &["compact_success"]),
            ("failure", &["compact_fail"]),
        ],
        "Compactions by somebody who needed contiguous memory, by whether it came to be.",
    ),
    event(
        "vm.compaction_scanned",
        &["scanner"],
        &[
            ("migrate", &["compact_migrate_scanned"]),
            ("free", &["compact_free_scanned"]),
        ],
        "Pages that compaction looked at, for pages to move (migrate) and for places to move them to (free).",
    ),
    event(
        "vm.compaction_isolated",
        &[],
        &[("", &["compact_isolated"])],
        "Pages that compaction took off their lists, to be moved or as places to move to.",
    ),
    event(
        "vm.kcompactd_wakes",
        &[],
        &[("", &["compact_daemon_wake"])],
        "Times that kcompactd was woken.",
    ),
    event(
        "vm.huge_page_collapses",
        &["outcome"],
        &[
            ("allocated", &["thp_collapse_alloc"]),
            ("failed", &["thp_collapse_alloc_failed"]),
        ],
        "Transparent huge pages that khugepaged allocated to replace small ones, and those that it did not get.",
    ),
    event(
        "vm.huge_page_file_faults",
        &["outcome"],
        &[
            ("allocated", &["thp_file_alloc"]),
            ("fallback", &["thp_file_fallback"]),
        ],
        "Transparent huge pages allocated for shared memory, and small pages for want of one.",
    ),
    event(
        "vm.huge_page_splits",
        &["outcome"],
        &[
            ("success", &["thp_split_page"]),
            ("failure", &["thp_split_page_failed"]),
        ],
        "Transparent huge pages split into small ones, and those that could not be.",
    ),
    event(
        "vm.huge_page_mapping_splits",
        &[],
        &[("", &["thp_split_pmd"])],
        "Mappings of a transparent huge page as a whole that became mappings of its small pages.",
    ),
    event(
        "vm.huge_page_swap_outs",
        &["outcome"],
        &[
            ("whole", &["thp_swpout"]),
            ("split", &["thp_swpout_fallback"]),
        ],
        "Transparent huge pages swapped out as they are, or after they were split.",
    ),
    event(
        "vm.huge_tlb_allocations",
        &["outcome"],
        &[
            ("success", &["htlb_buddy_alloc_success"]),
            ("failure", &["htlb_buddy_alloc_fail"]),
        ],
        "Huge pages that the pool got from the page allocator, and those that it did not get.",
    ),
    event(
        "vm.numa_allocations",
        &["outcome"],
        &[
            ("hit", &["numa_hit"]),
            ("miss", &["numa_miss"]),
            ("foreign", &["numa_foreign"]),
            ("interleaved", &["numa_interleave"]),
            ("local", &["numa_local"]),
            ("other", &["numa_other"]),
        ],
        "Pages allocated on the node that was wanted (hit), on another one (miss, and foreign where it was wanted), as \
         interleaving wanted it, for a task on a processor of that node (local) or of another (other).",
    ),
    event(
        "vm.numa_hint_faults",
        &[],
        &[("", &["numa_hint_faults"])],
        "Page faults made to find out from which node memory is used.",
    ),
    event(
        "vm.numa_hint_faults_local",
        &[],
        &[("", &["numa_hint_faults_local"])],
        "Those of vm.numa_hint_faults from the node of the memory.",
    ),
    event(
        "vm.numa_entries_updated",
        &[],
        &[("", &["numa_pte_updates"])],
        "Entries of page tables marked to find out from which node memory is used.",
    ),
    event(
        "vm.numa_pages_migrated",
        &[],
        &[("", &["numa_pages_migrated"])],
        "Pages moved to the node they are used from.",
    ),
    event(
        "vm.pages_promoted",
        &[],
        &[("", &["pgpromote_success"])],
        "Pages moved to a node with faster memory.",
    ),
    event(
        "vm.pages_demoted",
        &["reclaimer"],
        &[
            ("kswapd", &["pgdemote_kswapd"]),
            ("direct", &["pgdemote_direct"]),
            ("khugepaged", &["pgdemote_khugepaged"]),
            ("proactive", &["pgdemote_proactive"]),
        ],
        "Pages moved to a node with slower memory instead of being reclaimed.",
    ),
    event(
        "vm.swap_read_ahead",
        &[],
        &[("", &["swap_ra"])],
        "Pages read from swap space ahead of need.",
    ),
    event(
        "vm.swap_read_ahead_hits",
        &[],
        &[("", &["swap_ra_hit"])],
        "Those of vm.swap_read_ahead that were needed.",
    ),
    event(
        "vm.swapped_zeros",
        &["direction"],
        &[("in", &["swpin_zero"]), ("out", &["swpout_zero"])],
        "Pages full of zeros that were swapped without any I/O.",
    ),
    event(
        "vm.zswap",
        &["direction"],
        &[
            ("in", &["zswpin"]),
            ("out", &["zswpout"]),
            ("written_back", &["zswpwb"]),
        ],
        "Pages taken out of zswap, put into it, and written from it to swap space.",
    ),
    event(
        "vm.unevictable",
        &["event"],
        &[
            ("culled", &["unevictable_pgs_culled"]),
            ("rescued", &["unevictable_pgs_rescued"]),
            ("locked", &["unevictable_pgs_mlocked"]),
            ("unlocked", &["unevictable_pgs_munlocked"]),
            ("stranded", &["unevictable_pgs_stranded"]),
        ],
        "Pages put on the list of those that cannot be reclaimed, taken off it, locked by mlock, unlocked, and left on \
         it after unlocking.",
    ),
    event(
        "vm.pages_pinned",
        &[],
        &[("", &["nr_foll_pin_acquired"])],
        "Pins taken on pages for direct I/O or devices.",
    ),
    event(
        "vm.pages_unpinned",
        &[],
        &[("", &["nr_foll_pin_released"])],
        "Pins of vm.pages_pinned given back.",
    ),
    event(
        "vm.balloon",
        &["event"],
        &[
            ("inflated", &["balloon_inflate"]),
            ("deflated", &["balloon_deflate"]),
            ("migrated", &["balloon_migrate"]),
        ],
        "Pages given to the hypervisor (inflated), taken back, and moved while they were given.",
    ),
];
