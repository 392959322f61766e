//! What servers gave us to resume sessions with. rustls' own store keeps eight tickets of a server; a target that opens
//! sixteen connections at a time has then given some away before it needs them, and every tenth handshake is a full one.
//! It refuses to know how long a ticket is good for: rustls looks when it takes one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::recent::Recent;

/// Servers that are remembered, by name; the one that was not called for the longest time makes room.
const SERVERS: usize = 256;
/// Tickets of one server: as many of its connections at a time are resumed.
const TICKETS: usize = 32;
/// Tickets of all servers. Each holds its server's certificates, so that it takes 2 to 6 KiB; a server that means harm can
/// make one of 64 KiB.
const ALL_TICKETS: usize = 1024;

/// Shared by all connections that have the same roots and client certificate.
pub(super) struct Tickets(Mutex<Servers>);

type Servers = Recent<ServerName<'static>, Server>;

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
    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known<T>(&self, name: &ServerName<'_>, f: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        f(self.servers().get(&name.to_owned())?)
    }
}

/// What is kept of this server, which has just been called.
fn of<'a>(servers: &'a mut Servers, name: ServerName<'static>) -> Option<&'a mut Server> {
    if servers.get(&name).is_none() {
        servers.insert(name.clone(), Server::default());
    }
    servers.get(&name)
}

/// A look at all of them is cheap beside the handshake that a ticket comes of.
fn tickets(servers: &Servers) -> usize {
    servers.values().map(|server| server.tls13.len()).sum()
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        if let Some(server) = of(&mut self.servers(), name) {
            server.group = Some(group);
        }
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.known(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        if let Some(server) = of(&mut self.servers(), name) {
            server.tls12 = Some(session);
        }
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.known(name, |server| server.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.known(name, |server| server.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut servers = self.servers();
        let Some(server) = of(&mut servers, name) else { return };
        server.tls13.push_back(ticket);
        if server.tls13.len() > TICKETS {
            server.tls13.pop_front();
        }
        // One server has fewer: it is not the one that was called last.
        while tickets(&servers) > ALL_TICKETS {
            servers.remove_oldest();
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        self.known(name, |server| server.tls13.pop_back())
    }
}
