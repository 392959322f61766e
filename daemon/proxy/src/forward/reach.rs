//! From the name that a client asked for to a connection: resolve, try the addresses in turn, and say exactly what
//! failed. It refuses to know how the client is told.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nodetap_core::exchange::{Outcome, Via};
use rustix::io::Errno;
use tokio::time::{Instant, timeout, timeout_at};

use super::authority::{Authority, Host};
use super::names;
use crate::dial::{self, Dialled};
use crate::steering::{Destination, Forward, OurOwn, Steering};

/// The most that one address of several is waited for; the last one has all the time that is left.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;

/// An upstream connection.
#[derive(Debug)]
pub struct Reached<'a> {
    pub upstream: Dialled<'a>,
    pub destination: Destination,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot resolve {name}: {source}")]
    Name { name: String, source: names::Error },
    #[error("{asked} is an address of this proxy itself")]
    Loop { asked: Authority },
    #[error("cannot connect to {asked} ({to}): {source}")]
    Connect { asked: Authority, to: SocketAddr, source: io::Error },
    #[error("{asked} ({to}) did not answer in time")]
    TimedOut { asked: Authority, to: SocketAddr },
    #[error("nodetap itself could not dial {to}: {source}")]
    Ourselves { to: SocketAddr, source: io::Error },
    #[error("the client gave up before {asked} had answered")]
    ClientGone { asked: Authority },
}

impl Error {
    /// How the connection is recorded.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Name { source: names::Error::TimedOut, .. } | Self::TimedOut { .. } => Outcome::Timeout,
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => Outcome::Timeout,
            Self::ClientGone { .. } => Outcome::ClientAborted,
            Self::Ourselves { .. } => Outcome::Passthrough,
            Self::Name { .. } | Self::Loop { .. } | Self::Connect { .. } => Outcome::Refused,
        }
    }

    /// As HTTP says it: 502, 504 where nobody answered in time, 508 for a loop, 503 for what is our own fault.
    pub fn status(&self) -> u16 {
        match (self, self.outcome()) {
            (Self::Loop { .. }, _) => 508,
            (Self::Ourselves { .. }, _) => 503,
            (_, Outcome::Timeout) => 504,
            _ => 502,
        }
    }

    /// What the kernel said, if it was the kernel.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Connect { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }

    /// The address that was tried last, if it came to that.
    pub fn tried(&self) -> Option<SocketAddr> {
        match self {
            Self::Connect { to, .. } | Self::TimedOut { to, .. } | Self::Ourselves { to, .. } => Some(*to),
            Self::Name { .. } | Self::Loop { .. } | Self::ClientGone { .. } => None,
        }
    }

    /// As a sentence of its own.
    pub fn sentence(&self) -> String {
        sentence(&self.to_string())
    }
}

/// With a capital and a full stop; what may be a host stays as it is.
pub(crate) fn sentence(text: &str) -> String {
    let mut text = format!("{text}.");
    let is_word = text.split(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    if let Some(first) = text.get_mut(..1).filter(|_| is_word) {
        first.make_ascii_uppercase();
    }
    text
}

/// Connects to the first address of `asked` that takes the connection. `gone` ends it: the client has gone.
///
/// # Errors
/// See [`Error`].
pub async fn reach<'a>(
    forward: &Forward,
    via: Via,
    asked: &Authority,
    steering: &'a dyn Steering,
    gone: impl Future<Output = ()>,
) -> Result<Reached<'a>, Error> {
    let deadline = Instant::now() + forward.patience;
    tokio::select! {
        biased;
        reached = by_deadline(forward, via, asked, steering, deadline) => reached,
        () = gone => Err(Error::ClientGone { asked: asked.clone() }),
    }
}

async fn by_deadline<'a>(
    forward: &Forward,
    via: Via,
    asked: &Authority,
    steering: &'a dyn Steering,
    deadline: Instant,
) -> Result<Reached<'a>, Error> {
    let addresses = match &asked.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => {
            let found = timeout_at(deadline, forward.names.lookup(name)).await;
            let found = found.unwrap_or(Err(names::Error::TimedOut));
            found.map_err(|source| Error::Name { name: name.clone(), source })?
        }
    };
    let mut last = Error::Name { name: asked.host.to_string(), source: names::Error::NoAddress };
    let count = addresses.len().min(ADDRESSES);
    for (index, address) in addresses.into_iter().take(ADDRESSES).enumerate() {
        let to = SocketAddr::new(address, asked.port);
        let destination = match steering.onward(forward, via, to) {
            Ok(destination) => destination,
            Err(OurOwn) => {
                last = Error::Loop { asked: asked.clone() };
                continue;
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = if index + 1 == count { left } else { left.min(ATTEMPT) };
        let dialled = timeout(limit, dial::dial_until(&destination, steering, std::future::pending())).await;
        let error = match dialled {
            Ok(Ok(upstream)) => return Ok(Reached { upstream, destination }),
            Ok(Err(dial::Error::Connect { to, source })) => Error::Connect { asked: asked.clone(), to, source },
            Ok(Err(dial::Error::Ourselves { to, source })) => Error::Ourselves { to, source },
            Ok(Err(dial::Error::ClientGone)) => Error::ClientGone { asked: asked.clone() },
            Err(_) => Error::TimedOut { asked: asked.clone(), to },
        };
        steering.failed(&destination);
        last = error;
    }
    Err(last)
}
