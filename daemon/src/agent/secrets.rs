//! Reads the Secrets that pods need, and tells the supervisor: as soon as one is asked for, and again from time to time,
//! because they are renewed. The authority that opens TLS is made when it is needed for the first time.

use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Receiver;

use super::supervisor::{AUTHORITY, Event, SecretName};
use super::worker::tell;
use crate::cluster::health::{Call, Trouble};
use crate::cluster::secrets::{Data, create, read};
use crate::cluster::{Connection, Health};
use crate::trust::{Ca, pem};

/// How often known Secrets are read again, and those that could not be.
const AGAIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);
/// Secrets that are read, at most.
const SECRETS: usize = 1024;
/// How long an authority is valid.
const DAYS: u32 = 3650;

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
    if let Some(data) = read(client, own, name, Call::Authority, health).await.map_err(|trouble| trouble.text)? {
        return Ok(data);
    }
    if name != AUTHORITY {
        return Err("there is none".into());
    }
    let data = authority()?;
    create(client, own, name, data, Call::Authority, health).await.map_err(|trouble| trouble.text)?;
    // Somebody else may have been faster: what is there counts.
    let data = read(client, own, name, Call::Authority, health).await.map_err(|trouble| trouble.text)?;
    data.ok_or_else(|| "there is none".to_owned())
}

fn authority() -> Result<Data, String> {
    let ca = Ca::generate("nodetap", DAYS, SystemTime::now(), crate::capture::random());
    let ca = ca.map_err(|error| error.to_string())?;
    let certificate = ("tls.crt".to_owned(), pem::encode(&ca.chain).into_bytes());
    Ok(Data::from([certificate, ("tls.key".to_owned(), ca.key.serialize_pem().into_bytes())]))
}
