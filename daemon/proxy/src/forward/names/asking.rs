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

use super::Error;
use super::config::{ResolvConf, Search};
use super::wires::Wires;
use crate::sockets::Sockets;

/// What is known of one family is not held back longer for the other's sake (RFC 8305 §3 has the reason).
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

/// Why a name has no addresses.
struct Missing {
    error: Error,
    /// Nobody said anything.
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

    /// Of both families, at least one; one that fails is told of when the other has nothing.
    async fn both(&self, name: &Name) -> Result<Vec<IpAddr>, Missing> {
        let first = self.turn.as_ref().map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed));
        let mut v6 = pin!(self.family(name, RecordType::AAAA, first));
        let mut v4 = pin!(self.family(name, RecordType::A, first));
        let answers = tokio::select! {
            first = &mut v6 => (first, v4),
            first = &mut v4 => (first, v6),
        };
        let (one, other) = match answers {
            (Ok(found), other) if !found.is_empty() => {
                let other = timeout(OTHER_FAMILY, other).await.unwrap_or(Ok(Vec::new()));
                return Ok([found, other.unwrap_or_default()].concat());
            }
            (one, other) => (one, other.await),
        };
        match (one, other) {
            (_, Ok(found)) if !found.is_empty() => Ok(found),
            (Err(Error::TimedOut), Err(Error::TimedOut)) => Err(Missing { error: Error::TimedOut, silent: true }),
            (Err(error), _) | (_, Err(error)) => Err(Missing { error, silent: false }),
            (Ok(_), Ok(_)) => Err(Missing { error: Error::NoAddress, silent: false }),
        }
    }

    /// Of one family: there may be none.
    async fn family(&self, name: &Name, family: RecordType, first: usize) -> Result<Vec<IpAddr>, Error> {
        let (mut failed, count) = (None, self.servers.len());
        let tries = count.saturating_mul(self.attempts);
        for server in self.servers.iter().cycle().skip(first % count.max(1)).take(tries) {
            match self.ask(server, name, family).await {
                Ok(found) => return Ok(found),
                Err(Error::NoAddress) => return Ok(Vec::new()),
                // That one of them said something tells more than that another was silent.
                Err(error) if !matches!(failed, Some(Error::Failed(_))) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(Error::NoAddress))
    }

    /// One server, by a resolver for this one question: nothing is kept that could be remembered, and a connection that
    /// the server has closed meanwhile would be found out by a failure.
    async fn ask(&self, server: &NameServerConfig, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, Error> {
        let mut config = ResolverConfig::default();
        config.name_servers = vec![server.clone()];
        let resolver = Resolver::builder_with_config(config, Wires::of(&self.sockets));
        let resolver = resolver.with_options(self.options.clone()).build().map_err(Error::from)?;
        let found = resolver.lookup(name.clone(), family).await.map_err(Error::from)?;
        Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        let code = match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
            NetError::Dns(DnsError::ResponseCode(code)) => *code,
            NetError::Timeout => return Self::TimedOut,
            NetError::NoConnections => return Self::Failed("the name server cannot be reached".to_owned()),
            _ => return Self::Failed(error.to_string()),
        };
        match code {
            ResponseCode::NoError | ResponseCode::NXDomain => Self::NoAddress,
            code => Self::Failed(format!("the name server answered: {code}")),
        }
    }
}
