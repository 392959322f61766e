//! The records of this node for the controller, over mTLS with the certificate that the controller made for us.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;

use crate::cluster::health::Call;
use crate::cluster::{Connection, Health, secrets};
use crate::query::identity::{AGENT_SECRET, Identity};
use crate::query::serve::serve;

/// How often we look whether the controller has made a certificate, and later whether it has renewed it.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(300);

/// Serves for ever.
pub(super) async fn records(listener: Option<TcpListener>, folder: PathBuf, connection: Connection, health: Health) {
    let Some(listener) = listener else { return };
    let (tell, identity) = watch::channel(None);
    let serving = async {
        if let Err(error) = serve(listener, folder, identity).await {
            tracing::error!(%error, "records cannot be served to the controller");
        }
    };
    tokio::join!(serving, follow(connection, health, tell));
}

async fn follow(connection: Connection, health: Health, tell: watch::Sender<Option<Arc<ServerConfig>>>) {
    let mut known: Option<Identity> = None;
    loop {
        let Connection { client, namespace } = &connection;
        // There may be no controller, or not yet.
        if let Ok(Some(data)) = secrets::read(client, namespace, AGENT_SECRET, Call::Certificates, &health).await {
            let identity = Identity::read(|key| data.get(key).map(Vec::as_slice));
            let news = identity.as_ref().ok() != known.as_ref();
            match identity.and_then(|identity| Ok((identity.serving()?, identity))) {
                Ok((config, identity)) if news => {
                    tell.send_replace(Some(Arc::new(config)));
                    known = Some(identity);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, secret = AGENT_SECRET, "our certificate cannot be used"),
            }
        }
        tokio::time::sleep(if known.is_some() { LATER } else { SOON }).await;
    }
}
