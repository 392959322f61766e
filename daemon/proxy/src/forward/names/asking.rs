//! Asks the name servers of one `/etc/resolv.conf` for addresses, in the order and as often as it says. The order is ours
//! and not the resolver's: that stays with its first server when that fails or is silent, tells of two families the one
//! that has nothing, and of a search list the last name's answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::Resolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::Error;
use super::config::{ResolvConf, Search};
use super::wires::Wires;
use crate::sockets::Sockets;

/// Who is asked, and for which names.
pub(super) struct Asking {
    /// One for each name server.
    servers: Vec<Resolver<Wires>>,
    search: Search,
    attempts: usize,
    /// The server that the next question goes to first, if they take turns.
    turn: Option<AtomicUsize>,
}

impl Asking {
    pub(super) fn new(read: &ResolvConf, port: u16, sockets: &Arc<dyn Sockets>) -> Result<Self, Error> {
        let options = read.options();
        let build = |server| {
            let mut config = ResolverConfig::default();
            config.name_servers = vec![server];
            let built = Resolver::builder_with_config(config, Wires::of(sockets)).with_options(options.clone()).build();
            built.map_err(|error| Error::Failed(error.to_string()))
        };
        Ok(Self {
            servers: read.name_servers(port).map(build).collect::<Result<_, _>>()?,
            search: read.search(),
            attempts: read.attempts,
            turn: read.rotate.then(AtomicUsize::default),
        })
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
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => {
                    silent |= !candidate.as_is && matches!(error, Error::TimedOut);
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.unwrap_or(Error::NoAddress))
    }

    /// Of both families; one that fails is told of when the other has nothing.
    async fn both(&self, name: &Name) -> Result<Vec<IpAddr>, Error> {
        match tokio::join!(self.family(name, RecordType::AAAA), self.family(name, RecordType::A)) {
            (Ok(v6), Ok(v4)) => Ok([v6, v4].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Of one family: there may be none.
    async fn family(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, Error> {
        let count = self.servers.len();
        let first = self.turn.as_ref().map_or(0, |turn| turn.fetch_add(1, Ordering::Relaxed) % count.max(1));
        let mut failed = None;
        for server in self.servers.iter().cycle().skip(first).take(count.saturating_mul(self.attempts)) {
            match server.lookup(name.clone(), family).await.map_err(Error::from) {
                Ok(found) => return Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()),
                Err(Error::NoAddress) => return Ok(Vec::new()),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        Err(failed.unwrap_or(Error::NoAddress))
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        let code = match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
            NetError::Dns(DnsError::ResponseCode(code)) => *code,
            NetError::Timeout => return Self::TimedOut,
            _ => return Self::Failed(error.to_string()),
        };
        match code {
            ResponseCode::NoError | ResponseCode::NXDomain => Self::NoAddress,
            code => Self::Failed(format!("the name server answered: {code}")),
        }
    }
}
