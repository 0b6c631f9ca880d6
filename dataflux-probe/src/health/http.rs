//! `/live` and `/ready` over HTTP.

use std::{future::ready, net::SocketAddr, time::Duration};

use hyper::StatusCode;
use tokio::{net::TcpListener, sync::watch::Receiver, time::sleep};

use super::Beat;
use crate::http::{self, Answer, Limits};

const LIMITS: Limits = Limits {
    connections: 16,
    longest: Duration::from_secs(2),
};

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
        let listener = http::bind(address);
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
        http::serve(listener, LIMITS, move |request| {
            ready(answer(request.uri.path(), &beats.borrow()))
        })
        .await;
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

fn answer(path: &str, beat: &Beat) -> Answer {
    let trouble = match path {
        "/live" => beat.stalled(),
        "/ready" => beat.not_ready(),
        _ => return http::text(StatusCode::NOT_FOUND, "known: /live, /ready".to_owned()),
    };
    http::state(trouble, || beat.status())
}
