//! What the metadata services of providers are asked, and what their answers mean.

use anyhow::Context as _;
use serde_json::Value;

use super::{Instance, http::Client};

/// Asks a service.
pub(super) type Service = fn(&Client) -> anyhow::Result<Instance>;

/// The service of a provider, if it is one of those that can be asked.
pub(super) fn of(provider: &str) -> Option<Service> {
    match provider {
        "aws" => Some(aws),
        "azure" => Some(azure),
        "gcp" => Some(gcp),
        _ => None,
    }
}

/// Version 2 of the service: a token first, then the document that describes the instance.
fn aws(client: &Client) -> anyhow::Result<Instance> {
    let ttl = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = client.request("PUT", "/latest/api/token", &[ttl])?;
    let token = ("X-aws-ec2-metadata-token", token.trim());
    let path = "/latest/dynamic/instance-identity/document";
    let document = json(&client.request("GET", path, &[token])?)?;
    let text = |key: &str| text(&document, key);
    Ok(Instance {
        instance_id: text("instanceId"),
        instance_type: text("instanceType"),
        region: text("region"),
        zone: text("availabilityZone"),
    })
}

/// The zone is a number, and missing where the region has none.
fn azure(client: &Client) -> anyhow::Result<Instance> {
    let path = "/metadata/instance/compute?api-version=2021-02-01&format=json";
    let compute = json(&client.request("GET", path, &[("Metadata", "true")])?)?;
    let text = |key: &str| text(&compute, key);
    Ok(Instance {
        instance_id: text("vmId"),
        instance_type: text("vmSize"),
        region: text("location"),
        zone: text("zone"),
    })
}

/// Type and zone are paths whose last part is the name, and a zone is its region's name, a hyphen and a letter.
fn gcp(client: &Client) -> anyhow::Result<Instance> {
    let get = |name: &str| {
        let path = format!("/computeMetadata/v1/instance/{name}");
        let answer = client.request("GET", &path, &[("Metadata-Flavor", "Google")])?;
        anyhow::Ok(answer.trim().to_owned())
    };
    let last = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let zone = last(get("zone")?);
    let region = zone.rsplit_once('-').map(|(region, _)| region.to_owned());
    Ok(Instance {
        instance_id: Some(get("id")?),
        instance_type: Some(last(get("machine-type")?)),
        region,
        zone: Some(zone),
    })
}

fn json(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).context("the answer is no JSON")
}

fn text(object: &Value, key: &str) -> Option<String> {
    let text = object[key].as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
