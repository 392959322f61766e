//! The answers of many nodes as one, in time order. What a node cannot say is said, and never passed over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nodetap_core::exchange::Event;
use nodetap_core::record::NoticeRecord;
use tokio::sync::mpsc;

use super::form::Writer;
use super::source::{Failed, Source};
use crate::query::ask::{Ask, At, Messages};
use crate::query::read::{PAGE, notice};
use crate::query::wire::Item;

/// How long a page may take: the API server waits for 60 s.
const PATIENCE: Duration = Duration::from_secs(40);
/// What is left to a node when that is over.
const LAST: Duration = Duration::from_secs(8);
/// Bytes of a page.
const BYTES: usize = 64 << 20;
/// Bytes that go out together.
const PIECE: usize = 64 << 10;

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Unread;

/// Where an answer goes.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) writer: Writer,
    pub(super) pieces: mpsc::Sender<hyper::body::Bytes>,
    pub(super) bytes: usize,
}

impl Out {
    pub(super) async fn put(&mut self, item: Item) -> Result<(), Unread> {
        self.writer.put(item);
        if self.writer.ready() < PIECE { Ok(()) } else { self.flush().await }
    }

    pub(super) async fn say(&mut self, notice: NoticeRecord) -> Result<(), Unread> {
        self.put(Item::Notice(notice)).await
    }

    pub(super) async fn flush(&mut self) -> Result<(), Unread> {
        let piece = self.writer.take();
        self.bytes += piece.len();
        if piece.is_empty() { Ok(()) } else { self.pieces.send(piece.into()).await.map_err(|_| Unread) }
    }

    pub(super) async fn finish(mut self) -> Result<(), Unread> {
        self.writer.finish();
        self.flush().await
    }
}

/// What a node said that is no record.
pub(super) fn of_node(node: &str, notice: NoticeRecord) -> NoticeRecord {
    NoticeRecord { node: Some(node.to_owned()), ..notice }
}

/// A node that does not answer, or not to the end.
pub(super) fn failed(node: &str, failed: &Failed) -> NoticeRecord {
    of_node(node, notice("node_failed", format!("its records are missing: {failed}"), None))
}

/// Answers that have begun, in the order of their records.
#[derive(Debug)]
pub(super) struct Merge {
    sources: Vec<Source>,
    /// Nothing is known of what comes behind this: a node has ended its page here.
    bound: Option<At>,
    start: Instant,
    /// What was said since it was asked for.
    said: Vec<NoticeRecord>,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        Self { sources, bound: None, start: Instant::now(), said: Vec::new() }
    }

    /// The next record and its source; `None`: there is none, or it is not known what is next.
    async fn next(&mut self) -> Option<(At, usize)> {
        let mut number = 0;
        while let Some(source) = self.sources.get_mut(number) {
            let deadline = self.start + PATIENCE + LAST;
            let node = source.node.clone();
            let head = tokio::time::timeout_at(deadline.into(), source.peek()).await;
            match head {
                Ok(Some(Ok(Item::Record(_)))) => {
                    number += 1;
                    continue;
                }
                Ok(Some(Ok(Item::Notice(said)))) => {
                    match said.next.as_ref().and_then(|next| next.parse().ok()) {
                        Some(next) => self.bound = Some(self.bound.map_or(next, |bound| bound.min(next))),
                        None => self.said.push(of_node(&node, said.clone())),
                    }
                    source.next().await;
                    continue;
                }
                Ok(Some(Ok(Item::Live))) => {
                    source.next().await;
                    continue;
                }
                Ok(Some(Err(error))) => self.said.push(failed(&node, error)),
                Err(_) => self.said.push(failed(&node, &Failed("it is too slow".to_owned()))),
                Ok(None) => {}
            }
            self.sources.swap_remove(number);
        }
        let places = self.sources.iter().enumerate().filter_map(|(number, source)| Some((source.place()?, number)));
        let next = places.min();
        next.filter(|(at, _)| self.bound.is_none_or(|bound| *at <= bound))
    }

    /// The record of a source that was looked at.
    async fn take(&mut self, number: usize) -> Option<Event> {
        match self.sources.get_mut(number)?.next().await {
            Some(Ok(Item::Record(event))) => Some(event),
            _ => None,
        }
    }

    async fn is_message_next(&mut self, number: usize) -> bool {
        match self.sources.get_mut(number) {
            Some(source) => matches!(source.peek().await, Some(Ok(Item::Record(Event::Message(_))))),
            None => false,
        }
    }

    async fn say(&mut self, out: &mut Out) -> Result<(), Unread> {
        for said in self.said.drain(..) {
            out.say(said).await?;
        }
        Ok(())
    }
}

/// One page, in time order; where it ends before the records do, its last words say where to go on.
///
/// # Errors
/// When nobody reads any more.
pub(super) async fn page(sources: Vec<Source>, ask: &Ask, out: &mut Out) -> Result<(), Unread> {
    let mut merge = Merge::new(sources);
    let limit = ask.limit.unwrap_or(PAGE).min(PAGE);
    let (mut count, mut last) = (0, ask.after);
    loop {
        let next = merge.next().await;
        merge.say(out).await?;
        let full = count >= limit || out.bytes > BYTES || merge.start.elapsed() > PATIENCE;
        let Some((at, number)) = next.filter(|_| !(full && count > 0)) else {
            // Behind the last record that was said, or behind what a node has looked through.
            let go_on = if next.is_some() { last } else { merge.bound };
            if let Some(go_on) = go_on {
                let detail = format!("this page ends after {count} records; the next one begins at `continue`");
                out.say(notice("page_end", detail, Some(go_on.to_string()))).await?;
            }
            return Ok(());
        };
        let Some(event) = merge.take(number).await else { continue };
        out.put(Item::Record(event)).await?;
        (count, last) = (count + 1, Some(at));
        if ask.messages == Messages::Grouped {
            while merge.is_message_next(number).await {
                if let Some(message) = merge.take(number).await {
                    out.put(Item::Record(message)).await?;
                }
            }
        }
    }
}

/// The last ones of all nodes together.
///
/// # Errors
/// When nobody reads any more.
pub(super) async fn tail(sources: Vec<Source>, count: usize, out: &mut Out) -> Result<(), Unread> {
    let mut merge = Merge::new(sources);
    let mut last = Last::new(count);
    while let Some((_, number)) = merge.next().await {
        if let Some(event) = merge.take(number).await {
            last.push(event);
        }
    }
    merge.say(out).await?;
    last.put(out).await
}

/// The newest records, as many as were asked for and as memory allows.
#[derive(Debug)]
pub(super) struct Last {
    events: VecDeque<(Event, usize)>,
    count: usize,
    bytes: usize,
    cut: bool,
}

impl Last {
    pub(super) fn new(count: usize) -> Self {
        Self { events: VecDeque::new(), count, bytes: 0, cut: false }
    }

    /// They come in their order.
    pub(super) fn push(&mut self, event: Event) {
        let weight = weight(&event);
        self.bytes += weight;
        self.events.push_back((event, weight));
        while self.events.len() > self.count || self.bytes > BYTES {
            self.cut |= self.events.len() <= self.count;
            let Some((_, weight)) = self.events.pop_front() else { return };
            self.bytes -= weight;
        }
    }

    /// Together with those of other nodes.
    pub(super) fn sort(&mut self) {
        self.events.make_contiguous().sort_by_key(|(event, _)| crate::query::read::place(event));
    }

    /// Those that are too many when all nodes are together.
    pub(super) fn join(&mut self, other: Self) {
        self.cut |= other.cut;
        self.bytes += other.bytes;
        self.events.extend(other.events);
        self.sort();
        while self.events.len() > self.count || self.bytes > BYTES {
            self.cut |= self.events.len() <= self.count;
            let Some((_, weight)) = self.events.pop_front() else { return };
            self.bytes -= weight;
        }
    }

    pub(super) async fn put(self, out: &mut Out) -> Result<(), Unread> {
        if self.cut {
            let detail = format!("{} are shown: more are too large to be put in order at once", self.events.len());
            out.say(notice("limit", detail, None)).await?;
        }
        for (event, _) in self.events {
            out.put(Item::Record(event)).await?;
        }
        Ok(())
    }
}

/// Bytes that a record takes.
pub(super) fn weight(event: &Event) -> usize {
    /// Of what has no body.
    const BARE: usize = 512;
    let message = |message: &nodetap_core::exchange::Message| message.head.len() + message.body.kept.len();
    BARE + match event {
        Event::Exchange(exchange) => message(&exchange.request) + exchange.response.as_ref().map_or(0, message),
        Event::Message(message) => message.body.kept.len(),
        Event::Connection(_) | Event::Loss(_) => 0,
    }
}
