//! `cloud`: whose machine this is, by its firmware, and what the provider's metadata service says of it.

mod http;
mod services;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MetadataReader, dmi::Dmi};
use crate::{
    config::values::Time,
    model::Metadata,
    plugin::{Needs, Plugin},
    question::{Answer, Question},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "cloud",
    summary: "provider, and by its metadata service the id and type of the instance, its region and zone",
    needs: Needs {
        kernel: "/sys/class/dmi; the network's way to the metadata service",
        ..Needs::NOTHING
    },
    example: "\
enabled = false  # asks a service of the provider, so only where it is wanted
# Whose machine it is: \"aws\", \"azure\", \"gcp\", or \"auto\", as the firmware says (default). Nobody is asked unless it is one of
# these three; for other providers that the firmware names the section has only their name.
# provider = \"auto\"
# endpoint = \"http://169.254.169.254\"    # the metadata service: http, an address, with or without a port; this is the default
# timeout = \"1s\"    # how long the service may take for all, on a thread of its own; at most 10s; default 1s
",
    metrics: &[],
    build: |section, context| {
        section.build(|config: Config, problems| {
            if config.timeout.0 > LONGEST_TIMEOUT || config.timeout.0.is_zero() {
                problems.push(section.error(Some("timeout"), "is not between 1ms and 10s"));
            }
            let Some(endpoint) = address(&config.endpoint) else {
                let message = "is not like \"http://169.254.169.254\" or \"http://127.0.0.1:8080\"";
                return Err(section.error(Some("endpoint"), message));
            };
            Ok(Box::new(Cloud {
                sys: context.roots.sys.clone(),
                provider: config.provider,
                endpoint,
                timeout: config.timeout.0,
                open: None,
                known: None,
                failing: false,
            }) as _)
        })
    },
};

const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a read waits for the answer to what it has just asked; one that comes later is there at the next read.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    provider: Choice,
    endpoint: String,
    timeout: Time,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: Choice::Auto,
            endpoint: "http://169.254.169.254".to_owned(),
            timeout: Time(Duration::from_secs(1)),
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Auto,
    Aws,
    Azure,
    Gcp,
}

/// Of a URL of http that has an address and nothing behind it.
fn address(endpoint: &str) -> Option<SocketAddr> {
    let host = endpoint.strip_prefix("http://")?;
    let host = host.strip_suffix('/').unwrap_or(host);
    host.parse().or_else(|_| format!("{host}:80").parse()).ok()
}

struct Cloud {
    sys: PathBuf,
    provider: Choice,
    endpoint: SocketAddr,
    timeout: Duration,
    /// Asked and not answered yet; never two at once.
    open: Option<Question<anyhow::Result<Instance>>>,
    /// The last answer.
    known: Option<Instance>,
    /// Whether the last answer was none, which was said.
    failing: bool,
}

/// What a service says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Instance {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl MetadataReader for Cloud {
    /// Keys: `provider`, if one is known; `instance_id`, `instance_type`, `region` and `zone` as far as its service has said
    /// them. After a service has said something, that stays until it says something else.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let provider = match self.provider {
            Choice::Auto => by_firmware(&Dmi::read(&self.sys)),
            Choice::Aws => Some("aws"),
            Choice::Azure => Some("azure"),
            Choice::Gcp => Some("gcp"),
        };
        if let Some(service) = provider.and_then(services::of) {
            self.ask(service)?;
        }
        let mut section = super::section([("provider", provider.map(Value::from))]);
        if let Some(known) = &self.known {
            match serde_json::to_value(known)? {
                Value::Object(facts) => section.extend(facts),
                other => bail!("{other} is no section"),
            }
        }
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

impl Cloud {
    /// Asks if nothing is open, and takes the answer if it is there or comes soon.
    fn ask(&mut self, service: services::Service) -> anyhow::Result<()> {
        let now = Instant::now();
        let (question, until) = match self.open.take() {
            Some(question) => (question, now),
            None => {
                let (endpoint, deadline) = (self.endpoint, now + self.timeout);
                let question =
                    Question::ask(move || service(&http::Client { endpoint, deadline }))?;
                (question, now + PATIENCE)
            }
        };
        match question.answer(until) {
            Answer::Here(Ok(instance)) => {
                self.known = Some(instance);
                self.failing = false;
            }
            Answer::Here(Err(error)) => {
                if !self.failing {
                    tracing::warn!(
                        "the metadata service at {} is no help: {error:#}",
                        self.endpoint
                    );
                }
                self.failing = true;
            }
            Answer::Open => self.open = Some(question),
            Answer::Never => {}
        }
        Ok(())
    }
}

/// What an answer by HTTP has for a body, and whether all of it is there: what fuzzing throws bytes at.
pub(super) fn answer(bytes: &[u8]) -> (anyhow::Result<String>, bool) {
    (http::body(bytes), http::whole(bytes))
}

/// What stands at the beginning of a string of DMI, and which provider writes it.
const WRITTEN: [(&str, &str); 15] = [
    ("Amazon EC2", "aws"),
    ("Google Compute Engine", "gcp"),
    ("Alibaba Cloud", "alibaba"),
    ("DigitalOcean", "digitalocean"),
    ("Hetzner", "hetzner"),
    ("Scaleway", "scaleway"),
    ("UpCloud", "upcloud"),
    ("Vultr", "vultr"),
    ("Akamai", "linode"),
    ("Linode", "linode"),
    ("Exoscale", "exoscale"),
    ("Tencent Cloud", "tencent"),
    ("Huawei Cloud", "huawei"),
    ("OpenStack", "openstack"),
    ("CloudStack", "cloudstack"),
];

/// What Azure's and Oracle's machines have on their enclosure: their vendors sell other machines, too.
const TAGGED: [(&str, &str); 2] = [
    ("7783-7084-3265-9085-8269-3286-77", "azure"),
    ("OracleCloud.com", "oracle"),
];

fn by_firmware(dmi: &Dmi) -> Option<&'static str> {
    let tag = dmi.chassis_asset_tag.as_deref();
    let tagged = TAGGED.iter().find(|(known, _)| tag == Some(*known));
    let written = || WRITTEN.iter().find(|(prefix, _)| dmi.names(prefix));
    // On Xen, AWS writes itself into the version of the firmware alone.
    let version = dmi.bios_version.as_deref().unwrap_or_default();
    let by_version = version.ends_with(".amazon").then_some("aws");
    tagged
        .or_else(written)
        .map(|&(_, provider)| provider)
        .or(by_version)
}

#[cfg(test)]
mod tests;
