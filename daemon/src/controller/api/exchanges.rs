//! Records of one namespace: a page, the last ones, what comes, or one of them by its id.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use nodetap_core::exchange::Event;
use nodetap_core::ulid::Ulid;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::documents::Refusal;
use super::{Api, accept};
use crate::controller::agents::{Agent, Agents};
use crate::controller::form::{Form, Writer};
use crate::controller::live;
use crate::controller::merge::{Out, Unread, failed, of_node, page, tail};
use crate::controller::source::{Failed, Question, Source};
use crate::query::Ask;
use crate::query::ask::{self, Messages};
use crate::query::body::{Body, WAITING, full, streamed};
use crate::query::read::{CANDIDATES, SEVERAL, now};
use crate::query::wire::{Item, MEDIA_TYPE};

/// How long a watch may last: a right that was taken away counts from the next one on.
const WATCH: Duration = Duration::from_secs(3600);
/// Seconds after which it may be tried again when too many ask.
const RETRY: u32 = 5;
/// Nodes that a header names; the answer itself names all.
const NAMED: usize = 8;
const WARNING: HeaderName = HeaderName::from_static("warning");

/// A query, as far as it is ours.
struct Asked {
    ask: Ask,
    form: Form,
    lasts: Duration,
}

/// Answers that have begun, and nodes that gave none.
struct Opened {
    sources: Vec<Source>,
    failed: Vec<(String, Failed)>,
}

impl Api {
    pub(super) async fn exchanges(
        &self,
        namespace: &str,
        query: &str,
        headers: &HeaderMap,
        tls: Arc<ClientConfig>,
    ) -> Result<Response<Body>, Refusal> {
        let Asked { mut ask, form, lasts } = read(query, headers)?;
        ask.namespace = Some(namespace.to_owned());
        if form == Form::Har {
            if ask.watch {
                return Err(bad("a HAR has an end: watch JSON lines instead"));
            }
            ask.messages = Messages::Grouped;
        }
        let place = turn(if ask.watch { &self.watches } else { &self.pages })?;
        let agents = self.agents()?;
        let question = Question { ask, id: None, tls };
        let (pieces_tx, pieces_rx) = mpsc::channel(WAITING);
        let mut out = Out { writer: Writer::new(form), pieces: pieces_tx, bytes: 0 };
        let mut response = Response::new(streamed(pieces_rx));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        if question.ask.watch {
            let agents = self.agents.clone();
            tokio::spawn(async move {
                let _place = place;
                if live::watch(agents, question, lasts, &mut out).await.is_ok() {
                    let _ = out.finish().await;
                }
            });
            return Ok(response);
        }
        let opened = open(&agents, &question).await?;
        warn(&opened, response.headers_mut());
        // Written for as long as somebody reads.
        tokio::spawn(async move {
            let _place = place;
            if written(opened, &question.ask, &mut out).await.is_ok() {
                let _ = out.finish().await;
            }
        });
        Ok(response)
    }

    pub(super) async fn exchange(
        &self,
        namespace: &str,
        id: &str,
        query: &str,
        headers: &HeaderMap,
        tls: Arc<ClientConfig>,
    ) -> Result<Response<Body>, Refusal> {
        let Asked { form, .. } = read(query, headers)?;
        let _place = turn(&self.pages)?;
        let agents = self.agents()?;
        let ask = Ask { namespace: Some(namespace.to_owned()), ..Ask::default() };
        let question = Question { ask, id: Some(id.to_owned()), tls };
        let mut opened = open(&agents, &question).await?;
        let asked = id.to_ascii_uppercase();
        let mut found = Vec::new();
        let mut said = Vec::new();
        for source in &mut opened.sources {
            let (mut events, mut several) = (Vec::new(), false);
            while let Some(item) = source.next().await {
                match item {
                    Ok(Item::Record(event)) => events.push(event),
                    Ok(Item::Notice(notice)) if notice.reason == SEVERAL => several = true,
                    Ok(Item::Notice(notice)) => said.push(of_node(&source.node, notice)),
                    Ok(Item::Live) => {}
                    Err(error) => opened.failed.push((source.node.clone(), error)),
                }
            }
            found.extend(candidates(events, several, &asked));
        }
        said.extend(opened.failed.iter().map(|(node, error)| failed(node, error)));
        let events = choose(found, &asked, &opened.failed)?;
        let mut writer = Writer::new(form);
        events.into_iter().for_each(|event| writer.put(Item::Record(event)));
        said.into_iter().for_each(|notice| writer.put(Item::Notice(notice)));
        writer.finish();
        let mut response = Response::new(full(writer.take()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        warn(&opened, response.headers_mut());
        Ok(response)
    }

    fn agents(&self) -> Result<Agents, Refusal> {
        match self.agents.borrow().clone() {
            Some(agents) if !agents.is_empty() => Ok(agents),
            Some(_) => Err(away("there is no agent: `kubectl -n nodetap get daemonset` says why")),
            None => Err(away("the agents are not known yet")),
        }
    }
}

async fn written(opened: Opened, ask: &Ask, out: &mut Out) -> Result<(), Unread> {
    for (node, error) in &opened.failed {
        out.say(failed(node, error)).await?;
    }
    match ask.tail {
        Some(count) => tail(opened.sources, count, out).await,
        None => page(opened.sources, ask, out).await,
    }
}

fn read(query: &str, headers: &HeaderMap) -> Result<Asked, Refusal> {
    let mut form = accept(headers).contains(MEDIA_TYPE).then_some(Form::Records);
    let mut lasts = WATCH;
    let ask = Ask::parse(query, |key, value| {
        match key {
            "format" => {
                form = Some(match value {
                    "jsonl" => Form::Lines,
                    "har" => Form::Har,
                    "records" => Form::Records,
                    _ => {
                        let (text, expected) = (value.to_owned(), "jsonl, har or records");
                        return Err(ask::Error::Value { key: "format", text, expected });
                    }
                });
            }
            "timeoutSeconds" => {
                let (text, expected) = (value.to_owned(), "a number of seconds");
                let seconds = value.parse().map_err(|_| ask::Error::Value { key: "timeoutSeconds", text, expected })?;
                lasts = WATCH.min(Duration::from_secs(seconds));
            }
            // What Kubernetes clients say without being asked, and what means nothing here.
            "resourceVersion" | "resourceVersionMatch" | "allowWatchBookmarks" | "pretty" | "timeout" => {}
            // `fieldSelector`, above all: rights may hang on it, so it is not passed over.
            _ => return Ok(false),
        }
        Ok(true)
    });
    let ask = ask.map_err(|error| bad(&error.to_string()))?;
    if ask.namespace.is_some() {
        return Err(bad("the namespace stands in the path"));
    }
    // Nodes would find the same mistake each.
    ask.filter(now()).map_err(|error| bad(&error.to_string()))?;
    Ok(Asked { ask, form: form.unwrap_or(Form::Lines), lasts })
}

/// Asks all at once.
async fn open(agents: &[Agent], question: &Question) -> Result<Opened, Refusal> {
    let mut opened = Opened { sources: Vec::new(), failed: Vec::new() };
    for (agent, source) in agents.iter().zip(join_all(agents.iter().map(|agent| Source::open(agent, question))).await) {
        match source {
            Ok(source) => opened.sources.push(source),
            Err(error) => opened.failed.push((agent.node.clone(), error)),
        }
    }
    match (&opened.sources[..], opened.failed.first()) {
        ([], Some((node, error))) => {
            Err(away(&format!("none of {} nodes answers; {node}: {error}", opened.failed.len())))
        }
        _ => Ok(opened),
    }
}

/// Said early too, where clients look for it (RFC 7234 §5.5; kubectl prints it).
fn warn(opened: &Opened, headers: &mut HeaderMap) {
    for (node, error) in opened.failed.iter().take(NAMED) {
        let text: String = error.to_string().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let text = text.replace(['"', '\\'], "'");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"node {node}: {text}\"")) {
            headers.append(WARNING, value);
        }
    }
}

/// What one node found, by id.
fn candidates(events: Vec<Event>, several: bool, asked: &str) -> Vec<(Ulid, Vec<Event>)> {
    let id = |event: &Event| match event {
        Event::Exchange(exchange) => exchange.id,
        Event::Connection(summary) => summary.id,
        Event::Message(message) if several || fits(message.id, asked) => message.id,
        // Of an exchange that is not written yet.
        Event::Message(message) => message.exchange,
        Event::Loss(_) => Ulid::default(),
    };
    if several {
        return events.into_iter().map(|event| (id(&event), vec![event])).collect();
    }
    events.first().map(id).map(|id| (id, events)).into_iter().collect()
}

fn fits(id: Ulid, asked: &str) -> bool {
    let id = id.to_string();
    id.starts_with(asked) || id.ends_with(asked)
}

/// The one that is meant. Beginnings go before ends, whichever node they are on.
fn choose(mut found: Vec<(Ulid, Vec<Event>)>, asked: &str, failed: &[(String, Failed)]) -> Result<Vec<Event>, Refusal> {
    let begins = |(id, _): &(Ulid, Vec<Event>)| id.to_string().starts_with(asked);
    if found.iter().any(begins) {
        found.retain(begins);
    }
    match (found.len(), failed) {
        (1, _) => Ok(found.pop().map(|(_, events)| events).unwrap_or_default()),
        (0, []) => {
            let text =
                format!("exchanges.capture.nodetap.io {asked:?} not found: no record's id begins or ends with it");
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
        (0, [(node, error), ..]) => Err(away(&format!("{asked} is on no node that answers; {node} does not: {error}"))),
        (count, _) => {
            let named = found.iter().take(CANDIDATES).map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ");
            let more = if count > CANDIDATES { ", …" } else { "" };
            let text = format!("{asked} fits {count} records, give more of the id: {named}{more}");
            Err(Refusal::new(StatusCode::CONFLICT, text))
        }
    }
}

fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(places).try_acquire_owned().map_err(|_| Refusal {
        retry: Some(RETRY),
        ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many are reading at this moment")
    })
}

fn bad(text: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}

/// Without a time to try again: kubectl would, ten times, before it said why.
fn away(text: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
}
