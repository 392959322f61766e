//! The worker's end of its channel to the keeper, and what it was given at its start: listening sockets by name, with
//! whatever waits in their queues.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::wire::{Channel, Message};

/// The keeper, if there is one.
#[derive(Debug, Default)]
pub(super) struct Link {
    channel: Option<Arc<Channel>>,
    /// What nobody has asked for yet.
    given: HashMap<String, OwnedFd>,
}

impl Link {
    pub(super) fn new(channel: Option<Arc<Channel>>) -> Self {
        Self { channel, given: HashMap::new() }
    }

    /// The keeper gave this.
    pub(super) fn give(&mut self, name: String, fd: OwnedFd) {
        self.given.insert(name, fd);
    }

    /// Was it given, and nobody has asked for it yet?
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// What was kept by this name.
    pub(super) fn take(&mut self, name: &str) -> Option<TcpListener> {
        self.given.remove(name).map(TcpListener::from)
    }

    /// To be kept by this name.
    pub(super) fn keep(&self, name: &str, listener: &TcpListener) {
        self.say(&Message::Hold(name.to_owned()), Some(listener));
    }

    /// No longer.
    pub(super) fn release(&self, name: &str) {
        self.say(&Message::Release(name.to_owned()), None);
    }

    /// What nobody asked for since everything is known again belongs to pods that are gone.
    pub(super) fn release_rest(&mut self, wanted: impl Fn(&str) -> bool) {
        let rest: Vec<String> = self.given.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in rest {
            self.release(&name);
            self.given.remove(&name);
        }
    }

    pub(super) fn tell(&self, message: &Message) {
        self.say(message, None);
    }

    fn say(&self, message: &Message, fd: Option<&TcpListener>) {
        let Some(channel) = &self.channel else { return };
        let sent: io::Result<()> = channel.send(message, fd.map(|fd| fd.as_fd()));
        if let Err(error) = sent {
            // It is gone: that is told by the thread that listens to it.
            tracing::debug!(%error, ?message, "the keeper does not hear");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_taken_once_and_the_rest_is_released() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut link = Link::new(Some(Arc::new(ours)));
        let keeper = Channel::over(theirs);
        for name in ["a/1", "b/1"] {
            link.give(name.to_owned(), TcpListener::bind("127.0.0.1:0").unwrap().into());
        }
        assert!(link.has("a/1"));
        assert!(link.take("a/1").is_some());
        assert!(!link.has("a/1"));
        assert!(link.take("a/1").is_none());
        link.release_rest(|_| false);
        assert_eq!(keeper.receive().unwrap().unwrap().0, Message::Release("b/1".into()));
        assert!(link.take("b/1").is_none());
    }
}
