//! Network namespaces: which one is it, and what is made inside it. A thread is in a foreign one for the length of a
//! closure only; sockets keep the namespace that they were made in, so that is enough. It refuses to know whose
//! namespace it is.

pub mod cookie;
mod enter;

use std::fmt::{self, Debug, Display, Formatter};
use std::fs::{File, Metadata};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::netlink;

/// Why a network namespace cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot open the network namespace {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot enter the network namespace {path}: {source}")]
    Enter { path: PathBuf, source: io::Error },
}

impl Error {
    /// Is the process gone that the namespace was to be that of?
    pub fn is_gone(&self) -> bool {
        // ESRCH: it ended while its entry in /proc was read.
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound
            || source.raw_os_error() == Some(libc::ESRCH))
    }
}

/// What tells one namespace from another for as long as either is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub device: u64,
    pub inode: u64,
}

impl Id {
    /// Of the file that stands for a namespace, such as `/proc/PID/ns/net`, without opening it.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at (CAP_SYS_PTRACE).
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Id {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// A network namespace, held open: it exists for as long as this does, even when its pod is gone.
#[derive(Clone)]
pub struct Netns(Arc<Held>);

struct Held {
    file: File,
    id: Id,
    cookie: u64,
}

impl Netns {
    /// Opens one by the file that stands for it: `/proc/PID/ns/net`, `/run/netns/NAME`.
    ///
    /// # Errors
    /// When there is none, or it may not be entered (CAP_SYS_ADMIN).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, Id::from(&metadata))));
        let (file, id) = opened.map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let cookie = enter::within(file.as_fd(), cookie::here)
            .map_err(|source| Error::Enter { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(Held { file, id, cookie })))
    }

    /// The one that this thread is in.
    ///
    /// # Errors
    /// When it may not be entered again.
    pub fn current() -> Result<Self, Error> {
        Self::open(enter::CURRENT)
    }

    pub fn id(&self) -> Id {
        self.0.id
    }

    /// See [`cookie::here`].
    pub fn cookie(&self) -> u64 {
        self.0.cookie
    }

    /// Runs the closure inside, on this thread, and comes back, also from a panic. The closure must be short and must
    /// not wait. Where the way back is barred the process ends: a thread in the wrong namespace would be worse.
    ///
    /// # Errors
    /// When it cannot be entered, and those of the closure.
    pub fn enter<T>(&self, inside: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        enter::within(self.as_fd(), inside)
    }

    /// Its addresses, but for those of loopback, which are the same everywhere.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        self.enter(netlink::addresses::read)
    }

    /// A TCP socket that connects from here.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn socket(&self, family: Domain) -> io::Result<Socket> {
        self.enter(|| Socket::new(family, Type::STREAM, Some(Protocol::TCP)))
    }

    /// A listener on one of its addresses. IPv6 is only that. Nobody else can join it (no SO_REUSEPORT).
    ///
    /// # Errors
    /// What the kernel answers; `AddrInUse` when somebody listens there.
    pub fn listener(&self, address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
        let socket = self.socket(Domain::for_address(address))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.0.cookie == other.0.cookie
    }
}

impl Eq for Netns {}

impl Hash for Netns {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.cookie.hash(state);
    }
}

impl Debug for Netns {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netns").field("id", &self.0.id).field("cookie", &self.0.cookie).finish()
    }
}

/// The namespaces that belong to no pod: the node's, and the one that we are in. Nothing may be captured in them.
#[derive(Debug, Clone)]
pub struct Hosts(Vec<Id>);

impl Hosts {
    /// The node's as this `/proc` shows it (its process 1), and our own.
    ///
    /// # Errors
    /// When process 1 may not be looked at, and we do not share its network: then nobody could tell a pod from the node.
    pub fn of(proc: &Path) -> Result<Self, Error> {
        let id = |path: PathBuf| Id::of(&path).map_err(|source| Error::Open { path, source });
        let own = id(PathBuf::from(enter::CURRENT))?;
        match id(proc.join("1/ns/net")) {
            Ok(node) => Ok(Self(vec![node, own])),
            Err(_) if shares_network(proc) => Ok(Self(vec![own])),
            Err(error) => Err(error),
        }
    }

    pub fn has(&self, id: Id) -> bool {
        self.0.contains(&id)
    }
}

/// Are we in the network namespace of process 1? The files of `PID/net` are those of one namespace, and may be looked at
/// without CAP_SYS_PTRACE.
fn shares_network(proc: &Path) -> bool {
    let devices = |process: &str| Id::of(&proc.join(process).join("net/dev")).ok();
    devices("1").is_some_and(|node| devices("self") == Some(node))
}
