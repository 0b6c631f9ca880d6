//! The logger against brokers that are away, refuse or hang.

use rdkafka::types::RDKafkaRespErr as E;

use super::*;
use crate::pipeline::counters::KafkaCounters;

/// A logger and what it counts.
fn counted(cluster: &Cluster, text: &str) -> (Box<dyn Logger>, Arc<KafkaCounters>) {
    let brokers = cluster.bootstrap_servers();
    let text = format!("brokers = ['{brokers}']\ntopic = 't'\n{text}");
    let context = context(Path::new("/nowhere"));
    let logger = PLUGIN.build_from(&text, &context).unwrap();
    (logger, context.counters.kafka(""))
}

/// Sends until it is acknowledged; the errors before.
async fn deliver(logger: &mut dyn Logger, text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let begin = Instant::now();
    while let Err(error) = logger.send(contract::payload(text.to_owned())).await {
        assert!(begin.elapsed() < PATIENCE, "{error}");
        assert!(matches!(error, SendError::Retry(_)), "{error}");
        errors.push(error.to_string());
    }
    errors
}

fn refuse(cluster: &Cluster, error: RDKafkaRespErr) {
    cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
}

#[tokio::test]
async fn what_an_operator_can_mend_is_tried_again_with_a_new_producer() {
    let cluster = cluster(&["t"]);
    let (mut logger, counters) = counted(&cluster, "");
    assert_eq!(deliver(&mut *logger, "1").await, [""; 0]);
    for (number, (error, told)) in (2..).zip([
        (
            E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "not authorized to write to topic t",
        ),
        (
            E::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
            "topic t: PolicyViolation",
        ),
        (
            E::RD_KAFKA_RESP_ERR_INVALID_RECORD,
            "topic t: InvalidRecord",
        ),
        // The host's clock is hours ahead of the broker's.
        (
            E::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
            "topic t: InvalidTimestamp",
        ),
    ]) {
        refuse(&cluster, error);
        let errors = deliver(&mut *logger, &number.to_string()).await;
        assert!(
            errors.len() == 1 && errors[0].starts_with(told),
            "{errors:?}"
        );
        assert_eq!(counters.producers.get(), number);
    }
    let consumer = consumer(&cluster, "t");
    let received: Vec<_> = (0..5).map(|_| receive(&consumer).1).collect();
    assert_eq!(received, [b"1", b"2", b"3", b"4", b"5"]);
    assert_eq!(counters.latencies().count(), 5);
}

#[tokio::test]
async fn a_topic_that_is_made_later_is_found() {
    let cluster = cluster(&["t"]);
    cluster
        .topic_error("t", E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let properties = "properties.topic.metadata.propagation.max.ms = 100";
    let (mut logger, _) = counted(&cluster, properties);
    let error = logger.send(contract::payload("1")).await.unwrap_err();
    assert_eq!(error.to_string(), "topic t does not exist");
    cluster
        .topic_error("t", E::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    deliver(&mut *logger, "1").await;
    assert_eq!(receive(&consumer(&cluster, "t")).1, b"1");
}

#[tokio::test]
async fn a_fatal_error_costs_the_producer_but_no_record() {
    let cluster = cluster(&["t"]);
    let (mut logger, counters) = counted(&cluster, "");
    deliver(&mut *logger, "1").await;
    refuse(&cluster, E::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    let errors = deliver(&mut *logger, "2").await;
    assert_eq!(
        (errors.len(), counters.producers.get()),
        (1, 2),
        "{errors:?}"
    );
    let consumer = consumer(&cluster, "t");
    assert_eq!([receive(&consumer).1, receive(&consumer).1], [b"1", b"2"]);
}

#[tokio::test]
async fn only_what_is_too_large_by_itself_is_cut() {
    let cluster = cluster(&["t"]);
    let (mut logger, _) = counted(&cluster, "message_bytes = '100kB'\nbatch_bytes = '10kB'");
    let limit = logger.limits().payload_bytes;
    logger
        .send(contract::payload("x".repeat(limit)))
        .await
        .expect("what the limit allows is taken");
    let larger = logger.send(contract::payload("x".repeat(100_000))).await;
    assert!(matches!(larger, Err(SendError::TooLarge)), "{larger:?}");
    refuse(&cluster, E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    let alone = logger.send(contract::payload("x".repeat(20_000))).await;
    assert!(matches!(alone, Err(SendError::TooLarge)), "{alone:?}");
    // In a batch it may be the others: smaller batches are tried, down to single records.
    for _ in 0..2 {
        refuse(&cluster, E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        let batched = logger.send(contract::payload("x".repeat(3_000))).await;
        assert!(matches!(batched, Err(SendError::Retry(_))), "{batched:?}");
    }
    refuse(&cluster, E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    let alone = logger.send(contract::payload("x".repeat(3_000))).await;
    assert!(matches!(alone, Err(SendError::TooLarge)), "{alone:?}");
    assert_eq!(deliver(&mut *logger, "1").await, [""; 0]);
}

#[tokio::test]
async fn a_broker_that_comes_back_is_found_and_order_is_kept() {
    let cluster = cluster(&["t"]);
    let (mut logger, counters) = counted(&cluster, "");
    deliver(&mut *logger, "0").await;
    cluster.broker_down(1).unwrap();
    let sent: Vec<_> = (1..=4_u8)
        .map(|number| tokio::spawn(logger.send(contract::payload(vec![b'0' + number]))))
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(sent.iter().all(|sent| !sent.is_finished()));
    cluster.broker_up(1).unwrap();
    for sent in sent {
        tokio::time::timeout(PATIENCE, sent)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    let consumer = consumer(&cluster, "t");
    let received: Vec<_> = (0..5).map(|_| receive(&consumer).1).collect();
    assert_eq!(received, [b"0", b"1", b"2", b"3", b"4"]);
    assert_eq!(counters.producers.get(), 1);
}

#[tokio::test]
async fn many_in_flight_to_a_silent_broker_are_taken_back_and_few_are_not() {
    let cluster = cluster(&["t"]);
    let (mut logger, counters) = counted(&cluster, "");
    deliver(&mut *logger, "0").await;
    cluster
        .broker_round_trip_time(1, 3600 * Duration::from_secs(1))
        .unwrap();
    let send = |logger: &mut dyn Logger, count: u8| -> Vec<_> {
        (0..count)
            .map(|number| tokio::spawn(logger.send(contract::payload(vec![number]))))
            .collect()
    };
    let few = send(&mut *logger, 4);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(few.iter().all(|sent| !sent.is_finished()));
    let more = send(&mut *logger, 1);
    for sent in few.into_iter().chain(more) {
        let sent = tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
        let error = sent.unwrap_err().to_string();
        assert_eq!(error, "taken back before the brokers answered");
    }
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    deliver(&mut *logger, "1").await;
    assert_eq!(counters.producers.get(), 2);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_silent_broker() {
    let cluster = cluster(&["t"]);
    let (mut logger, _) = counted(&cluster, "");
    deliver(&mut *logger, "0").await;
    cluster
        .broker_round_trip_time(1, 3600 * Duration::from_secs(1))
        .unwrap();
    let sent = tokio::spawn(logger.send(contract::payload("1")));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    logger.close().await.unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let error = sent.await.unwrap().unwrap_err();
    assert!(matches!(error, SendError::Retry(_)), "{error}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_waited_for_and_never_told() {
    let cluster = cluster(&["t"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let keys = format!(
        "security = 'sasl_plaintext'\nsasl.mechanism = 'PLAIN'\nsasl.username = 'u'\nsasl.password_file = '{}'",
        file.display()
    );
    let (mut logger, _) = counted(&cluster, &keys);
    let told = [
        logger.open().unwrap_err(),
        logger.send(contract::payload("1")).await.unwrap_err(),
    ];
    for error in told {
        let expected = format!("reading {}: No such file", file.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    std::fs::write(&file, "hidden\0\n").unwrap();
    let error = logger.open().unwrap_err().to_string();
    assert!(error.ends_with("has a zero byte"), "{error}");
    std::fs::write(&file, "hidden\n").unwrap();
    logger.open().unwrap();
}
