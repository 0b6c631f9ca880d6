//! What an operator has to mend at the brokers, and what nobody can.

use std::{path::Path, process::Command, thread, time::Duration};

use dataflux_tests::{
    probe::{self, Probe, until},
    sequence::{envelopes, one_stream, series},
};
use serde_json::Value;

use super::{
    cluster::{self, Cluster, until_there_are},
    consume,
    delivery::list,
};

/// Runs a script with the administration client at `client`.
fn administrate(python: &Path, cluster: &Cluster, script: &str) {
    let head = "import sys\nfrom confluent_kafka.admin import *\n\
                client = AdminClient({'bootstrap.servers': sys.argv[1]})\n\
                wait = lambda done: [future.result() for future in done.values()]\n";
    cluster::output(
        Command::new(python)
            .args(["-c", &format!("{head}{script}\n")])
            .arg(cluster.bootstrap("plaintext")),
    );
}

fn warnings(told: &str, output: &str) -> usize {
    let name = format!("output=\"{output}\"");
    let warns = |line: &&str| line.contains("cannot deliver") && line.contains(&name);
    told.lines().filter(warns).count()
}

/// Scenario: one output writes to a topic that is not there, another to one that its user may not write to; after a while
/// an operator makes the topic and lifts the ban.
/// Guarantees: each is told once, nothing is rejected, and every number arrives.
#[test]
fn what_an_operator_mends_is_told_once_and_heals() {
    let test = "what_an_operator_mends_is_told_once_and_heals";
    let (Some(cluster), Some(python)) = (Cluster::shared(test), consume::python()) else {
        return;
    };
    let ban = "TOPIC, 'banned', ResourcePatternType.LITERAL, 'User:probe', '*', AclOperation.WRITE, AclPermissionType.DENY";
    let ban = ban.replace("TOPIC", "ResourceType.TOPIC");
    administrate(
        &python,
        cluster,
        &format!(
            "wait(client.create_topics([NewTopic('banned', 1, 1)]))\nwait(client.create_acls([AclBinding({ban})]))"
        ),
    );
    let mut probe = Probe::prepare(&format!(
        "[probe]\ninterval = '100ms'\n[metrics.memory]\n\
         [output.missing]\nformatter = 'json'\nlogger = 'kafka'\n[output.missing.kafka]\nbrokers = {}\ntopic = 'missing'\n\
         properties.'allow.auto.create.topics' = false\nproperties.'topic.metadata.propagation.max.ms' = 500\n\
         [output.banned]\nformatter = 'json'\nlogger = 'kafka'\n[output.banned.kafka]\nbrokers = {}\ntopic = 'banned'\n\
         security = 'sasl_plaintext'\nsasl.mechanism = 'PLAIN'\nsasl.username = 'probe'\nsasl.password_env = 'PASSWORD'\n",
        list(cluster.bootstrap("plaintext")),
        list(cluster.bootstrap("sasl_plaintext")),
    ));
    let password = format!("PASSWORD={}", cluster.text(&["password"]));
    probe.start_under(&["env", &password]);
    probe.restart();
    until("both are told", || {
        let told = probe.diagnostics();
        (told.contains("topic missing does not exist")
            && told.contains("not authorized to write to topic banned"))
        .then_some(())
    });
    thread::sleep(Duration::from_secs(2));
    let mend = "wait(client.create_topics([NewTopic('missing', 1, 1)]))";
    administrate(&python, cluster, mend);
    administrate(
        &python,
        cluster,
        &format!("wait(client.delete_acls([AclBindingFilter({ban})]))"),
    );
    for topic in ["missing", "banned"] {
        until_there_are(cluster, topic, 40);
    }
    let ended = probe.stop();
    for topic in ["missing", "banned"] {
        let stream = one_stream(&consume::envelopes(cluster, topic));
        assert_eq!(stream.lost.len(), 0, "{topic}: {}", ended.diagnostics);
        let told = warnings(&ended.diagnostics, topic);
        assert_eq!(told, 1, "{topic}: {}", ended.diagnostics);
    }
}

/// Scenario: a topic that takes no message as large as even one series makes.
/// Guarantees: what is too large is cut, and then rejected: counted, told once, named by a gap, and kept where
/// `spool cat` shows it.
#[test]
fn what_stays_too_large_is_rejected_and_kept() {
    let test = "what_stays_too_large_is_rejected_and_kept";
    let (Some(cluster), Some(python)) = (Cluster::shared(test), consume::python()) else {
        return;
    };
    let create =
        "wait(client.create_topics([NewTopic('tiny', 1, 1, config={'max.message.bytes': '300'})]))";
    administrate(&python, cluster, create);
    let mut probe = Probe::start(&format!(
        "[probe]\ninterval = '100ms'\nstate_dir = 'DIR/state'\n[metrics.memory]\n[metrics.probe]\n\
         [output.tiny]\nformatter = 'json'\nlogger = 'kafka'\nspool_bytes = '8MiB'\ndead_letter_bytes = '4MiB'\n\
         [output.tiny.kafka]\nbrokers = {}\ntopic = 'tiny'\nbatch_bytes = '8KiB'\nmessage_bytes = '8KiB'\n\
         [output.file]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/envelopes'\n",
        list(cluster.bootstrap("plaintext")),
    ));
    let rejected = until("rejected numbers", || {
        let found = envelopes(&probe.path("envelopes"));
        let lost = series(found.last()?, "probe.output.lost");
        let of_tiny = |series: &&Value| {
            series["labels"]["output"] == "tiny" && series["labels"]["cause"] == "rejected"
        };
        let rejected = lost.iter().find(of_tiny)?["total"].as_u64()?;
        (rejected > 5).then_some(rejected)
    });
    // The topic takes what there is from now on, and with it the news of what it did not take.
    let mend = "change = ConfigResource(ResourceType.TOPIC, 'tiny', \
                incremental_configs=[ConfigEntry('max.message.bytes', '1000000', incremental_operation=AlterConfigOpType.SET)])\n\
                wait(client.incremental_alter_configs([change]))";
    administrate(&python, cluster, mend);
    until_there_are(cluster, "tiny", 5);
    let ended = probe.stop();
    let stream = one_stream(&consume::envelopes(cluster, "tiny"));
    assert!(stream.lost.len() as u64 >= rejected, "{stream:?}");
    assert_eq!(stream.causes, ["rejected".to_owned()].into());
    let kinds = ended.diagnostics.matches("loses envelopes").count();
    assert_eq!(kinds, 1, "{}", ended.diagnostics);

    let state = probe.path("state").display().to_string();
    let printed = probe::run(&[
        "spool",
        "cat",
        "--state-dir",
        &state,
        "tiny",
        "--dead-letters",
    ]);
    let text = String::from_utf8(printed.stdout).expect("JSON is UTF-8");
    let kept: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let numbers = kept.iter().map(|kept| &kept["envelope"]["stream"]["first"]);
    let numbers: Vec<u64> = numbers.filter_map(Value::as_u64).collect();
    assert!(
        stream.lost.iter().copied().eq(numbers.iter().copied()),
        "{:?} is lost, {numbers:?} is kept",
        stream.lost
    );
}
