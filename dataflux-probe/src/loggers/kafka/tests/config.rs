//! What `check` says against a section.

use super::*;

/// The error that the section's text gives, or nothing.
fn mistake(text: &str) -> String {
    let built = PLUGIN.build_from(text, &context(Path::new("/nowhere")));
    built
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default()
}

#[test]
fn every_mistake_is_told_with_its_line() {
    for (text, expected) in [
        (
            "topic = 'a.{rack}'",
            "3: topic: {rack} is not {host}, {label.NAME} or {reader}",
        ),
        ("topic = 'a{'", "3: topic: a `{` has no `}`"),
        (
            "topic = 'a b'",
            "3: topic: ` ` cannot stand in a topic's name",
        ),
        ("topic = ''", "3: topic: is empty"),
        ("topic = '..'", "3: topic: is not the name of a topic"),
        (
            "topic = 'a.{reader}'",
            "3: topic: {reader} needs envelope = \"per_reader\"",
        ),
        (
            "topic = 'a'\nkey = 'rack'",
            "4: key: `rack` is not \"host\"",
        ),
        (
            "topic = 'a'\nacks = '0'",
            "4: acks: 0 asks for no acknowledgement",
        ),
        ("topic = 'a'\nacks = '2'", "4: acks: `2` is not"),
        (
            "topic = 'a'\nacks = '1'\nidempotence = true",
            "5: idempotence: needs acks",
        ),
        (
            "topic = 'a'\ncompression = 'zip'",
            "4: compression: unknown variant `zip`",
        ),
        (
            "topic = 'a'\npartitioner = 'hash'",
            "4: partitioner: unknown variant `hash`",
        ),
        (
            "topic = 'a'\nmessage_bytes = '1KiB'",
            "4: message_bytes: must be 8192 to",
        ),
        (
            "topic = 'a'\nbatch_bytes = '2GB'",
            "4: batch_bytes: must be",
        ),
        (
            "topic = 'a'\nlinger = '1h'",
            "4: linger: must be 15m at most",
        ),
        (
            "topic = 'a'\nsecurity = 'sasl_ssl'",
            "4: security: needs sasl.mechanism",
        ),
        (
            "topic = 'a'\ntls.ca_file = '/ca'",
            "4: tls: needs security = \"ssl\"",
        ),
        (
            "topic = 'a'\nsasl.mechanism = 'PLAIN'",
            "4: sasl: needs security = \"sasl_ssl\"",
        ),
        (
            "topic = 'a'\nsecurity = 'ssl'\ntls.key_file = '/key'",
            "5: tls: certificate_file and key_file belong together",
        ),
        (
            "topic = 'a'\nsecurity = 'sasl_ssl'\nsasl.mechanism = 'GSSAPI'",
            "5: sasl.mechanism: unknown variant `GSSAPI`, expected one of `PLAIN`",
        ),
        (
            "topic = 'a'\nsecurity = 'sasl_ssl'\nsasl.mechanism = 'PLAIN'\nsasl.username = 'u'",
            "5: sasl.mechanism: PLAIN needs username, and password_file or password_env",
        ),
        (
            "topic = 'a'\nsecurity = 'sasl_ssl'\nsasl.mechanism = 'OAUTHBEARER'\nsasl.username = 'u'",
            "5: sasl.mechanism: OAUTHBEARER needs token_file or token_env",
        ),
        (
            "topic = 'a'\nsecurity = 'sasl_ssl'\n[sasl]\nmechanism = 'PLAIN'\nusername = 'u'\npassword_file = '/p'\n\
             password_env = 'P'",
            "9: sasl.password_env: is given beside password_file",
        ),
    ] {
        let found = mistake(&format!("\nbrokers = ['a:1']\n{text}\n"));
        let expected = format!("test.toml:{expected}");
        assert!(
            found.starts_with(&expected),
            "{text}\nsays {found}\nnot  {expected}"
        );
    }
    for brokers in ["[]", "['']", "['a:1,b:1']", "['kafka://a:1']"] {
        let found = mistake(&format!("topic = 'a'\nbrokers = {brokers}\n"));
        assert!(
            found.starts_with("test.toml:2: brokers: names the brokers"),
            "{found}"
        );
    }
}

#[test]
fn properties_of_librdkafka_are_checked() {
    let of = |text: &str| {
        mistake(&format!(
            "brokers = ['a:1']\ntopic = 'a'\n[properties]\n\n{text}\n"
        ))
    };
    for good in [
        "'socket.keepalive.enable' = false",
        "socket.timeout.ms = 1000\nsocket.keepalive.enable = true",
        "retry.backoff.ms = 10\nretry.backoff.max.ms = 20",
        "client.id = 'x'",
        "compression.level = 3",
    ] {
        assert_eq!(of(good), "");
    }
    for (text, expected) in [
        (
            "'socket.time' = 1",
            "socket.time: librdkafka refuses socket.time: No such configuration property",
        ),
        (
            "socket.timeout.ms = 'x'",
            "socket.timeout.ms: librdkafka refuses socket.timeout.ms: Invalid value",
        ),
        (
            "socket.timeout.ms = 1",
            "socket.timeout.ms: librdkafka refuses socket.timeout.ms: Configuration property",
        ),
        (
            "'bootstrap.servers' = 'b:1'",
            "bootstrap.servers: is the key `brokers`",
        ),
        ("linger.ms = 3", "linger.ms: is the key `linger`"),
        (
            "retries = 3",
            "retries: would let librdkafka give records up",
        ),
        (
            "message.timeout.ms = 3",
            "message.timeout.ms: would let librdkafka give",
        ),
        ("transactional.id = 'x'", "transactional.id: would break"),
        ("log_level = 7", "log_level: belongs to the probe"),
        ("dr_cb = 'x'", "dr_cb: belongs to the probe"),
    ] {
        let found = of(text);
        let expected = format!("test.toml:5: properties.{expected}");
        assert!(
            found.starts_with(&expected),
            "{text}\nsays {found}\nnot  {expected}"
        );
    }
    for secret in ["'sasl.password'", "'ssl.key.password'", "'ssl.key.pem'"] {
        let found = of(&format!("{secret} = 'hidden\0'"));
        assert!(!found.is_empty() && !found.contains("hidden"), "{found}");
    }
    let found = of("max.in.flight = 1000");
    assert!(found.contains("max.in.flight"), "{found}");
}

#[test]
fn files_that_properties_name_are_told_wherever_they_are() {
    let text = "brokers = ['b']\ntopic = 'a'\nsecurity = 'ssl'\n[properties]\n'ssl.crl.location' = 'Cargo.toml'\n";
    let logger = PLUGIN.build_from(text, &context(Path::new("/nowhere")));
    let read = logger.unwrap().files().read;
    assert!(
        read.iter().any(|file| file == Path::new("Cargo.toml")),
        "{read:?}"
    );
}
