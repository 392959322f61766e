//! The roots that pods are to trust while the TLS of what they call is opened: this image's and the cluster's authority
//! ([`content`]), in one ConfigMap of each namespace that asks by a label ([`plan`]). It is put right when somebody
//! changes it, and taken away when the label goes; one of that name that is not ours is left alone.
//!
//! The authority's key is read with its certificate, because a Secret is read whole; it goes no further than here.

mod content;
mod plan;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::metadata::PartialObjectMeta;
use nodetap_core::pod::keys::TRUST_BUNDLE;
use tokio::sync::mpsc;

use self::content::Content;
use self::plan::{Asking, Held, Places, Step};
use crate::cluster::Connection;
use crate::cluster::backoff::Backoff;
use crate::cluster::client::ANSWER;
use crate::cluster::follow::{Change, Subject, follow, random};
use crate::cluster::health::{Call, Health, Trouble};
use crate::cluster::secrets::read_or_create;
use crate::trust::{Roots, authority};

/// The ConfigMap's name.
const NAME: &str = "nodetap-trust-bundle";
/// Who wrote it, in the API server's words.
const MANAGER: &str = "nodetap-controller";
/// Tells ours from others' of the same name.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "nodetap");
/// How often the authority is read again: it may have been replaced by hand.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// Changes that wait to be looked at; the watches wait then.
const CHANGES: usize = 256;

/// What was seen.
#[derive(Debug)]
enum Seen {
    Namespaces(Change<Asking>),
    Maps(Change<Held>),
}

/// Watches and writes, for ever: while we lead.
pub(super) async fn publish(connection: &Connection, health: Health) {
    let (seen_tx, seen) = mpsc::channel(CHANGES);
    let client = &connection.client;
    let namespaces = Subject {
        api: Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        call: Call::Namespaces,
        fields: None,
        labels: Some(TRUST_BUNDLE.to_owned()),
    };
    let maps = Subject {
        api: Api::<ConfigMap>::all(client.clone()),
        call: Call::TrustBundle,
        fields: Some(format!("metadata.name={NAME}")),
        labels: None,
    };
    let asks = async |change| seen_tx.send(Seen::Namespaces(change)).await.is_ok();
    let holds = async |change| seen_tx.send(Seen::Maps(change)).await.is_ok();
    tokio::join!(
        follow(namespaces, health.clone(), asking, asks),
        follow(maps, health.clone(), |map| held(&map), holds),
        Publisher::new(connection, health.clone()).run(seen),
    );
}

fn asking(object: PartialObjectMeta<Namespace>) -> Option<Asking> {
    let going = object.metadata.deletion_timestamp.is_some();
    let value = object.metadata.labels?.remove(TRUST_BUNDLE)?;
    Some(Asking { namespace: object.metadata.name?, value, going })
}

/// Of what may be large, only what has to be compared is kept.
fn held(map: &ConfigMap) -> Option<Held> {
    let label = map.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY.0));
    Some(Held {
        namespace: map.metadata.namespace.clone()?,
        uid: map.metadata.uid.clone()?,
        ours: label.is_some_and(|value| value == MANAGED_BY.1),
        digest: content::digest(map),
    })
}

struct Publisher<'a> {
    connection: &'a Connection,
    health: Health,
    places: Places,
    /// What is to stand in all of them; `None`: not known yet.
    content: Option<Content>,
    /// When the authority is looked at next.
    look: Instant,
    /// After a write that failed: for all of them, because the API server is one.
    pause: Option<Instant>,
    backoff: Backoff,
    told: BTreeSet<String>,
}

impl<'a> Publisher<'a> {
    fn new(connection: &'a Connection, health: Health) -> Self {
        Self {
            connection,
            health,
            places: Places::default(),
            content: None,
            look: Instant::now(),
            pause: None,
            backoff: Backoff::default(),
            told: BTreeSet::new(),
        }
    }

    async fn run(mut self, mut seen: mpsc::Receiver<Seen>) {
        loop {
            // Nobody asks: the authority need not exist yet.
            let look = self.places.anybody_asks().then_some(self.look);
            let next = look.into_iter().chain(self.pause).min();
            tokio::select! {
                change = seen.recv() => match change {
                    None => return,
                    Some(Seen::Namespaces(change)) => self.places.namespaces(change),
                    Some(Seen::Maps(change)) => self.places.maps(change),
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
            if self.places.anybody_asks() && self.look <= Instant::now() {
                self.read_authority().await;
            }
            self.say();
            if self.pause.is_none_or(|until| until <= Instant::now()) {
                self.pause = None;
                self.write().await;
            }
        }
    }

    async fn read_authority(&mut self) {
        let Connection { client, namespace } = self.connection;
        let make = || authority::make(SystemTime::now(), crate::capture::random()).map_err(|error| error.to_string());
        let read = read_or_create(client, namespace, authority::SECRET, make, Call::Authority, &self.health).await;
        let content = read.and_then(|secret| Content::of(&Roots::system(), &authority::certificates(&secret)));
        self.look = Instant::now() + if content.is_ok() { LOOK } else { AGAIN };
        match content {
            Ok(content) => self.content = Some(content),
            Err(error) => {
                tracing::warn!(error, "Secret {}: the roots of pods are not written anew", authority::SECRET);
            }
        }
    }

    /// What stands in the way, each once.
    fn say(&mut self) {
        let now: BTreeSet<String> = self.places.problems().collect();
        for problem in now.difference(&self.told) {
            tracing::warn!("{problem}");
        }
        self.told = now;
    }

    async fn write(&mut self) {
        for step in self.places.steps(self.content.as_ref().map(Content::digest)) {
            match tokio::time::timeout(ANSWER, self.act(&step)).await {
                Ok(Ok(done)) => {
                    self.health.well(Call::TrustBundle);
                    self.backoff.success();
                    done.into_iter().for_each(|change| self.places.maps(change));
                }
                // It is another one by now: the watch will say so.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                    self.pause = Some(Instant::now() + self.backoff.after_failure(None, random()));
                }
                failed => {
                    let trouble = match failed {
                        Ok(Err(error)) => Trouble::of(&error),
                        _ => Trouble { class: "unreachable", text: "no answer in time".into(), wait: None },
                    };
                    let text = format!("ConfigMap {}/{NAME}: {}", step.namespace(), trouble.text);
                    self.pause = Some(Instant::now() + self.backoff.after_failure(trouble.wait, random()));
                    let refused = matches!(trouble.class, "403" | "422" | "4xx");
                    self.health.ill(Call::TrustBundle, Trouble { text, ..trouble });
                    // What one namespace refuses, the next one may not.
                    if !refused {
                        return;
                    }
                }
            }
        }
    }

    /// Takes a step; gives what is there afterwards.
    async fn act(&self, step: &Step) -> Result<Option<Change<Held>>, kube::Error> {
        let api = |namespace: &str| Api::<ConfigMap>::namespaced(self.connection.client.clone(), namespace);
        match step {
            Step::Apply { namespace, uid } => {
                // What is ours is ours whoever has changed it. What is not there yet must not turn out to be somebody
                // else's meanwhile: without force that is a conflict.
                let params = PatchParams::apply(MANAGER);
                let params = if uid.is_some() { params.force() } else { params };
                let object = self.content.as_ref().map(|content| content.object(NAME, uid.as_deref()));
                let map = api(namespace).patch(NAME, &params, &Patch::Apply(object)).await?;
                tracing::info!(namespace, "the roots that its pods are to trust were written");
                Ok(held(&map).map(Change::Applied))
            }
            Step::Delete(held) => {
                let only = Preconditions { uid: Some(held.uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
                api(&held.namespace).delete(NAME, &params).await?;
                tracing::info!(namespace = held.namespace, "the roots that its pods were to trust were taken away");
                Ok(Some(Change::Gone(held.clone())))
            }
        }
    }
}
