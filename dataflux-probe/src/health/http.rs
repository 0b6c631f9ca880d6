//! `/live` and `/ready` over HTTP: few connections, each short.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch::Receiver},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Beat;

/// So many are answered at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// A connection is cut off after this, wherever its client is.
const LONGEST: Duration = Duration::from_secs(2);

/// A request that needs more room than this is none of ours; the least that the library takes.
const REQUEST_BYTES: usize = 8 * 1024;

/// A port that was taken is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// What answers.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    /// `None` if it could not be had yet.
    listener: Option<std::net::TcpListener>,
}

impl Server {
    /// Takes the port; one that cannot be had is told and tried again by [`Server::run`].
    pub(super) fn open(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        if let Err(error) = &listener {
            tracing::warn!("health: cannot listen on {address}: {error}; trying again");
        }
        Self {
            address,
            listener: listener.ok(),
        }
    }

    /// Answers until the pipeline is gone.
    pub(super) async fn run(self, mut beats: Receiver<Beat>) {
        let heard = beats.clone();
        tokio::select! {
            () = self.serve(heard) => {}
            _gone = beats.wait_for(|_| false) => {}
        }
    }

    async fn serve(self, beats: Receiver<Beat>) {
        let listener = match self.listener.map(TcpListener::from_std) {
            Some(Ok(listener)) => listener,
            _ => listen(self.address).await,
        };
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!("health: {error}");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let beats = beats.clone();
            connections.spawn(async move {
                // Both a client that is cut off and one that breaks off are done with.
                drop(timeout(LONGEST, answer_one(stream, beats)).await);
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Tries until the port can be had.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        sleep(AGAIN).await;
        if let Ok(listener) = TcpListener::bind(address).await {
            tracing::info!("health: listening on {address}");
            return listener;
        }
    }
}

/// One request and its answer.
async fn answer_one(stream: TcpStream, beats: Receiver<Beat>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let beat = *beats.borrow();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &beat)) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(method: &Method, path: &str, beat: &Beat) -> Response<Full<Bytes>> {
    let trouble = match path {
        "/live" => beat.stalled(),
        "/ready" => beat.not_ready(),
        _ => return response(StatusCode::NOT_FOUND, "known: /live, /ready".to_owned()),
    };
    match trouble {
        _ if method != Method::GET && method != Method::HEAD => response(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD".to_owned(),
        ),
        Some(reason) => response(StatusCode::SERVICE_UNAVAILABLE, reason),
        None => response(StatusCode::OK, beat.status()),
    }
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text + "\n"));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
