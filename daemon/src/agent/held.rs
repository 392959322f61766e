//! What we hold of one pod: its network namespace, the hooks on it, listeners in it and the connections that came there.
//! Each method does one step of a plan and says whether it worked; what is held is told as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nodetap_core::exchange::{Direction, Event, Target};
use nodetap_core::pod::observed::{Listener, Listening};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::sockets::Sockets;
use nodetap_proxy::steering::{Listener as Listens, Serves, Steering};

use super::explicit::{PodSteering, Tls};
use super::link::Link;
use super::stats::{Stats, TargetSink};
use super::steered::Steered;
use crate::capture::namespace::{Inside, Namespace};
use crate::capture::{self, Hooks, Ignore, Steer};
use crate::netns::Netns;

/// Connections that wait for accept(); the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What acts: one of each in a process.
#[derive(Debug)]
pub(super) struct Tools {
    pub engine: Engine,
    pub hooks: Option<Hooks>,
    pub link: Link,
    /// Connections of one pod at a time.
    pub connections: u64,
}

/// A pod's network namespace, for those who make something inside.
#[derive(Debug)]
struct Within(Netns);

impl Namespace for Within {
    fn file(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn cookie(&self) -> u64 {
        self.0.cookie()
    }

    fn enter(&self, work: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        self.0.enter(work)
    }
}

/// Everything of one pod.
#[derive(Debug)]
pub(super) struct Held {
    netns: Netns,
    sockets: Arc<dyn Sockets>,
    target: Arc<Target>,
    tls: Tls,
    stats: Arc<Stats>,
    sink: Arc<TargetSink>,
    steered: Option<HeldSteered>,
    attached: BTreeMap<String, capture::Attached>,
    steering: Steer,
    explicit: BTreeMap<Listener, HeldListener>,
    key: String,
}

/// The hooks, and the listeners that they steer to.
#[derive(Debug)]
struct HeldSteered {
    hooks: Arc<capture::Target>,
    steering: Arc<Steered>,
    served: Served,
}

/// A listener that somebody was told of.
#[derive(Debug)]
pub(super) struct HeldListener {
    served: Served,
    steering: Arc<PodSteering>,
    sink: Arc<Mutable>,
    pub addresses: BTreeSet<IpAddr>,
    pub app: Option<u16>,
    pub verified: bool,
    pub closed: bool,
    /// What the keeper knows its sockets by.
    names: Vec<String>,
}

impl HeldListener {
    pub(super) fn open(&self) -> u64 {
        self.served.open()
    }
}

/// A sink that can be told to take no more.
#[derive(Debug)]
struct Mutable {
    sink: Arc<TargetSink>,
    muted: AtomicBool,
}

impl Sink for Mutable {
    fn record(&self, event: Event) {
        if !self.muted.load(Ordering::Relaxed) {
            self.sink.record(event);
        }
    }

    fn lost(&self, reason: &'static str, exchanges: u64, bytes: u64) {
        self.sink.lost(reason, exchanges, bytes);
    }

    fn passed_through(&self, reason: &'static str) {
        self.sink.passed_through(reason);
    }

    fn wants_records(&self) -> bool {
        !self.muted.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Nothing yet, in this namespace. `key` begins the names that the keeper knows its sockets by.
    pub(super) fn new(netns: Netns, key: &str, target: Arc<Target>, tls: Tls, sink: TargetSink) -> Self {
        let sockets: Arc<dyn Sockets> = Arc::new(Inside(Arc::new(Within(netns.clone()))));
        let (stats, sink) = (Arc::clone(&sink.stats), Arc::new(sink));
        let key = format!("{key}/{}", netns.id().inode);
        Self {
            netns,
            sockets,
            target,
            tls,
            stats,
            sink,
            steered: None,
            attached: BTreeMap::new(),
            steering: Steer::default(),
            explicit: BTreeMap::new(),
            key,
        }
    }

    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(super) fn listeners(&self) -> &BTreeMap<Listener, HeldListener> {
        &self.explicit
    }

    /// Open connections of the steered listeners, if there are such listeners.
    pub(super) fn steered(&self) -> Option<u64> {
        self.steered.as_ref().map(|steered| steered.served.open())
    }

    pub(super) fn attached(&self) -> impl Iterator<Item = &String> {
        self.attached.keys()
    }

    pub(super) fn steering(&self) -> Steer {
        self.steering
    }

    /// Open connections.
    pub(super) fn open(&self) -> u64 {
        self.steered().unwrap_or(0) + self.explicit.values().map(HeldListener::open).sum::<u64>()
    }

    /// Where others listen in the namespace, with the control group of whoever made the socket; those of the captured
    /// containers.
    pub(super) fn listening(&self) -> Vec<capture::Listening> {
        self.steered.as_ref().map(|steered| steered.hooks.listening()).unwrap_or_default()
    }

    pub(super) fn hooks(&self) -> Option<&Arc<capture::Target>> {
        self.steered.as_ref().map(|steered| &steered.hooks)
    }

    /// Makes the hooks know the namespace, and listeners for what they steer. Nothing is steered yet.
    pub(super) fn open_steered(&mut self, tools: &Tools) -> Result<(), String> {
        if self.steered.is_some() {
            return Ok(());
        }
        let Some(hooks) = &tools.hooks else { return Err("the kernel programs are not loaded".into()) };
        let namespace: Arc<dyn Namespace> = Arc::new(Within(self.netns.clone()));
        let options = capture::Options::new(Arc::clone(&self.target));
        let mut target = hooks.target(namespace, options).map_err(|error| error.to_string())?;
        let steering = Arc::new(Steered::new(target.steering(), Arc::clone(&self.target), self.tls.clone()));
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Steering>,
            sink: Arc::clone(&self.sink) as Arc<dyn Sink>,
            limits: self.limits(tools),
        };
        let served = tools.engine.serve(target.take_listeners(), group).map_err(|error| error.to_string())?;
        target.record_to(Arc::clone(&self.sink) as Arc<dyn Sink>);
        let hooks = Arc::new(target);
        self.stats.follow(&hooks);
        self.steered = Some(HeldSteered { hooks, steering, served });
        Ok(())
    }

    fn limits(&self, tools: &Tools) -> GroupLimits {
        GroupLimits { connections: tools.connections, ..GroupLimits::default() }
    }

    /// Puts the hooks on a container.
    pub(super) fn attach(&mut self, container: &str, path: &Path) -> Result<(), String> {
        let Some(steered) = &self.steered else { return Err("the hooks do not know the pod yet".into()) };
        let attached = steered.hooks.attach(path).map_err(|error| error.to_string())?;
        self.attached.insert(container.to_owned(), attached);
        Ok(())
    }

    pub(super) fn detach(&mut self, container: &str) {
        self.attached.remove(container);
    }

    pub(super) fn steer(&mut self, steer: Steer) -> Result<(), String> {
        let Some(steered) = &self.steered else { return Ok(()) };
        steered.hooks.steer(steer).map_err(|error| error.to_string())?;
        self.steering = steer;
        Ok(())
    }

    /// What is left alone from now on.
    pub(super) fn ignore(&self, inbound: &Ignore, outbound: &Ignore) -> Result<(), String> {
        let Some(steered) = &self.steered else { return Ok(()) };
        let set = |direction, ignore| steered.hooks.ignore(direction, ignore).map_err(|error| error.to_string());
        set(Direction::Inbound, inbound)?;
        set(Direction::Outbound, outbound)
    }

    /// Who it is called and how its TLS is treated, from now on.
    pub(super) fn set(&mut self, target: Arc<Target>, tls: Tls) {
        if let Some(steered) = &self.steered {
            steered.steering.set(Arc::clone(&target), tls.clone());
        }
        for listener in self.explicit.values() {
            listener.steering.set_tls(tls.clone());
        }
        (self.target, self.tls) = (target, tls);
    }

    /// Listens for the application or its callers. What the keeper has of it is taken, with what waits there.
    pub(super) fn listen(
        &mut self,
        listener: Listener,
        leads: Leads,
        addresses: &BTreeSet<IpAddr>,
        root: &Path,
        tools: &mut Tools,
    ) -> Result<(), String> {
        let Some(port) = listener.port() else { return self.open_steered(tools) };
        let (mut sockets, mut names, mut listens) = (Vec::new(), Vec::new(), Vec::new());
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            let name = format!("{}/{address}", self.key);
            let kept = tools.link.take(&name);
            let socket: TcpListener = match kept {
                Some(socket) => socket,
                None => self.netns.listener(address, BACKLOG).map_err(|error| format!("{address}: {error}"))?,
            };
            tools.link.keep(&name, &socket);
            sockets.push(socket);
            names.push(name);
            listens.push(Listens { address, serves: leads.serves });
        }
        let steering = Arc::new(PodSteering::new(
            Arc::clone(&self.target),
            leads.container,
            root,
            Arc::clone(&self.sockets),
            self.tls.clone(),
            Arc::clone(&self.stats),
        ));
        steering.set_listeners(listens);
        let sink = Arc::new(Mutable { sink: Arc::clone(&self.sink), muted: AtomicBool::new(false) });
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Steering>,
            sink: Arc::clone(&sink) as Arc<dyn Sink>,
            limits: self.limits(tools),
        };
        let served = tools.engine.serve(sockets, group).map_err(|error| error.to_string())?;
        let (addresses, app) = (addresses.clone(), leads.app);
        let held =
            HeldListener { served, steering, sink, addresses, app, verified: false, closed: false, names };
        self.explicit.insert(listener, held);
        Ok(())
    }

    /// Leads a listener elsewhere from now on.
    pub(super) fn lead(&mut self, listener: Listener, leads: &Leads) {
        if let Some(held) = self.explicit.get_mut(&listener)
            && let Some(port) = listener.port()
        {
            let listens = held
                .addresses
                .iter()
                .map(|address| Listens { address: SocketAddr::new(*address, port), serves: leads.serves });
            held.steering.set_listeners(listens.collect());
            held.app = leads.app;
        }
    }

    /// Names are resolved as whoever has this root directory does, from now on.
    pub(super) fn set_root(&self, root: &Path) {
        self.explicit.values().for_each(|listener| listener.steering.set_root(root));
    }

    /// Asks a listener whether it answers.
    pub(super) fn verify(&mut self, listener: Listener) -> Result<(), String> {
        let Some(held) = self.explicit.get_mut(&listener) else { return Ok(()) };
        let Some(port) = listener.port() else { return Ok(()) };
        held.verified = false;
        for address in &held.addresses {
            let address = SocketAddr::new(*address, port);
            held.steering.test(address).map_err(|error| format!("nobody answers at {address}: {error}"))?;
        }
        held.verified = true;
        Ok(())
    }

    /// Records nothing more of what passes there, or does again.
    pub(super) fn mute(&mut self, listener: Listener, muted: bool) {
        if let Some(held) = self.explicit.get(&listener) {
            held.sink.muted.store(muted, Ordering::Relaxed);
        }
    }

    /// Accepts nothing more there; what is open goes on.
    pub(super) fn close(&mut self, listener: Listener, link: &Link) {
        if let Some(held) = self.explicit.get_mut(&listener) {
            held.served.close();
            held.closed = true;
            held.names.drain(..).for_each(|name| link.release(&name));
        }
    }

    /// Resets what is open there. Returns how many that were.
    pub(super) fn cut(&mut self, listener: Listener, link: &Link) -> u64 {
        self.close(listener, link);
        self.explicit.remove(&listener).map_or(0, |held| held.served.cut().cut)
    }

    /// Stops to steer, and takes the hooks and their listeners away. Returns how many connections were cut.
    pub(super) fn drop_steered(&mut self) -> u64 {
        // In this order: nothing new arrives, what is open ends, nobody asks the hooks any more.
        let _ = self.steer(Steer::default());
        self.attached.clear();
        let Some(HeldSteered { hooks, served, .. }) = self.steered.take() else { return 0 };
        let drained = served.cut();
        self.stats.keep(&hooks);
        drained.cut
    }

    /// Accepts nothing more and steers nothing more, for a successor: what is open goes on, and the keeper has the
    /// listening sockets.
    pub(super) fn let_go(&mut self) {
        let _ = self.steer(Steer::default());
        for held in self.explicit.values_mut() {
            held.served.close();
            held.closed = true;
            held.names.clear();
        }
    }

    /// What waits in the steered listeners' queues was served: they are closed, and the hooks make room for others.
    pub(super) fn close_steered(&mut self) {
        self.attached.clear();
        if let Some(steered) = &mut self.steered {
            steered.served.close();
        }
    }

    /// Everything is given up. Returns how many connections were cut.
    pub(super) fn give_up(mut self, link: &Link) -> u64 {
        let listeners: Vec<Listener> = self.explicit.keys().copied().collect();
        let cut: u64 = listeners.into_iter().map(|listener| self.cut(listener, link)).sum();
        cut + self.drop_steered()
    }
}

/// Where a listener leads.
#[derive(Debug, Clone)]
pub(super) struct Leads {
    pub serves: Serves,
    /// The application's port behind it.
    pub app: Option<u16>,
    pub container: Option<Arc<str>>,
}

/// Where the application can be reached at `port`: an address that it listens on, loopback before others.
pub(super) fn upstream(port: u16, listening: &BTreeSet<Listening>) -> SocketAddr {
    let at: Vec<IpAddr> = listening.iter().filter(|one| one.port == port).map(|one| one.address).collect();
    let v4 = IpAddr::from([127, 0, 0, 1]);
    let v6 = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    let any = |address: IpAddr| at.contains(&address);
    let address = if any(v4) || any(IpAddr::from([0, 0, 0, 0])) || any(std::net::Ipv6Addr::UNSPECIFIED.into()) {
        v4
    } else if any(v6) {
        v6
    } else {
        at.first().copied().unwrap_or(v4)
    };
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_reached_where_it_listens() {
        let at = |addresses: &[&str]| {
            let listening = addresses.iter().map(|address| Listening {
                address: address.parse().unwrap(),
                port: 80,
                container: None,
            });
            upstream(80, &listening.collect()).ip().to_string()
        };
        for (addresses, expected) in [
            (&[][..], "127.0.0.1"),
            (&["0.0.0.0"], "127.0.0.1"),
            (&["::"], "127.0.0.1"),
            (&["::1"], "::1"),
            (&["10.0.0.9"], "10.0.0.9"),
            (&["10.0.0.9", "127.0.0.1"], "127.0.0.1"),
        ] {
            assert_eq!(at(addresses), expected, "{addresses:?}");
        }
    }
}
