//! Reads the Secrets that pods need, and tells the supervisor: as soon as one is asked for, and again from time to time,
//! because they are renewed. The authority that opens TLS is made when it is needed for the first time.

use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Receiver;

use super::supervisor::{Event, SecretName};
use super::worker::tell;
use crate::cluster::health::{Call, Trouble};
use crate::cluster::secrets::{Data, read, read_or_create};
use crate::cluster::{Connection, Health};
use crate::trust::authority;

/// How often known Secrets are read again, and those that could not be.
const AGAIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);
/// Secrets that are read, at most.
const SECRETS: usize = 1024;

/// Serves what is asked for, for ever.
pub(super) async fn follow(
    mut asked: Receiver<BTreeSet<SecretName>>,
    connection: Connection,
    health: Health,
    events: SyncSender<Event>,
) {
    let (mut known, mut missing) = (BTreeSet::<SecretName>::new(), true);
    loop {
        let wait = if missing && !known.is_empty() { SOON } else { AGAIN };
        let fresh: BTreeSet<SecretName> = match tokio::time::timeout(wait, asked.recv()).await {
            Ok(Some(names)) => names.difference(&known).take(SECRETS - known.len().min(SECRETS)).cloned().collect(),
            Ok(None) => return,
            Err(_) => {
                missing = false;
                known.clone()
            }
        };
        for name in fresh {
            let data = secret(&connection, &health, &name).await;
            missing |= data.is_err();
            known.insert(name.clone());
            if !tell(&events, Event::Secret(name, data)).await {
                return;
            }
        }
    }
}

async fn secret(connection: &Connection, health: &Health, name: &SecretName) -> Result<Data, String> {
    let Connection { client, namespace: own } = connection;
    let (namespace, name) = name;
    let why = |trouble: Trouble| match trouble.class {
        "403" => "it may not be read; bind the ClusterRole nodetap-tls in its namespace".to_owned(),
        _ => trouble.text,
    };
    if !namespace.is_empty() {
        let read = read(client, namespace, name, Call::Certificates, health).await.map_err(why)?;
        return read.ok_or_else(|| "there is none".to_owned());
    }
    if name != authority::SECRET {
        let data = read(client, own, name, Call::Authority, health).await.map_err(|trouble| trouble.text)?;
        return data.ok_or_else(|| "there is none".to_owned());
    }
    let make = || authority::make(SystemTime::now(), crate::capture::random()).map_err(|error| error.to_string());
    read_or_create(client, own, name, make, Call::Authority, health).await
}
