//! The cluster as a place that records are read from: the API server is asked with whatever the kubeconfig says, it asks
//! RBAC, and the controller behind it asks all nodes. It refuses to know how records are shown.

use std::path::PathBuf;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Request, Response, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use nodetap_core::exchange::{Event, Exchange, StreamMessage};
use nodetap_core::record::NoticeRecord;
use nodetap_core::ulid::Ulid;
use tokio::runtime::Runtime;

use super::output::{Failure, warn};
use super::select::Source;
use crate::query::wire::{Decoder, Item, MEDIA_TYPE};
use crate::query::{Ask, GROUP, VERSION};

/// Bytes of an error that are read.
const ERROR: usize = 64 << 10;
const NO_API: &str = "this cluster has no nodetap API: `kubectl apply -k deploy/` installs it, `kubectl get apiservice \
                      v1alpha1.capture.nodetap.io` says how it is";

/// How to reach the cluster.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Access {
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, then ~/.kube/config, then the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
}

/// Whose records of a cluster, besides a pod's name.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Cluster {
    /// The records of this namespace: of the cluster [default with a pod or selector: the context's], or of the folder
    /// that is named
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl Cluster {
    /// The cluster, if something says that it is meant, and no folder is named; else the local folder is.
    pub(super) fn reach(&self, source: &Source, pod_or_selector: bool) -> Result<Option<Remote>, Failure> {
        let Access { context, kubeconfig } = &self.access;
        if source.from.is_some() {
            return Ok(None);
        }
        if self.namespace.is_none() && !pod_or_selector && context.is_none() && kubeconfig.is_none() {
            return Ok(None);
        }
        let Connection { runtime, client, namespace } = self.access.connect()?;
        let namespace = self.namespace.clone().unwrap_or(namespace);
        Ok(Some(Remote { runtime, client, namespace }))
    }
}

/// A client, and the namespace of its context.
pub(crate) struct Connection {
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Access {
    /// Nothing is sent yet.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = built.map_err(|error| Failure::new(format!("no runtime: {error}")))?;
        let config = runtime.block_on(self.config())?;
        let namespace = config.default_namespace.clone();
        let _within = runtime.enter();
        let client = Client::try_from(config).map_err(|error| Failure::new(one_line(&error)))?;
        Ok(Connection { runtime, client, namespace })
    }

    async fn config(&self) -> Result<Config, Failure> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let failed = |error| Failure::bad_input(format!("{}: {}", path.display(), one_line(&error)));
                let file = Kubeconfig::read_from(path).map_err(failed)?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(failed)?
            }
            None if self.context.is_some() => {
                let failed = |error| Failure::bad_input(one_line(&error));
                Config::from_kubeconfig(&options).await.map_err(failed)?
            }
            None => Config::infer().await.map_err(|error| {
                let text = "no cluster to read from: neither a kubeconfig nor a service account can be used";
                Failure::bad_input(format!("{text}: {}", one_line(&error)))
            })?,
        };
        Ok(config)
    }
}

/// A namespace of a cluster.
pub(super) struct Remote {
    runtime: Runtime,
    client: Client,
    namespace: String,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Whole,
    /// A watch has its time: others may have lost their right to read meanwhile.
    ByTime,
    /// The connection broke.
    Broken,
}

/// One record and its messages, or the messages alone when it is not written yet.
pub(super) struct Found {
    pub(super) event: Option<Event>,
    pub(super) messages: Vec<StreamMessage>,
}

impl Remote {
    /// All records that are asked for, page by page; or those of a watch, until it ends. `None` is told where what is
    /// new begins, and whenever nothing is for a while.
    pub(super) fn records(
        &self,
        mut ask: Ask,
        mut each: impl FnMut(Option<Event>) -> Result<(), Failure>,
    ) -> Result<Ended, Failure> {
        loop {
            let mut answer = self.ask("", &ask)?;
            let mut next = None;
            loop {
                match answer.next() {
                    Ok(Some(Item::Record(event))) => each(Some(event))?,
                    Ok(Some(Item::Live)) => each(None)?,
                    Ok(Some(Item::Notice(notice))) => match (notice.reason.as_str(), &notice.next) {
                        ("page_end", Some(at)) => next = at.parse().ok(),
                        ("watch_end", _) => return Ok(Ended::ByTime),
                        _ => say(&notice),
                    },
                    Ok(None) => break,
                    Err(_) if ask.watch => return Ok(Ended::Broken),
                    Err(error) => return Err(error),
                }
            }
            match next {
                None => return Ok(Ended::Whole),
                Some(at) if ask.after.is_none_or(|before| before < at) => ask.after = Some(at),
                Some(_) => {
                    return Err(Failure::new("the cluster's next page begins where this one did: records are missing"));
                }
            }
        }
    }

    /// What an id stands for.
    pub(super) fn find(&self, id: &str) -> Result<Found, Failure> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Failure::bad_input(format!("{id:?} is no id, and no part of one")));
        }
        let mut answer = self.ask(&format!("/{id}"), &Ask::default())?;
        let mut found = Found { event: None, messages: Vec::new() };
        while let Some(item) = answer.next()? {
            match item {
                // The record comes first; a message that somebody asked for by its own id is one.
                Item::Record(Event::Message(message)) if found.event.is_some() || is_part(&message, id) => {
                    found.messages.push(*message);
                }
                Item::Record(event) => found.event = Some(event),
                Item::Notice(notice) => say(&notice),
                Item::Live => {}
            }
        }
        Ok(found)
    }

    /// The exchange with this id, if it is written.
    pub(super) fn exchange(&self, id: Ulid) -> Result<Option<Box<Exchange>>, Failure> {
        match self.find(&id.to_string())?.event {
            Some(Event::Exchange(exchange)) => Ok(Some(exchange)),
            _ => Ok(None),
        }
    }

    fn ask(&self, id: &str, ask: &Ask) -> Result<Answer<'_>, Failure> {
        let namespace = &self.namespace;
        // It stands in the path.
        let ask = Ask { namespace: None, ..ask.clone() };
        let path = format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/exchanges{id}?{}", ask.query());
        let request = Request::get(path).header(ACCEPT, MEDIA_TYPE).body(Body::empty());
        let request = request.map_err(|_| Failure::bad_input(format!("{namespace:?} is no namespace")))?;
        let response = self.runtime.block_on(self.client.send(request));
        let response =
            response.map_err(|error| Failure::new(format!("the API server cannot be asked: {}", one_line(&error))))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response));
        }
        let ours = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == MEDIA_TYPE.as_bytes());
        if !ours {
            return Err(Failure::new(
                "the cluster's API answers in another form than this nodetap reads: use the same version",
            ));
        }
        Ok(Answer { remote: self, body: response.into_body(), decoder: Decoder::default() })
    }

    /// What the API server, or the controller behind it, says in a metav1.Status.
    fn refused(&self, response: Response<Body>) -> Failure {
        let status = response.status();
        let mut text = Vec::new();
        self.runtime.block_on(async {
            let mut body = response.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if text.len() > ERROR {
                    break;
                }
            }
        });
        match serde_json::from_slice::<Status>(&text) {
            Ok(said) if !said.message.is_empty() => Failure::new(said.message),
            // The API server itself knows no such group.
            _ if status == StatusCode::NOT_FOUND => Failure::new(NO_API),
            _ => {
                let text = String::from_utf8_lossy(&text);
                let first = text.lines().next().unwrap_or_default();
                Failure::new(format!("the cluster answers {status}: {first}; {NO_API}"))
            }
        }
    }
}

/// Of an exchange that is not written yet only messages come: the id that was asked for is not theirs.
fn is_part(message: &StreamMessage, id: &str) -> bool {
    let (own, asked) = (message.id.to_string(), id.to_ascii_uppercase());
    !own.starts_with(&asked) && !own.ends_with(&asked)
}

struct Answer<'a> {
    remote: &'a Remote,
    body: Body,
    decoder: Decoder,
}

impl Answer<'_> {
    /// `None`: that was all.
    fn next(&mut self) -> Result<Option<Item>, Failure> {
        let broken = |why: String| Failure::new(format!("the answer broke off: {why}"));
        loop {
            if let Some(item) = self.decoder.next_item().map_err(|error| broken(error.to_string()))? {
                return Ok(Some(item));
            }
            match self.remote.runtime.block_on(self.body.frame()) {
                Some(Ok(frame)) => self.decoder.push(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(error)) => return Err(broken(one_line(&error))),
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(broken("a record is cut in two".to_owned())),
            }
        }
    }
}

/// What is said between the records.
fn say(notice: &NoticeRecord) {
    let node = notice.node.as_ref().map_or(String::new(), |node| format!("node {node}: "));
    warn(&format!("warning: {node}{}", notice.detail));
}

/// An error and what caused it.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
