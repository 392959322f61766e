//! Records in the form that was asked for. What is said between records stands among them where the form has room for
//! it, and at the end where it has not: nothing is said to be whole that is not.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use nodetap_core::exchange::{Event, Exchange, StreamMessage};
use nodetap_core::har;
use nodetap_core::record::{NoticeRecord, Record};

use crate::query::chosen::Grouped;
use crate::query::wire::{self, Item};

/// Bytes of one exchange's messages that are held together for a HAR.
const TOGETHER: usize = 32 << 20;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object a line.
    Lines,
    /// HAR 1.2, whole at the end.
    Har,
    /// As agents send them.
    Records,
}

impl Form {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/jsonl",
            // HAR has no type of its own.
            Self::Har => "application/json",
            Self::Records => wire::MEDIA_TYPE,
        }
    }
}

/// Where a HAR goes: its writer holds one end, we the other.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Har {
    writer: har::Writer<Shared>,
    written: Shared,
    grouped: Grouped,
    /// Bytes of messages since the last exchange.
    held: usize,
    said: Vec<String>,
}

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Writer {
    form: Form,
    ready: Vec<u8>,
    har: Option<Har>,
}

impl Writer {
    pub(super) fn new(form: Form) -> Self {
        let written = Shared::default();
        // A vector takes everything.
        let writer = har::Writer::new(written.clone(), env!("CARGO_PKG_VERSION")).ok();
        let har = writer.filter(|_| form == Form::Har);
        let har = har.map(|writer| Har { writer, written, grouped: Grouped::default(), held: 0, said: Vec::new() });
        Self { form, ready: Vec::new(), har }
    }

    /// Bytes that can be taken.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    pub(super) fn put(&mut self, item: Item) {
        match (&mut self.har, self.form, item) {
            (Some(har), _, item) => {
                har.put(item);
                har.drain(&mut self.ready);
            }
            (None, Form::Records, item) => {
                if let Err(error) = item.encode(&mut self.ready) {
                    tracing::warn!(%error, "a record cannot be passed on");
                }
            }
            (None, _, Item::Record(event)) => self.line(&Record::from(&event)),
            (None, _, Item::Notice(notice)) => self.line(&Record::Notice(notice)),
            (None, _, Item::Live) => {}
        }
    }

    /// Nothing follows.
    pub(super) fn finish(&mut self) {
        if let Some(mut har) = self.har.take() {
            let last = har.grouped.last();
            har.exchange(last);
            let comment = har.said.join("; ");
            if let Err(error) = har.writer.finish_saying(&comment) {
                tracing::warn!(%error, "a HAR cannot be ended");
            }
            self.ready.append(&mut har.written.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn line(&mut self, record: &Record) {
        let start = self.ready.len();
        match serde_json::to_writer(&mut self.ready, record) {
            Ok(()) => self.ready.push(b'\n'),
            Err(error) => {
                self.ready.truncate(start);
                tracing::warn!(%error, "a record cannot be written as JSON");
            }
        }
    }
}

impl Har {
    fn put(&mut self, item: Item) {
        match item {
            Item::Record(Event::Message(message)) if self.held > TOGETHER => {
                if self.said.last().is_none_or(|said| !said.starts_with("messages of")) {
                    self.said.push(format!("messages of {} are left out: there are too many", message.exchange));
                }
            }
            Item::Record(event) => {
                if let Event::Message(message) = &event {
                    self.held += message.body.kept.len();
                } else {
                    self.held = 0;
                }
                let whole = self.grouped.add(event);
                self.exchange(whole);
            }
            Item::Notice(NoticeRecord { node, detail, next, .. }) => {
                let node = node.map_or(String::new(), |node| format!("node {node}: "));
                let next = next.map_or(String::new(), |next| format!(" (continue={next})"));
                self.said.push(format!("{node}{detail}{next}"));
            }
            Item::Live => {}
        }
    }

    /// `None`: none is whole yet.
    fn exchange(&mut self, whole: Option<(Box<Exchange>, Vec<StreamMessage>)>) {
        let Some((exchange, messages)) = whole else { return };
        let messages = messages.into_iter().map(Ok::<_, io::Error>);
        if let Err(error) = self.writer.write(&exchange, messages) {
            tracing::warn!(%error, "an exchange cannot be written into a HAR");
        }
    }

    fn drain(&self, ready: &mut Vec<u8>) {
        ready.append(&mut self.written.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
