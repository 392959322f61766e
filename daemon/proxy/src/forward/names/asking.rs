//! Asks the name servers of one `/etc/resolv.conf` for addresses, in the order and as often as it says. The order is ours
//! and not the resolver's: that stays with its first server when that fails or is silent, tells of two families the one
//! that has nothing, and of a search list the last name's answer.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::timeout;

use super::config::{ResolvConf, Search};
use super::wires::Wires;
use super::{Error, has_route};
use crate::sockets::Sockets;

/// What is known of one family is not held back longer for the other's sake.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// Who is asked, and for which names.
pub(super) struct Asking {
    servers: Vec<NameServerConfig>,
    search: Search,
    attempts: usize,
    options: ResolverOpts,
    sockets: Arc<dyn Sockets>,
    /// The server that the next question goes to first, if they take turns.
    turn: Option<AtomicUsize>,
}

/// What is heard of the addresses of one family.
enum Heard {
    /// There may be none.
    Found(Vec<IpAddr>),
    /// Of neither family (RFC 8020).
    NoSuchName,
    /// A server says that it cannot tell.
    Failure(Error),
    /// Nobody says anything.
    Silence(Error),
}

/// Why a name has no addresses.
struct Missing {
    error: Error,
    /// Of one family at least nobody said anything.
    silent: bool,
}

impl Asking {
    pub(super) fn new(read: &ResolvConf, port: u16, sockets: &Arc<dyn Sockets>) -> Self {
        Self {
            servers: read.name_servers(port).collect(),
            search: read.search(),
            attempts: read.attempts,
            options: read.options(),
            sockets: Arc::clone(sockets),
            turn: read.rotate.then(AtomicUsize::default),
        }
    }

    /// The addresses of a name, at least one. Goes through the search list as the C library does: a server that fails for
    /// one name may answer for the next, but one that is silent is asked for the name itself only. Unlike it, a failure is
    /// always told: nobody knows then that there is no such host.
    pub(super) async fn addresses(&self, asked: &Name) -> Result<Vec<IpAddr>, Error> {
        let (mut failed, mut silent) = (None, false);
        for candidate in self.search.candidates(asked) {
            if silent && !candidate.as_is {
                continue;
            }
            match self.both(&candidate.name).await {
                Ok(found) => return Ok(found),
                Err(Missing { error: Error::NoAddress, .. }) => {}
                Err(missing) => {
                    silent |= missing.silent && !candidate.as_is;
                    failed.get_or_insert(missing.error);
                }
            }
        }
        Err(failed.unwrap_or(Error::NoAddress))
    }

    /// Of both families, at least one. What one family has does not wait for long for the other, unless there is no way to
    /// it from here; nor does a name that there is none of, though some servers say that when they know one family only
    /// (RFC 4074 §4.2).
    async fn both(&self, name: &Name) -> Result<Vec<IpAddr>, Missing> {
        let first = self.turn.as_ref().map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed));
        let mut v6 = pin!(self.family(name, RecordType::AAAA, first));
        let mut v4 = pin!(self.family(name, RecordType::A, first));
        let (one, other) = tokio::select! {
            first = &mut v6 => (first, v4),
            first = &mut v4 => (first, v6),
        };
        let is_enough = match &one {
            Heard::Found(found) => found.iter().any(|address| has_route(&*self.sockets, *address)),
            Heard::NoSuchName => true,
            Heard::Failure(_) | Heard::Silence(_) => false,
        };
        let other = match is_enough {
            true => timeout(OTHER_FAMILY, other).await.unwrap_or(Heard::NoSuchName),
            false => other.await,
        };
        let found = [&one, &other].map(|heard| if let Heard::Found(found) = heard { &found[..] } else { &[] }).concat();
        let (error, silent) = match (one, other) {
            _ if !found.is_empty() => return Ok(found),
            (Heard::NoSuchName, _) | (_, Heard::NoSuchName) => (Error::NoAddress, false),
            (Heard::Failure(error), _) | (_, Heard::Failure(error)) => (error, false),
            (Heard::Silence(error), _) | (_, Heard::Silence(error)) => (error, true),
            (Heard::Found(_), Heard::Found(_)) => (Error::NoAddress, false),
        };
        Err(Missing { error, silent })
    }

    /// Of one family.
    async fn family(&self, name: &Name, family: RecordType, first: usize) -> Heard {
        let (mut failure, mut silence, count) = (None, None, self.servers.len());
        let tries = count.saturating_mul(self.attempts);
        for server in self.servers.iter().cycle().skip(first % count.max(1)).take(tries) {
            match self.ask(server, name, family).await.unwrap_or_else(Heard::from) {
                Heard::Failure(error) => _ = failure.get_or_insert(error),
                Heard::Silence(error) => _ = silence.get_or_insert(error),
                heard => return heard,
            }
        }
        // That one of them said something tells more than that another was silent.
        failure.map(Heard::Failure).or(silence.map(Heard::Silence)).unwrap_or(Heard::NoSuchName)
    }

    /// One server, by a resolver for this one question: nothing is kept that could be remembered, and a connection that
    /// the server has closed meanwhile would be found out by a failure.
    async fn ask(&self, server: &NameServerConfig, name: &Name, family: RecordType) -> Result<Heard, NetError> {
        let mut config = ResolverConfig::default();
        config.name_servers = vec![server.clone()];
        let resolver = Resolver::builder_with_config(config, Wires::of(&self.sockets));
        let found = resolver.with_options(self.options.clone()).build()?.lookup(name.clone(), family).await?;
        Ok(Heard::Found(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()))
    }
}

impl From<NetError> for Heard {
    fn from(error: NetError) -> Self {
        let code = match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
            NetError::Dns(DnsError::ResponseCode(code)) => code,
            NetError::Dns(error) => return Self::Failure(Error::Failed(error.to_string())),
            NetError::Timeout => return Self::Silence(Error::TimedOut),
            NetError::NoConnections => {
                return Self::Silence(Error::Failed("the name server cannot be reached".to_owned()));
            }
            error => return Self::Silence(Error::Failed(error.to_string())),
        };
        match code {
            ResponseCode::NoError => Self::Found(Vec::new()),
            ResponseCode::NXDomain => Self::NoSuchName,
            code => Self::Failure(Error::Failed(format!("the name server answered: {code}"))),
        }
    }
}
