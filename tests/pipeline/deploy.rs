//! What is deployed: the configurations in it are valid, and the unit's sandbox is as tight as is claimed.

use std::{fs, process::Command};

use dataflux_tests::{probe, workspace};

/// The exposure that `systemd-analyze security` finds, times ten; docs/deployment.md names it, too. Lower is tighter.
const EXPOSURE: u32 = 19;

const UNIT: &str = "deploy/systemd/dataflux-probe.service";

fn read(path: &str) -> String {
    fs::read_to_string(workspace::root().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The block of a YAML file that is indented below the line `key: |`.
fn block(text: &str, key: &str) -> String {
    let head = format!("{key}: |");
    let mut lines = text.lines().skip_while(|line| line.trim_start() != head);
    let depth = lines.next().expect("the key is there");
    let depth = depth.len() - depth.trim_start().len();
    let inside = |line: &&str| line.is_empty() || line.len() - line.trim_start().len() > depth;
    lines
        .take_while(inside)
        .map(|line| line.trim().to_owned() + "\n")
        .collect()
}

fn mistakes(config: &str) -> String {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = folder.path().join("probe.toml");
    fs::write(&path, config).expect("the folder is writable");
    let output = probe::run(&["check", path.to_str().expect("ASCII")]);
    if output.status.success() {
        return String::new();
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Scenario: the configurations of the package, the image, the chart and the plain manifest, through `check`.
/// Guarantees: none has a mistake; what the pod mounts and asks is what its configuration names.
#[test]
fn every_deployed_configuration_is_valid() {
    assert_eq!(mistakes(&read("deploy/debian/probe.toml")), "");
    assert_eq!(mistakes(&read("deploy/docker/probe.toml")), "");
    let values = read("deploy/kubernetes/chart/values.yaml");
    let plain = read("deploy/kubernetes/dataflux-probe.yaml");
    let config = block(&values, "config");
    assert_eq!(config.trim(), block(&plain, "probe.toml").trim());
    assert_eq!(mistakes(&config), "");
    assert!(config.contains("listen = \"127.0.0.1:18081\""), "{config}");
    for (path, times) in [
        ("port: 18081", 2),
        ("mountPath: /host/proc", 1),
        ("mountPath: /host/sys", 1),
    ] {
        assert_eq!(plain.matches(path).count(), times, "{path}");
    }
}

/// Scenario: the pod's security context.
/// Guarantees: it asks for the documented capabilities and nothing else, and writes to its state alone.
#[test]
fn the_pod_asks_for_no_more_than_is_documented() {
    let plain = read("deploy/kubernetes/dataflux-probe.yaml");
    let asked: Vec<_> = plain
        .lines()
        .skip_while(|line| line.trim() != "add:")
        .skip(1)
        .take_while(|line| line.trim().starts_with(['-', '#']))
        .filter_map(|line| line.trim().strip_prefix("- "))
        .collect();
    assert_eq!(asked, ["BPF", "PERFMON", "SYS_RESOURCE"]);
    for line in [
        "drop: [\"ALL\"]",
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "hostPID: false",
        "hostIPC: false",
        "automountServiceAccountToken: false",
    ] {
        assert!(plain.contains(line), "{line}");
    }
    let mounts = plain.matches("mountPath: ").count();
    assert_eq!(plain.matches("readOnly: true").count(), mounts - 1);
}

/// Scenario: `systemd-analyze` on the unit, without a running systemd.
/// Guarantees: no line of it is refused, and its exposure is what is documented.
#[test]
#[expect(clippy::print_stdout, reason = "the test says that it was skipped")]
fn the_units_sandbox_is_as_tight_as_is_documented() {
    let unit = workspace::root().join(UNIT);
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command
            .args(arguments)
            .arg(&unit)
            .env("SYSTEMD_COLORS", "0")
            .output()
    };
    let offline = ["security", "--offline=true", "--no-pager"];
    let Ok(output) = analyze(&offline) else {
        println!("skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let threshold = format!("--threshold={EXPOSURE}");
    let judged = analyze(&[&offline[..], &[&threshold]].concat()).expect("it ran a moment ago");
    assert!(judged.status.success(), "{line}");
    let figure = format!("{}.{}", EXPOSURE / 10, EXPOSURE % 10);
    assert!(
        read("docs/deployment.md").contains(&format!("**{figure}**")),
        "{figure} is not in the docs"
    );
    let verified = analyze(&["verify", "--man=no"]).expect("it ran a moment ago");
    let said = String::from_utf8_lossy(&verified.stderr);
    // Units of the machine itself are not ours, and the program is not installed.
    let ours = said
        .lines()
        .filter(|line| line.contains("dataflux-probe.service"));
    let complaints: Vec<_> = ours
        .filter(|line| !line.contains("is not executable"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
