//! The names of protocol buffers' fields, from a descriptor set (`protoc --include_imports -o FILE`, `buf build -o
//! FILE`): the called method says which type a message has. It refuses to fail: what the set does not fit is shown by
//! field number.

use std::cell::Cell;
use std::path::Path;

use nodetap_core::exchange::{Exchange, MessageKind, Sender, StreamMessage};
use nodetap_core::grpc;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::output::warn;

/// The types of one call's messages.
#[derive(Debug)]
pub(super) struct Names {
    request: MessageDescriptor,
    response: MessageDescriptor,
    warned: Cell<bool>,
}

impl Names {
    /// `None`, with a warning on stderr: the file is no descriptor set, or does not know the method.
    pub(super) fn read(path: &Path, exchange: &Exchange) -> Option<Self> {
        let instead = "fields are shown by number";
        let bytes = std::fs::read(path).map_err(|error| error.to_string());
        let pool = bytes.and_then(|bytes| DescriptorPool::decode(&bytes[..]).map_err(|error| error.to_string()));
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => {
                warn(&format!("warning: {} is no descriptor set: {error}; {instead}", path.display()));
                return None;
            }
        };
        let (service, method) = grpc::method(exchange);
        let found = pool.get_service_by_name(&service);
        let Some(found) = found.and_then(|service| service.methods().find(|one| one.name() == method)) else {
            warn(&format!("warning: {} has no method {service}/{method}; {instead}", path.display()));
            return None;
        };
        Some(Self { request: found.input(), response: found.output(), warned: Cell::new(false) })
    }

    /// In protocol buffers' text format; `None`: it is no message of the type that it should be.
    pub(super) fn show(&self, message: &StreamMessage) -> Option<String> {
        let whole = message.body.kept.len() as u64 == message.body.size;
        if message.kind != MessageKind::Grpc || !whole {
            return None;
        }
        let kind = match message.sender {
            Sender::Client => &self.request,
            Sender::Server => &self.response,
        };
        match DynamicMessage::decode(kind.clone(), &message.body.kept[..]) {
            Ok(decoded) => Some(format!("{decoded:#}")),
            Err(error) => {
                if !self.warned.replace(true) {
                    let (number, name) = (message.seq, kind.full_name());
                    let instead = "it and others like it are shown by field number";
                    warn(&format!("warning: message #{number} is no {name}: {error}; {instead}"));
                }
                None
            }
        }
    }
}
