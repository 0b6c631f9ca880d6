//! `prometheus`: keeps the newest totals in memory, and gives them to whoever asks over HTTP.

mod endpoint;
mod negotiation;
#[cfg(test)]
mod tests;

use std::{
    future::ready,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    sync::{OnceCell, watch},
};

use super::{Acknowledgement, Logger, Payload, SendError, Serving};
use crate::{
    health::Beat,
    http::{self, Limits},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn Logger> = Plugin {
    name: "prometheus",
    summary: "an HTTP endpoint from which totals are scraped",
    needs: Needs::NOTHING,
    example: r#"# Where /metrics, /health and /ready are answered, by address and port. Another address than that of the loopback lets
# others in, without asking who they are. Default: "127.0.0.1:19100".
listen = "127.0.0.1:19100""#,
    metrics: &[],
    build: |section, _context| {
        section.build(|Config { listen }, _| match listen.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                let message = format!("`{listen}` has no port that one could ask on");
                Err(section.error(Some("listen"), message))
            }
            Ok(address) => Ok(Box::new(Prometheus {
                address,
                listener: None,
                pages: Arc::default(),
            }) as _),
            Err(_) => {
                let message = format!(
                    "`{listen}` is not an address with a port, like \"127.0.0.1:19100\" or \"[::1]:19100\""
                );
                Err(section.error(Some("listen"), message))
            }
        })
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_listen")]
    listen: String,
}

fn default_listen() -> String {
    "127.0.0.1:19100".to_owned()
}

/// Prometheus waits for an answer for 10 s by default. Each of these connections may keep one payload that is not the newest.
const LIMITS: Limits = Limits {
    connections: 64,
    longest: Duration::from_secs(10),
};

struct Prometheus {
    address: SocketAddr,
    /// From its opening until it serves.
    listener: Option<std::net::TcpListener>,
    pages: Arc<Pages>,
}

/// The newest payload of each media type.
#[derive(Default)]
struct Pages(Mutex<Vec<Arc<Page>>>);

/// One payload.
struct Page {
    content_type: &'static str,
    plain: Bytes,
    /// Compressed when somebody asks for it first.
    gzip: OnceCell<Bytes>,
}

impl Pages {
    /// Replaces what is there of this media type.
    fn set(&self, content_type: &'static str, plain: Bytes) {
        let page = Arc::new(Page {
            content_type,
            plain,
            gzip: OnceCell::new(),
        });
        let mut pages = self.lock();
        let mut known = pages.iter_mut();
        match known.find(|known| known.content_type == content_type) {
            Some(known) => *known = page,
            None => pages.push(page),
        }
    }

    /// The one that a client asks for by its `Accept` headers; `None` before the first window.
    fn choose<'a>(&self, accept: impl Iterator<Item = &'a str>) -> Option<Arc<Page>> {
        let pages = self.lock();
        let types = pages.iter().map(|page| page.content_type);
        let place = negotiation::choose(accept, types)?;
        pages.get(place).cloned()
    }

    /// They stay whole when a thread panics while it holds them.
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Page>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logger for Prometheus {
    fn open(&mut self) -> Result<(), SendError> {
        let listener = http::bind(self.address)
            .with_context(|| format!("listening on {}", self.address))
            .map_err(SendError::Retry)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn send(&mut self, payload: Payload) -> Acknowledgement {
        self.pages.set(payload.content_type, payload.bytes);
        Box::pin(ready(Ok(())))
    }

    fn claims(&self) -> Vec<String> {
        vec![http::claim(self.address)]
    }

    fn reach(&mut self, _limit: Duration) -> Vec<(String, anyhow::Result<String>)> {
        vec![http::look(self.address)]
    }

    fn is_fetched(&self) -> bool {
        true
    }

    fn serve(&mut self, beats: watch::Receiver<Beat>) -> Option<Serving> {
        let listener = self.listener.take()?;
        let (pages, address) = (Arc::clone(&self.pages), self.address);
        Some(Box::pin(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let answer = move |request| {
                        let (pages, beats) = (Arc::clone(&pages), beats.clone());
                        async move { endpoint::answer(&request, &pages, &beats).await }
                    };
                    http::serve(listener, LIMITS, answer).await;
                }
                Err(error) => tracing::error!("cannot serve on {address}: {error}"),
            }
        }))
    }
}
