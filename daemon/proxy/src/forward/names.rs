//! Names of hosts, resolved as the target would resolve them: by its own `/etc/hosts` and `/etc/resolv.conf`, with their
//! search list, `ndots`, timeouts and attempts (hosts(5), resolv.conf(5)). The files are read beneath the target's root,
//! which no symbolic link in it leads out of, and again when they have changed. It refuses to know who asks.
//!
//! Nothing is cached: a target without a caching resolver has none with us either.
//!
//! The sockets to the name servers, and those that tell whether there is a route, are made by [`Sockets`]: where the
//! target's own are.

mod asking;
mod config;
mod wires;

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hickory_resolver::proto::rr::Name;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use asking::Asking;
use config::{Hosts, ResolvConf};
use socket2::{Domain, Type};

use crate::sockets::{Here, Sockets};

/// The most that is read of `/etc/resolv.conf`, in bytes.
const RESOLV_CONF: u64 = 64 * 1024;
/// The most that is read of `/etc/hosts`, in bytes.
const HOSTS: u64 = 4 * 1024 * 1024;
/// The port of name servers.
const DNS: u16 = 53;

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("no such host")]
    NoAddress,
    #[error("the name servers did not answer in time")]
    TimedOut,
    #[error("{0}")]
    Failed(String),
}

/// The names as one target sees them.
pub struct Names {
    root: PathBuf,
    port: u16,
    sockets: Arc<dyn Sockets>,
    seen: Mutex<Seen>,
}

/// What the files said when they were last read.
#[derive(Default)]
struct Seen {
    hosts: Option<(Stamp, Arc<Hosts>)>,
    asking: Option<(Option<Stamp>, Arc<Asking>)>,
}

/// A file has changed when one of these has: device, inode, size, and the two times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, (i64, i64), (i64, i64));

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Names {
    /// As whoever has this root directory sees them: `/`, or `/proc/<pid>/root`.
    pub fn beneath(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), port: DNS, sockets: Arc::new(Here), seen: Mutex::default() }
    }

    /// The same, asking the name servers through sockets that are made here.
    pub fn through(self, sockets: Arc<dyn Sockets>) -> Self {
        Self { sockets, ..self }
    }

    /// The same, asking the name servers on another port than 53.
    pub fn on_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The addresses of a host, at least one, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When it has none, or nobody knows.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let hosts = self.hosts();
        if let Some(found) = hosts.get(name) {
            return Ok(self.in_turn(found));
        }
        if is_localhost(name) {
            return Ok(self.in_turn(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]));
        }
        let asking = self.asking();
        // As the C library has it: names with an underscore are asked for like all others.
        let asked = Name::from_str_relaxed(name).map_err(|_| Error::NoAddress)?;
        Ok(self.in_turn(asking.addresses(&asked).await?))
    }

    /// `/etc/hosts` as it is now; an unreadable one counts as empty.
    fn hosts(&self) -> Arc<Hosts> {
        let opened = self.open("etc/hosts");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok((file, stamp)) => match &seen.hosts {
                Some((then, hosts)) if *then == stamp => Arc::clone(hosts),
                _ => {
                    let hosts = Arc::new(Hosts::parse(&read(file, HOSTS).unwrap_or_default()));
                    seen.hosts = Some((stamp, Arc::clone(&hosts)));
                    hosts
                }
            },
            Err(error) => {
                tracing::debug!(%error, root = %self.root.display(), "no hosts file");
                Arc::default()
            }
        }
    }

    /// Whom `/etc/resolv.conf` says to ask now; without one, this host.
    fn asking(&self) -> Arc<Asking> {
        let opened = self.open("etc/resolv.conf").ok();
        let stamp = opened.as_ref().map(|(_, stamp)| *stamp);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, asking)) = &seen.asking
            && *then == stamp
        {
            return Arc::clone(asking);
        }
        let text = opened.and_then(|(file, _)| read(file, RESOLV_CONF).ok()).unwrap_or_default();
        let asking = Arc::new(Asking::new(&ResolvConf::parse(&text), self.port, &self.sockets));
        seen.asking = Some((stamp, Arc::clone(&asking)));
        asking
    }

    /// Those that the target has a route to before the others (RFC 6724 §6, rule 1), the families in turn (RFC 8305 §4),
    /// each address once.
    fn in_turn(&self, mut found: Vec<IpAddr>) -> Vec<IpAddr> {
        let mut once = std::collections::HashSet::new();
        found.retain(|address| once.insert(*address));
        let (v6, v4): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv6);
        // One family alone comes as it is, whether it can be reached or not.
        let v4_first = match (v6.first(), v4.first()) {
            (Some(v6), Some(v4)) => !has_route(&*self.sockets, *v6) && has_route(&*self.sockets, *v4),
            _ => false,
        };
        let (mut ahead, mut behind) =
            if v4_first { (v4.into_iter(), v6.into_iter()) } else { (v6.into_iter(), v4.into_iter()) };
        let mut turn = Vec::new();
        loop {
            match (ahead.next(), behind.next()) {
                (None, None) => return turn,
                pair => turn.extend(pair.0.into_iter().chain(pair.1)),
            }
        }
    }

    /// Opens a regular file beneath the root. The root itself may be a magic link (`/proc/<pid>/root`), nothing below.
    fn open(&self, path: &str) -> io::Result<(File, Stamp)> {
        let root = open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Without NONBLOCK a pipe in its place would be waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let beneath = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(root, path, flags, Mode::empty(), beneath)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other(format!("{path} is no regular file")));
        }
        let times =
            ((stat.st_mtime, nanoseconds(stat.st_mtime_nsec)), (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)));
        Ok((File::from(file), Stamp(stat.st_dev, stat.st_ino, stat.st_size, times.0, times.1)))
    }
}

/// A datagram socket that is connected sends nothing, and fails without a route.
fn has_route(sockets: &dyn Sockets, to: IpAddr) -> bool {
    let to = SocketAddr::new(to, DNS);
    let socket = sockets.make(Domain::for_address(to), Type::DGRAM);
    socket.and_then(|socket| socket.connect(&to.into())).is_ok()
}

fn nanoseconds(nanoseconds: impl TryInto<i64>) -> i64 {
    nanoseconds.try_into().unwrap_or(0)
}

fn read(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// RFC 6761 §6.3.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
