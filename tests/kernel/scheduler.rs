//! `scheduler` against `/proc/stat` and schedstat.

use crate::harness::Attached;

#[test]
fn context_switches_lie_between_the_kernels_own_counts() {
    let mut reader = Attached::new("scheduler", "");
    let first = (ctxt(), reader.read(), ctxt());
    for round in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = (ctxt(), reader.read(), ctxt());
        let counted = now.1.counter("scheduler.context_switches", None, &[])
            - first.1.counter("scheduler.context_switches", None, &[]);
        let (least, most) = (now.0 - first.2, now.2 - first.0);
        assert!(
            (least..=most).contains(&counted),
            "round {round}: {counted} is not in {least}..={most}"
        );
        println!("{counted} in {least}..={most}");
    }
    println!(
        "{:#?}",
        reader
            .read()
            .0
            .series
            .iter()
            .map(|s| (s.def.name, &s.labels, &s.value))
            .collect::<Vec<_>>()
    );
}

fn ctxt() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("ctxt "))
        .expect("ctxt");
    line.parse().expect("a number")
}
