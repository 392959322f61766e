//! One conversation with one agent: a question, and the items of its answer as they come.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use nodetap_core::exchange::Event;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::agents::Agent;
use crate::query::Ask;
use crate::query::ask::At;
use crate::query::identity::{AGENT_NAME, agent_name};
use crate::query::read::place;
use crate::query::wire::{Decoder, Item};

/// How long an agent may take to accept, and to begin its answer: it may have others to answer first.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(15);
/// How long it may be silent within an answer. In a watch it gives signs of life; on a page it searches for 20 s.
const SILENCE: Duration = Duration::from_secs(40);
/// Items that wait for their turn.
const WAITING: usize = 8;
/// Bytes of an error that are read.
const ERROR: usize = 4 << 10;

/// Why an agent does not answer, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(pub String);

/// What is asked of an agent.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// With the namespace.
    pub(super) ask: Ask,
    /// One record.
    pub(super) id: Option<String>,
    pub(super) tls: Arc<ClientConfig>,
}

/// An answer that has begun. Dropping it ends the conversation.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) node: String,
    items: mpsc::Receiver<Result<Item, Failed>>,
    /// What comes next, once it was looked at.
    head: Option<Result<Item, Failed>>,
    reading: AbortHandle,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Source {
    /// Asks; comes back when the answer begins.
    ///
    /// # Errors
    /// When there is none, in one sentence.
    pub(super) async fn open(agent: &Agent, question: &Question) -> Result<Self, Failed> {
        let mut body = begin(agent, question).await?;
        let namespace = question.ask.namespace.clone().unwrap_or_default();
        let (items_tx, items) = mpsc::channel(WAITING);
        let reading = tokio::spawn(async move {
            let mut decoder = Decoder::default();
            loop {
                let item = match next(&mut body, &mut decoder).await {
                    Ok(None) => return,
                    // An agent answers for the namespace that it is asked for; that it does is not believed.
                    Ok(Some(Item::Record(event))) if !is_of(&event, &namespace) => continue,
                    Ok(Some(item)) => Ok(item),
                    Err(failed) => Err(failed),
                };
                let last = item.is_err();
                if items_tx.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Self { node: agent.node.clone(), items, head: None, reading: reading.abort_handle() })
    }

    /// `None`: that was all.
    pub(super) async fn next(&mut self) -> Option<Result<Item, Failed>> {
        match self.head.take() {
            Some(head) => Some(head),
            None => self.items.recv().await,
        }
    }

    /// What [`Source::next`] will give.
    pub(super) async fn peek(&mut self) -> Option<&Result<Item, Failed>> {
        if self.head.is_none() {
            self.head = self.items.recv().await;
        }
        self.head.as_ref()
    }

    /// Where the record stands that was looked at.
    pub(super) fn place(&self) -> Option<At> {
        match &self.head {
            Some(Ok(Item::Record(event))) => Some(place(event)),
            _ => None,
        }
    }
}

fn is_of(event: &Event, namespace: &str) -> bool {
    let target = match event {
        Event::Exchange(exchange) => &exchange.connection.target,
        Event::Connection(summary) => &summary.connection.target,
        Event::Message(message) => &message.connection.target,
        Event::Loss(loss) => &loss.target,
    };
    target.namespace.as_deref() == Some(namespace)
}

async fn begin(agent: &Agent, question: &Question) -> Result<Incoming, Failed> {
    let failed = |why: &dyn std::fmt::Display| Failed(format!("the agent {} cannot be asked: {why}", agent.pod));
    let Some(address) = agent.address else { return Err(failed(&"it does not run")) };
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = agent_name().map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::clone(&question.tls)).connect(name, stream).await
    };
    let stream = match tokio::time::timeout(CONNECT, connected).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&format_args!("{address} does not answer within {} s", CONNECT.as_secs()))),
    };
    let asked = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the body that it serves.
        tokio::spawn(connection);
        let id = question.id.as_ref().map_or(String::new(), |id| format!("/{id}"));
        let request = Request::get(format!("/exchanges{id}?{}", question.ask.query())).header(HOST, AGENT_NAME);
        let request = request.body(Empty::<Bytes>::new()).unwrap_or_default();
        sender.send_request(request).await
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => Ok(response.into_body()),
        Ok(Ok(response)) => {
            let status = response.status();
            let mut body = response.into_body();
            let text = match tokio::time::timeout(CONNECT, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                _ => Bytes::new(),
            };
            let text = String::from_utf8_lossy(text.get(..text.len().min(ERROR)).unwrap_or_default()).into_owned();
            Err(failed(&format_args!("{} {text}", status.as_u16())))
        }
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&format_args!("no answer within {} s", ANSWER.as_secs()))),
    }
}

async fn next(body: &mut Incoming, decoder: &mut Decoder) -> Result<Option<Item>, Failed> {
    loop {
        if let Some(item) = decoder.next_item().map_err(|error| Failed(error.to_string()))? {
            return Ok(Some(item));
        }
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => decoder.push(frame.data_ref().map_or(&[][..], |data| data)),
            Ok(Some(Err(error))) => return Err(Failed(format!("its answer broke off: {error}"))),
            Ok(None) if decoder.is_empty() => return Ok(None),
            Ok(None) => return Err(Failed("its answer ends within a record".to_owned())),
            Err(_) => return Err(Failed(format!("it is silent for {} s", SILENCE.as_secs()))),
        }
    }
}
