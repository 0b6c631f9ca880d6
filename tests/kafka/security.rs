//! Every way to prove who the probe is, and what comes of a wrong password.

use std::{fs, process::Command};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::one_stream,
};

use super::{
    cluster::{self, Cluster, until_there_are},
    consume,
    delivery::list,
};

/// Protocol of the listener, its name in `cluster.json`, and the other keys of the logger.
const WAYS: [(&str, &str); 7] = [
    (
        "ssl",
        "tls.ca_file = 'CA'\ntls.certificate_file = 'CLIENT'\ntls.key_file = 'ENCRYPTED'\ntls.key_password_file = 'DIR/key_password'",
    ),
    ("sasl_plaintext", "sasl.mechanism = 'PLAIN'\nPASSWORD"),
    (
        "sasl_plaintext",
        "sasl.mechanism = 'SCRAM-SHA-256'\nPASSWORD",
    ),
    (
        "sasl_ssl",
        "tls.ca_file = 'CA'\nsasl.mechanism = 'PLAIN'\nPASSWORD",
    ),
    (
        "sasl_ssl",
        "tls.ca_file = 'CA'\nsasl.mechanism = 'SCRAM-SHA-256'\nPASSWORD",
    ),
    (
        "sasl_ssl",
        "tls.ca_file = 'CA'\nsasl.mechanism = 'SCRAM-SHA-512'\nPASSWORD",
    ),
    (
        "sasl_ssl",
        "tls.ca_file = 'CA'\nsasl.mechanism = 'OAUTHBEARER'\nsasl.token_file = 'DIR/token'",
    ),
];

fn filled(cluster: &Cluster, keys: &str) -> String {
    keys.replace(
        "PASSWORD",
        "sasl.username = 'probe'\nsasl.password_file = 'DIR/password'",
    )
    .replace("CA", cluster.text(&["certificates", "ca"]))
    .replace("CLIENT", cluster.text(&["certificates", "client"]))
    .replace(
        "ENCRYPTED",
        cluster.text(&["certificates", "client_key_encrypted"]),
    )
}

fn output(cluster: &Cluster, name: &str, listener: &str, keys: &str) -> String {
    format!(
        "[output.{name}]\nformatter = 'json'\nlogger = 'kafka'\n[output.{name}.kafka]\nbrokers = {}\ntopic = 'security_{name}'\n\
         security = '{listener}'\n{}\n",
        list(cluster.bootstrap(listener)),
        filled(cluster, keys)
    )
}

const HEAD: &str = "[probe]\ninterval = '100ms'\n[metrics.memory]\n";

/// Scenario: one probe, an output for every protocol and mechanism.
/// Guarantees: each delivers every number; no secret is in the diagnostics.
#[test]
fn every_protocol_and_mechanism_delivers() {
    let Some(cluster) = Cluster::shared("every_protocol_and_mechanism_delivers") else {
        return;
    };
    let outputs: String = WAYS
        .iter()
        .enumerate()
        .map(|(index, (listener, keys))| output(cluster, &format!("way{index}"), listener, keys))
        .collect();
    let mut probe = Probe::prepare(&format!("{HEAD}{outputs}"));
    let password = cluster.text(&["password"]);
    let key_password = cluster.text(&["certificates", "client_key_password"]);
    let token = cluster.text(&["token"]);
    for (name, text) in [
        ("password", password),
        ("key_password", key_password),
        ("token", token),
    ] {
        fs::write(probe.path(name), format!("{text}\n")).expect("the folder is writable");
    }
    probe.restart();
    for index in 0..WAYS.len() {
        until_there_are(cluster, &format!("security_way{index}"), 5);
    }
    let ended = probe.stop();
    for secret in [password, key_password, token] {
        assert!(!ended.diagnostics.contains(secret), "{}", ended.diagnostics);
    }
    for (index, way) in WAYS.iter().enumerate() {
        let found = consume::envelopes(cluster, &format!("security_way{index}"));
        let stream = one_stream(&found);
        assert_eq!(stream.lost.len(), 0, "{way:?}: {stream:?}");
    }
}

/// Scenario: the password's file is wrong at first, and mended while the probe runs.
/// Guarantees: the refusal is told, nothing is rejected, and every number arrives once the file is right.
#[test]
fn a_password_that_is_mended_is_taken() {
    let Some(cluster) = Cluster::shared("a_password_that_is_mended_is_taken") else {
        return;
    };
    let (listener, keys) = WAYS[4];
    let mut probe = Probe::prepare(&format!(
        "{HEAD}{}",
        output(cluster, "mended", listener, keys)
    ));
    let file = probe.path("password");
    fs::write(&file, "not-this").expect("the folder is writable");
    probe.restart();
    until("a warning about the password", || {
        let told = probe.diagnostics().to_ascii_lowercase();
        told.contains("authentication").then_some(())
    });
    assert_eq!(consume::envelopes(cluster, "security_mended").len(), 0);
    fs::write(&file, cluster.text(&["password"])).expect("the folder is writable");
    until_there_are(cluster, "security_mended", 20);
    let ended = probe.stop();
    assert!(
        !ended.diagnostics.contains("not-this"),
        "{}",
        ended.diagnostics
    );
    let stream = one_stream(&consume::envelopes(cluster, "security_mended"));
    assert_eq!(stream.lost.len(), 0, "{stream:?}");
}

/// Scenario: the user's password is changed at the broker, which drops every connection by a restart; the file follows later.
/// Guarantees: every number arrives.
#[test]
fn a_password_that_is_rotated_loses_nothing() {
    let test = "a_password_that_is_rotated_loses_nothing";
    let Some(cluster) = Cluster::own(test, 1, &[]) else {
        return;
    };
    let Some(python) = consume::python() else {
        return;
    };
    let (listener, keys) = WAYS[5];
    let topic = "security_rotated";
    let mut probe = Probe::prepare(&format!(
        "{HEAD}{}",
        output(&cluster, "rotated", listener, keys)
    ));
    let file = probe.path("password");
    fs::write(&file, cluster.text(&["password"])).expect("the folder is writable");
    probe.restart();
    until_there_are(&cluster, topic, 5);

    let script = "import sys\nfrom confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion\n\
                  change = UserScramCredentialUpsertion('probe', ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b'another')\n\
                  client = AdminClient({'bootstrap.servers': sys.argv[1]})\n\
                  done = client.alter_user_scram_credentials([change])\n\
                  [future.result() for future in done.values()]\n";
    cluster::output(
        Command::new(python)
            .args(["-c", script])
            .arg(cluster.bootstrap("plaintext")),
    );
    cluster.act(1, "stop");
    cluster.act(1, "start");
    until("a warning about the password", || {
        let told = probe.diagnostics().to_ascii_lowercase();
        told.contains("authentication").then_some(())
    });
    fs::write(&file, "another").expect("the folder is writable");
    let before = consume::envelopes(&cluster, topic).len();
    until_there_are(&cluster, topic, before + 20);
    let ended = probe.stop();
    let stream = one_stream(&consume::envelopes(&cluster, topic));
    assert_eq!(stream.lost.len(), 0, "{stream:?}\n{}", ended.diagnostics);
}

/// Scenario: passwords and a token in files and the environment, of outputs that get in and of one that does not, with
/// everything logged that the probe and librdkafka can log; and `check` of the same configuration.
/// Guarantees: no secret is anywhere in what was said.
#[test]
fn no_secret_is_ever_told() {
    let Some(cluster) = Cluster::shared("no_secret_is_ever_told") else {
        return;
    };
    let by_environment =
        "tls.ca_file = 'CA'\nsasl.mechanism = 'OAUTHBEARER'\nsasl.token_env = 'TOKEN'\n";
    let ways = [
        ("key", WAYS[0].0, WAYS[0].1),
        ("plain", WAYS[1].0, WAYS[1].1),
        ("scram", WAYS[5].0, WAYS[5].1),
        ("token", "sasl_ssl", by_environment),
        (
            "wrong",
            "sasl_plaintext",
            "sasl.mechanism = 'PLAIN'\nsasl.username = 'probe'\nsasl.password_env = 'WRONG'\n",
        ),
    ];
    let outputs = ways.map(|(name, listener, keys)| {
        format!(
            "{}properties.debug = 'all'\n",
            output(cluster, &format!("told_{name}"), listener, keys)
        )
    });
    let mut probe = Probe::prepare(&format!("{HEAD}{}", outputs.concat()));
    let key_password = cluster.text(&["certificates", "client_key_password"]);
    let (password, token) = (cluster.text(&["password"]), cluster.text(&["token"]));
    for (name, text) in [("password", password), ("key_password", key_password)] {
        fs::write(probe.path(name), text).expect("the folder is writable");
    }
    let wrong = "a-password-that-is-wrong";
    let environment = [
        "RUST_LOG=trace".to_owned(),
        format!("TOKEN={token}"),
        format!("WRONG={wrong}"),
    ];
    let mut words = vec!["env"];
    words.extend(environment.iter().map(String::as_str));
    probe.start_under(&words);
    probe.restart();
    for (name, ..) in &ways[..4] {
        until_there_are(cluster, &format!("security_told_{name}"), 3);
    }
    until("a refusal", || {
        let told = probe.diagnostics().to_ascii_lowercase();
        told.contains("authentication").then_some(())
    });
    let ended = probe.stop();
    let mut check = Command::new(words[0]);
    check.args(&words[1..]).arg(dataflux_tests::probe::binary());
    let checked = check
        .arg("check")
        .arg(probe.path("probe.toml"))
        .output()
        .expect("the probe starts");
    assert!(checked.status.success(), "{checked:?}");
    for level in ["TRACE", "DEBUG", "librdkafka: "] {
        assert!(ended.diagnostics.contains(level), "no {level} was logged");
    }
    let said = [
        &*ended.diagnostics,
        &*String::from_utf8_lossy(&checked.stdout),
        &*String::from_utf8_lossy(&checked.stderr),
    ]
    .concat();
    for secret in [password, key_password, token, wrong] {
        let lines = said.lines().filter(|line| line.contains(secret));
        let lines: Vec<_> = lines.collect();
        assert!(lines.is_empty(), "{secret} is told: {lines:#?}");
    }
}
