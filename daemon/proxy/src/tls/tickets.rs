//! What servers gave us to resume sessions with. rustls' own store keeps eight tickets of a server; a target that opens
//! sixteen connections at a time has then given some away before it needs them, and every tenth handshake is a full one.
//! It refuses to know how long a ticket is good for: rustls looks when it takes one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::recent::Recent;

/// Servers that are remembered, by name; the one that was not called for the longest time makes room.
const SERVERS: usize = 256;
/// Tickets of one server, of about 1 KiB each: as many of its connections at a time are resumed.
const TICKETS: usize = 32;

/// Shared by all connections that have the same roots and client certificate.
pub(super) struct Tickets(Mutex<Recent<ServerName<'static>, Server>>);

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// Each is used once (RFC 8446 §C.4).
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(SERVERS)))
    }
}

impl std::fmt::Debug for Tickets {
    /// Without what is in it: those are keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    fn of<T>(&self, name: &ServerName<'_>, f: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(servers.get(&name.to_owned())?)
    }

    fn keep(&self, name: ServerName<'static>, f: impl FnOnce(&mut Server)) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&name) {
            return f(server);
        }
        let mut server = Server::default();
        f(&mut server);
        servers.insert(name, server);
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.keep(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.of(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.keep(name, |server| server.tls12 = Some(session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.of(name, |server| server.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.of(name, |server| server.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.keep(name, |server| {
            if server.tls13.len() >= TICKETS {
                server.tls13.pop_front();
            }
            server.tls13.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        self.of(name, |server| server.tls13.pop_back())
    }
}
