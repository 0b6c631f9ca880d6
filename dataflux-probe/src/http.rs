//! Answers over HTTP: few connections, each for one request and a short time. Shared by `[health]` and the logger
//! `prometheus`.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// So many are answered at once; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// One is cut off after this, wherever its client is.
    pub(crate) longest: Duration,
}

/// Whoever has not sent a whole request by then is cut off.
const LONGEST_REQUEST: Duration = Duration::from_secs(2);

/// A request that needs more room than this is none of ours; the least that the library takes.
const REQUEST_BYTES: usize = 8 * 1024;

/// What is answered.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Takes a port, without a runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether an address can be listened on now, for `doctor`.
pub(crate) fn look(address: SocketAddr) -> (String, anyhow::Result<String>) {
    let finding = match bind(address) {
        Ok(_) => Ok("is free".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(anyhow::anyhow!(
            "is in use, by the running probe or by something else: ss -ltnp"
        )),
        Err(error) => Err(anyhow::Error::new(error).context("cannot be listened on")),
    };
    (address.to_string(), finding)
}

/// What two users of one port both claim. Two addresses of one port count as one: which of them overlap depends on the host.
pub(crate) fn claim(address: SocketAddr) -> String {
    format!("TCP port {}", address.port())
}

/// Answers for ever.
pub(crate) async fn serve<A, F>(listener: TcpListener, limits: Limits, answer: A)
where
    A: Fn(Parts) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let answer = answer.clone();
        connections.spawn(async move {
            // Both a client that is cut off and one that breaks off are done with.
            drop(timeout(limits.longest, answer_one(stream, answer)).await);
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One request and its answer.
async fn answer_one<A, F>(stream: TcpStream, answer: A) -> Result<(), hyper::Error>
where
    A: Fn(Parts) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let allowed = parts.method == Method::GET || parts.method == Method::HEAD;
        let answered = allowed.then(|| answer(parts));
        async {
            Ok::<_, Infallible>(match answered {
                Some(answered) => answered.await,
                None => not_allowed(),
            })
        }
    });
    http1::Builder::new()
        .keep_alive(false)
        // Who says that it has asked everything still wants the answer.
        .half_close(true)
        .max_buf_size(REQUEST_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn not_allowed() -> Answer {
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET and HEAD".to_owned(),
    );
    let allowed = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}

/// A line for people.
pub(crate) fn text(status: StatusCode, line: String) -> Answer {
    let mut answer = Response::new(Full::from(line + "\n"));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

/// 200, or 503 if there is trouble.
pub(crate) fn state(trouble: Option<String>, good: impl FnOnce() -> String) -> Answer {
    match trouble {
        Some(trouble) => text(StatusCode::SERVICE_UNAVAILABLE, trouble),
        None => text(StatusCode::OK, good()),
    }
}
