//! Which records of a folder a command is about. A filter decides on what a record says itself; a message says little
//! (when, which way, to which address), so it goes by its exchange when that is written: a message is wanted when its
//! exchange is, and, where single messages are listed, when the text that is looked for stands in it. An exchange has
//! that text also when one of its messages has it.

use std::collections::HashMap;

use nodetap_core::exchange::{Event, Exchange, StreamMessage};
use nodetap_core::filter::Filter;
use nodetap_core::ulid::Ulid;

use super::ask::Messages;
use crate::store::read::{Entry, Error, Index, Kind};

/// Exchanges whose verdict is remembered; when there are more, all are forgotten.
const KNOWN: usize = 1 << 16;

/// Decides record by record.
#[derive(Debug)]
pub struct Chosen<'a> {
    filter: &'a Filter,
    messages: Messages,
    /// Verdicts on exchanges that have messages.
    known: HashMap<Ulid, bool>,
}

impl<'a> Chosen<'a> {
    pub fn new(filter: &'a Filter, messages: Messages) -> Self {
        Self { filter, messages, known: HashMap::new() }
    }

    /// The record, if it is wanted.
    pub fn read(&mut self, index: &mut Index, entry: Entry) -> Result<Option<Event>, Error> {
        // Where they go with their exchange, whoever writes that one asks for them.
        if entry.kind() == Kind::Message && matches!(self.messages, Messages::None | Messages::Grouped) {
            return Ok(None);
        }
        let Some(event) = index.event(entry)? else { return Ok(None) };
        let wanted = match &event {
            Event::Message(message) => self.message(index, message, &event)?,
            _ => self.other(index, &event)?,
        };
        Ok(wanted.then_some(event))
    }

    fn with_exchange(&self) -> bool {
        matches!(self.messages, Messages::All | Messages::Grouped)
    }

    fn message(&mut self, index: &mut Index, message: &StreamMessage, event: &Event) -> Result<bool, Error> {
        let by_itself = self.filter.matches(event);
        let exchange = match (self.known.get(&message.exchange), index.exchange(message.exchange)) {
            (Some(known), _) => *known,
            (None, None) => return Ok(by_itself),
            (None, Some(place)) => {
                let wanted = match index.event(place)? {
                    Some(exchange) if self.with_exchange() => self.other(index, &exchange)?,
                    Some(exchange) => self.filter.facts(&exchange),
                    None => return Ok(by_itself),
                };
                if self.known.len() >= KNOWN {
                    self.known.clear();
                }
                self.known.insert(message.exchange, wanted);
                wanted
            }
        };
        Ok(exchange && (self.with_exchange() || self.filter.text(event)))
    }

    fn other(&self, index: &mut Index, event: &Event) -> Result<bool, Error> {
        if self.filter.matches(event) {
            return Ok(true);
        }
        let Event::Exchange(exchange) = event else { return Ok(false) };
        if self.filter.grep.is_none() || !self.filter.facts(event) {
            return Ok(false);
        }
        for place in index.messages_of(exchange.id) {
            if index.event(place)?.is_some_and(|message| self.filter.text(&message)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Puts exchanges together with the messages that follow each.
#[derive(Debug, Default)]
pub struct Grouped {
    exchange: Option<Box<Exchange>>,
    messages: Vec<StreamMessage>,
}

impl Grouped {
    /// What is whole now that this one follows.
    pub fn add(&mut self, event: Event) -> Option<(Box<Exchange>, Vec<StreamMessage>)> {
        match event {
            Event::Message(message) => self.messages.push(*message),
            event => {
                let whole = self.last();
                if let Event::Exchange(exchange) = event {
                    self.exchange = Some(exchange);
                }
                return whole;
            }
        }
        None
    }

    /// Nothing follows any more.
    pub fn last(&mut self) -> Option<(Box<Exchange>, Vec<StreamMessage>)> {
        let messages = std::mem::take(&mut self.messages);
        self.exchange.take().map(|exchange| (exchange, messages))
    }
}

/// The messages of an exchange, in order, one read at a time.
pub fn messages(index: &mut Index, exchange: Ulid) -> impl Iterator<Item = Result<StreamMessage, Error>> {
    let places = index.messages_of(exchange);
    places.into_iter().filter_map(|place| match index.event(place) {
        Ok(Some(Event::Message(message))) => Some(Ok(*message)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}
