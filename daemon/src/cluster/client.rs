//! A client for the API server: from the pod's service account, or from a kubeconfig for whoever runs an agent by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a single request may take to be answered; watches have a time of their own.
pub const ANSWER: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the kubeconfig {path}: {source}")]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("neither a service account nor a kubeconfig: {0}; name one with --kubeconfig")]
    Nowhere(#[source] Box<kube::config::InferConfigError>),
    #[error("cannot make a client for the API server: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client, and the namespace that it belongs to.
#[derive(Clone)]
pub struct Connection {
    pub client: Client,
    pub namespace: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Makes a client; nothing is sent yet. Must be called within a tokio runtime.
///
/// # Errors
/// When no configuration is found, or it makes no sense.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, Error> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = |source| Error::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::infer().await.map_err(|error| Error::Nowhere(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT);
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
    Ok(Connection { client, namespace })
}
