//! All who are told: opened on the main thread, run on the async one.

use tokio::sync::watch::Receiver;

use super::{Beat, Settings, file::HealthFile, http::Server, notify::Notify};

/// The service manager, the HTTP server and the health file, as far as they are wanted.
#[derive(Debug)]
pub struct Monitor {
    beats: Receiver<Beat>,
    notify: Option<Notify>,
    server: Option<Server>,
    file: Option<HealthFile>,
}

impl Monitor {
    /// Opens what needs privileges or paths. What cannot be had is told; measuring goes on without it.
    #[must_use]
    pub fn open(settings: Settings, beats: Receiver<Beat>) -> Self {
        let beat = *beats.borrow();
        let notify = Notify::from_environment().unwrap_or_else(|error| {
            tracing::warn!("cannot tell the service manager: {error:#}");
            None
        });
        Self {
            notify,
            server: settings.listen.map(Server::open),
            file: settings.file.map(|path| HealthFile::open(path, &beat)),
            beats,
        }
    }

    /// Tells until the pipeline is gone. Must share the async thread with the pipeline.
    pub async fn run(self) {
        let beats = || self.beats.clone();
        let notify = async {
            if let Some(notify) = self.notify {
                notify.run(beats()).await;
            }
        };
        let server = async {
            if let Some(server) = self.server {
                server.run(beats()).await;
            }
        };
        let file = async {
            if let Some(file) = self.file {
                file.run(beats()).await;
            }
        };
        tokio::join!(notify, server, file);
    }
}
