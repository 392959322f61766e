//! The listeners that a pod's application or its callers were told of: the forward proxy, and reverse proxies before the
//! application's ports. All of one pod are one group of the data plane; what each is for can change while they are
//! served.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use nodetap_core::exchange::{Connection, Direction, Target, Via};
use nodetap_proxy::forward::names::Names;
use nodetap_proxy::sockets::Sockets;
use nodetap_proxy::steering::{
    Arrival, Destination, Explicit, Forward, Listener, OurOwn, Route, Serves, Steering, Stray,
};
use nodetap_proxy::tls::Policy;
use socket2::{Domain, SockAddr, Socket, Type};

use super::left_alone::LeftAlone;
use super::stats::Stats;

/// How long a destination of the forward proxy may take to be resolved and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a listener of ours may take to answer us.
const ANSWER: Duration = Duration::from_millis(500);
/// A connection of our own, which is to find out whether somebody answers.
const SELF_TEST: &str = "self_test";

/// What the listeners of one pod go by.
#[derive(Debug)]
pub(super) struct PodSteering {
    explicit: RwLock<Arc<Explicit>>,
    sockets: Arc<dyn Sockets>,
    stats: Arc<Stats>,
    /// The application's, where that is known.
    container: RwLock<Option<Arc<str>>>,
    alone: RwLock<Arc<LeftAlone>>,
    /// Addresses from which we test ourselves.
    tests: Mutex<HashSet<SocketAddr>>,
}

/// What is done with TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub out: Policy,
    pub inbound: Policy,
}

impl PodSteering {
    pub(super) fn new(
        target: Arc<Target>,
        root: &std::path::Path,
        sockets: Arc<dyn Sockets>,
        tls: Tls,
        alone: Arc<LeftAlone>,
        stats: Arc<Stats>,
    ) -> Self {
        let explicit = Explicit {
            listeners: Vec::new(),
            target,
            sockets: Arc::clone(&sockets),
            names: Arc::new(Names::beneath(root).through(Arc::clone(&sockets))),
            patience: PATIENCE,
            instance: format!("{:08x}", crate::capture::random() & 0xffff_ffff).into(),
            tls_out: tls.out,
            tls_in: tls.inbound,
        };
        let (explicit, container) = (RwLock::new(Arc::new(explicit)), RwLock::default());
        Self { explicit, sockets, stats, container, alone: RwLock::new(alone), tests: Mutex::default() }
    }

    /// What the listeners are for from now on, in their order, and whose port is behind them.
    pub(super) fn set_listeners(&self, listeners: Vec<Listener>, container: Option<Arc<str>>) {
        self.change(|explicit| Explicit { listeners, ..explicit });
        *self.container.write().unwrap_or_else(PoisonError::into_inner) = container;
    }

    /// Who the pod is called and how TLS is treated, from now on.
    pub(super) fn set(&self, target: Arc<Target>, tls: Tls) {
        self.change(|explicit| Explicit { target, tls_out: tls.out, tls_in: tls.inbound, ..explicit });
    }

    /// What is left alone from now on.
    pub(super) fn leave_alone(&self, alone: Arc<LeftAlone>) {
        *self.alone.write().unwrap_or_else(PoisonError::into_inner) = alone;
    }

    /// Names are resolved as whoever has this root directory does.
    pub(super) fn set_root(&self, root: &std::path::Path) {
        let names = Arc::new(Names::beneath(root).through(Arc::clone(&self.sockets)));
        self.change(|explicit| Explicit { names, ..explicit });
    }

    fn change(&self, change: impl FnOnce(Explicit) -> Explicit) {
        let mut explicit = self.explicit.write().unwrap_or_else(PoisonError::into_inner);
        *explicit = Arc::new(change(Explicit::clone(&explicit)));
    }

    fn explicit(&self) -> Arc<Explicit> {
        Arc::clone(&self.explicit.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tests(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.tests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, connection: Connection) -> Connection {
        let container = self.container.read().unwrap_or_else(PoisonError::into_inner).clone();
        Connection { container, ..connection }
    }

    /// Does the listener at `address` answer, and is it the data plane that does? Waits for an answer, but not long.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn test(&self, address: SocketAddr) -> io::Result<()> {
        let socket: Socket = self.sockets.make(Domain::for_address(address), Type::STREAM)?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(ANSWER))?;
        // From the same address: the kernel would choose it anyway.
        socket.bind(&SockAddr::from(SocketAddr::new(address.ip(), 0)))?;
        let own = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        self.tests().insert(own);
        let answer = socket.connect_timeout(&address.into(), ANSWER).and_then(|()| {
            let mut byte = [std::mem::MaybeUninit::uninit(); 1];
            socket.recv(&mut byte).and_then(|_| Err(io::Error::other("somebody else answers")))
        });
        // The data plane knows who asks, and resets the connection; where nobody listens it is refused.
        let answer = match answer {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other,
        };
        self.tests().remove(&own);
        answer
    }
}

impl Steering for PodSteering {
    fn destination(&self, arrival: &Arrival) -> Result<Destination, Stray> {
        let destination = self.explicit().destination(arrival)?;
        let connection = Arc::new(self.named(Connection::clone(&destination.connection)));
        Ok(Destination { connection, ..destination })
    }

    fn route(&self, arrival: &Arrival) -> Result<Route, Stray> {
        if self.tests().contains(&arrival.client) {
            return Err(Stray(SELF_TEST));
        }
        let explicit = self.explicit();
        match explicit.listeners.get(arrival.listener).map(|listener| listener.serves) {
            Some(Serves::Reverse(_)) => {
                let destination = self.destination(arrival)?;
                self.stats.explicit(Direction::Inbound, self.ignores(&destination.connection));
                Ok(Route::To(destination))
            }
            Some(Serves::Forward) => explicit.route(arrival).map(|route| match route {
                Route::Forward(mut forward) => {
                    forward.connection = self.named(forward.connection);
                    Route::Forward(forward)
                }
                other => other,
            }),
            None => Err(Stray("no_upstream")),
        }
    }

    fn onward(&self, forward: &Forward, via: Via, to: SocketAddr) -> Result<Destination, OurOwn> {
        let destination = self.explicit().onward(forward, via, to)?;
        // What is not recorded is not opened either: its client would see our certificate for nothing.
        let tls = if self.ignores(&destination.connection) { Policy::Untouched } else { destination.tls };
        Ok(Destination { tls, ..destination })
    }

    fn ignores(&self, connection: &Connection) -> bool {
        self.alone.read().unwrap_or_else(PoisonError::into_inner).covers(connection)
    }

    fn settled(&self, ignored: bool) {
        self.stats.explicit(Direction::Outbound, ignored);
    }

    fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        self.sockets.make(Domain::for_address(to), Type::STREAM)
    }
}
