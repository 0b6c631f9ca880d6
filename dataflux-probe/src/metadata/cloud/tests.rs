//! Tests against servers of the tests' own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::plugin::testing;

/// Answers requests, which it gives with their headers, until the test ends.
fn serve(
    answer: impl Fn(&str) -> Option<String> + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let stream = stream.unwrap();
            match answer(&request(&stream)) {
                Some(body) => respond(stream, &body),
                None => silent.push(stream),
            }
        }
    });
    (address, count)
}

fn request(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join("\n")
}

fn respond(mut stream: TcpStream, body: &str) {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
}

/// A machine with this in its firmware.
fn machine(file: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dmi = folder.path().join("sys/class/dmi/id");
    fs::create_dir_all(&dmi).unwrap();
    fs::write(dmi.join(file), text).unwrap();
    folder
}

fn reader(machine: &TempDir, endpoint: SocketAddr, more: &str) -> Box<dyn MetadataReader> {
    let config = format!("endpoint = 'http://{endpoint}'\n{more}");
    let context = testing::context(machine.path());
    PLUGIN.build_from(&config, &context).unwrap()
}

fn read(reader: &mut Box<dyn MetadataReader>) -> Value {
    let mut metadata = Metadata::default();
    reader.read(&mut metadata).unwrap();
    metadata.sections.remove("cloud").unwrap().into()
}

/// What it says once the service has answered.
fn answered(reader: &mut Box<dyn MetadataReader>) -> Value {
    let answer = (0..6000).find_map(|_| {
        let section = read(reader);
        thread::sleep(Duration::from_millis(1));
        section.get("instance_id").is_some().then_some(section)
    });
    answer.unwrap()
}

#[test]
fn aws_wants_a_token_first() {
    let (endpoint, _) = serve(|request| {
        if request.starts_with("PUT /latest/api/token ") {
            assert!(request.contains("\nX-aws-ec2-metadata-token-ttl-seconds: "));
            return Some("t0ken\n".to_owned());
        }
        assert!(request.starts_with("GET /latest/dynamic/instance-identity/document "));
        assert!(
            request.contains("\nX-aws-ec2-metadata-token: t0ken"),
            "{request}"
        );
        Some(r#"{"instanceId": "i-0abc", "instanceType": "m5.large", "region": "eu-west-1", "availabilityZone": "eu-west-1a", "accountId": "1"}"#.to_owned())
    });
    let machine = machine("sys_vendor", "Amazon EC2\n");
    let expected = json!({
        "provider": "aws",
        "instance_id": "i-0abc",
        "instance_type": "m5.large",
        "region": "eu-west-1",
        "zone": "eu-west-1a",
    });
    assert_eq!(answered(&mut reader(&machine, endpoint, "")), expected);
}

#[test]
fn azure_is_known_by_its_tag_and_asked_with_its_header() {
    let (endpoint, _) = serve(|request| {
        assert!(
            request.starts_with("GET /metadata/instance/compute?api-version="),
            "{request}"
        );
        assert!(request.contains("\nMetadata: true"), "{request}");
        Some(r#"{"vmId": "02aab8a4", "vmSize": "Standard_D2s_v3", "location": "westeurope", "zone": ""}"#.to_owned())
    });
    let machine = machine("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    let expected = json!({
        "provider": "azure",
        "instance_id": "02aab8a4",
        "instance_type": "Standard_D2s_v3",
        "region": "westeurope",
    });
    assert_eq!(answered(&mut reader(&machine, endpoint, "")), expected);
}

#[test]
fn gcp_gives_paths_of_which_the_last_part_counts() {
    let (endpoint, _) = serve(|request| {
        assert!(request.contains("\nMetadata-Flavor: Google"), "{request}");
        let path = request.split(' ').nth(1).unwrap();
        let name = path.strip_prefix("/computeMetadata/v1/instance/").unwrap();
        Some(match name {
            "id" => "4567".to_owned(),
            "zone" => "projects/1/zones/europe-west1-b".to_owned(),
            other => format!("projects/1/{other}s/e2-medium"),
        })
    });
    let machine = machine("product_name", "x\n");
    let expected = json!({
        "provider": "gcp",
        "instance_id": "4567",
        "instance_type": "e2-medium",
        "region": "europe-west1",
        "zone": "europe-west1-b",
    });
    let mut reader = reader(&machine, endpoint, "provider = 'gcp'");
    assert_eq!(answered(&mut reader), expected);
}

#[test]
fn nobody_is_asked_unless_the_firmware_or_the_configuration_names_a_provider() {
    let (endpoint, count) = serve(|_| None);
    for (vendor, expected) in [
        ("Dell Inc.", json!({})),
        ("Hetzner", json!({"provider": "hetzner"})),
    ] {
        let machine = machine("sys_vendor", vendor);
        let mut reader = reader(&machine, endpoint, "");
        assert_eq!(read(&mut reader), expected);
        assert_eq!(read(&mut reader), expected);
    }
    // Whoever connected before would have been counted by the time this one is.
    drop(TcpStream::connect(endpoint).unwrap());
    while count.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_service_that_says_nothing_is_asked_once_at_a_time_and_what_it_said_stays() {
    let silent = Arc::new(AtomicUsize::new(0));
    let mute = Arc::clone(&silent);
    let (endpoint, count) = serve(move |_| {
        let speaks = mute.load(Ordering::SeqCst) == 0;
        speaks.then(|| r#"{"vmId": "v"}"#.to_owned())
    });
    let machine = machine("sys_vendor", "x");
    let mut reader = reader(&machine, endpoint, "provider = 'azure'\ntimeout = '10s'");
    let said = answered(&mut reader);
    silent.store(1, Ordering::SeqCst);
    let before = count.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(read(&mut reader), said);
    }
    assert_eq!(count.load(Ordering::SeqCst), before + 1);
}

#[test]
fn an_end_that_refuses_or_talks_nonsense_leaves_the_provider() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (nonsense, _) = serve(|_| Some("nonsense".to_owned()));
    let machine = machine("sys_vendor", "Amazon EC2");
    for endpoint in [closed, nonsense] {
        let mut reader = reader(&machine, endpoint, "timeout = '500ms'");
        for _ in 0..3 {
            assert_eq!(read(&mut reader), json!({"provider": "aws"}));
        }
    }
}

#[test]
fn endpoints_are_addresses() {
    let address = |text| address(text).map(|address| address.to_string());
    assert_eq!(
        address("http://169.254.169.254").as_deref(),
        Some("169.254.169.254:80")
    );
    assert_eq!(
        address("http://[fd00:ec2::254]/").as_deref(),
        Some("[fd00:ec2::254]:80")
    );
    assert_eq!(
        address("http://127.0.0.1:8080").as_deref(),
        Some("127.0.0.1:8080")
    );
    for wrong in [
        "https://169.254.169.254",
        "169.254.169.254",
        "http://metadata",
        "http://1.2.3.4/x",
    ] {
        assert_eq!(address(wrong), None);
    }
}

#[test]
fn machines_of_xen_at_aws_are_known_by_the_version_of_their_firmware() {
    let dmi = Dmi {
        sys_vendor: Some("Xen".into()),
        bios_version: Some("4.11.amazon".into()),
        ..Dmi::default()
    };
    assert_eq!(by_firmware(&dmi), Some("aws"));
    assert_eq!(by_firmware(&Dmi::default()), None);
}
