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
#[derive(Default)]
pub(super) struct Tickets(Mutex<Kept>);

struct Kept {
    servers: Recent<ServerName<'static>, Server>,
    /// TLS 1.3 tickets of all of them.
    tickets: usize,
}

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// Each is used once (RFC 8446 §C.4).
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { servers: Recent::new(SERVERS), tickets: 0 }
    }
}

impl Kept {
    /// What is kept of this server, which has just been called.
    fn of(&mut self, name: ServerName<'static>) -> Option<&mut Server> {
        if self.servers.get(&name).is_none() {
            if self.servers.len() >= SERVERS {
                self.forget_one();
            }
            self.servers.insert(name.clone(), Server::default());
        }
        self.servers.get(&name)
    }

    fn forget_one(&mut self) {
        if let Some(server) = self.servers.remove_oldest() {
            self.tickets -= server.tls13.len();
        }
    }
}

impl std::fmt::Debug for Tickets {
    /// Without what is in it: those are keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known<T>(&self, name: &ServerName<'_>, f: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        f(self.kept().servers.get(&name.to_owned())?)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        if let Some(server) = self.kept().of(name) {
            server.group = Some(group);
        }
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.known(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        if let Some(server) = self.kept().of(name) {
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
        let mut kept = self.kept();
        let Some(server) = kept.of(name) else { return };
        server.tls13.push_back(ticket);
        if server.tls13.len() > TICKETS {
            server.tls13.pop_front();
        } else {
            kept.tickets += 1;
        }
        // One server has fewer: it is not the one that was called last.
        while kept.tickets > ALL_TICKETS {
            kept.forget_one();
        }
    }

    fn take_tls13_ticket(&self, name: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept();
        let ticket = kept.servers.get(&name.to_owned())?.tls13.pop_back()?;
        kept.tickets -= 1;
        Some(ticket)
    }
}
