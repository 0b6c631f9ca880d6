//! What the endpoint answers.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
    },
    http::request::Parts,
};
use tokio::{sync::watch, task::spawn_blocking};

use super::{Page, Pages, negotiation};
use crate::{
    health::Beat,
    http::{self, Answer},
};

const KNOWN: &str = "known: /metrics, /health, /ready";

const NOTHING_YET: &str = "nothing is measured yet";

pub(super) async fn answer(
    request: &Parts,
    pages: &Pages,
    beats: &watch::Receiver<Beat>,
) -> Answer {
    let beat = *beats.borrow();
    match request.uri.path() {
        "/metrics" => match pages.choose(lines(&request.headers, &ACCEPT)) {
            Some(page) => metrics(&page, &request.headers).await,
            None => http::text(StatusCode::SERVICE_UNAVAILABLE, NOTHING_YET.to_owned()),
        },
        "/health" => http::state(beat.stalled(), || beat.status()),
        "/ready" => {
            let empty = || pages.choose(None.into_iter()).is_none();
            let trouble = beat.not_ready();
            let trouble = trouble.or_else(|| empty().then(|| NOTHING_YET.to_owned()));
            http::state(trouble, || beat.status())
        }
        _ => http::text(StatusCode::NOT_FOUND, KNOWN.to_owned()),
    }
}

async fn metrics(page: &Page, headers: &HeaderMap) -> Answer {
    let gzip = if negotiation::takes_gzip(lines(headers, &ACCEPT_ENCODING)) {
        page.gzip().await
    } else {
        None
    };
    let encoding = gzip.is_some().then(|| HeaderValue::from_static("gzip"));
    let mut answer = Answer::new(gzip.unwrap_or_else(|| page.plain.clone()).into());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    headers.extend(encoding.map(|encoding| (CONTENT_ENCODING, encoding)));
    answer
}

impl Page {
    /// It is compressed once, off the async thread, and everybody who asks meanwhile waits for that. `None` if that fails,
    /// which only a lack of memory or threads could cause.
    async fn gzip(&self) -> Option<Bytes> {
        let compressed = self.gzip.get_or_try_init(|| async {
            let plain = self.plain.clone();
            spawn_blocking(move || compress(&plain))
                .await?
                .map_err(anyhow::Error::from)
        });
        compressed.await.ok().cloned()
    }
}

/// A quarter of the time of the usual level, and hardly longer for text like this.
fn compress(plain: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?.into())
}

/// All lines of a header that are text.
fn lines<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(name).into_iter();
    all.filter_map(|line| line.to_str().ok())
}
