//! What we hold of one pod: its network namespace, the hooks on it, listeners in it and the connections that came there.
//! Each method does one step of a plan and says whether it worked; what is held is told as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nodetap_core::exchange::{Direction, Event, Target};
use nodetap_core::pod::config::Config;
use nodetap_core::pod::observed::{self, Listener, Listening, Millis, NamespaceId, Open, Steering};
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Served};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::sockets::Sockets;
use nodetap_proxy::steering::{Listener as Listens, Serves, Steering as Brings};
use nodetap_proxy::tls::Policy;

use super::explicit::{PodSteering, Tls};
use super::left_alone::LeftAlone;
use super::link::Link;
use super::stats::{Stats, TargetSink};
use super::steered::Steered;
use crate::capture::namespace::{Inside, Namespace};
use crate::capture::{self, Hooks, POD_PACE, Reset, Steer};
use crate::netns::Netns;

/// For so long nothing happened on a connection that may be closed because it is older than the hooks.
const IDLE: Duration = Duration::from_secs(2);

/// Connections that wait for accept(); the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What acts: one of each in a process.
#[derive(Debug)]
pub(super) struct Tools {
    pub engine: Engine,
    pub hooks: Option<Hooks>,
    pub link: Link,
    /// Connections of one group of listeners of a pod at a time.
    pub connections: u64,
    /// Bytes that the taps of such a group keep together of what is open; its records say what that cost.
    pub kept: usize,
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
    alone: Arc<LeftAlone>,
    stats: Arc<Stats>,
    sink: Arc<TargetSink>,
    /// The root directory of the pod's programs: how names are resolved stands there.
    root: PathBuf,
    hooks: Option<HeldHooks>,
    steered: Option<Mark>,
    attached: BTreeMap<String, capture::Attached>,
    steering: Steer,
    explicit: BTreeMap<Listener, HeldListener>,
    config: Option<Box<Config>>,
    older_closed: bool,
    uid: String,
}

/// The hooks, and the listeners that they steer to. They are there as soon as anything is attached; they count as open
/// when something is to be steered.
#[derive(Debug)]
struct HeldHooks {
    hooks: Arc<capture::Target>,
    steering: Arc<Steered>,
    served: Served,
    sink: Arc<Mutable>,
}

/// What is told of a listener.
#[derive(Debug, Clone, Default)]
struct Mark {
    addresses: BTreeSet<IpAddr>,
    app: Option<u16>,
    verified: bool,
    retired: Option<Millis>,
    closed: bool,
}

/// A listener that somebody was told of.
#[derive(Debug)]
struct HeldListener {
    mark: Mark,
    parts: Vec<Part>,
}

/// Some of its addresses: those that were bound together.
#[derive(Debug)]
struct Part {
    addresses: BTreeSet<IpAddr>,
    served: Served,
    steering: Arc<PodSteering>,
    sink: Arc<Mutable>,
    /// What the keeper knows its sockets by.
    names: Vec<String>,
}

impl HeldListener {
    fn open(&self) -> u64 {
        self.parts.iter().map(|part| part.served.open()).sum()
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
    /// Nothing yet, in this namespace. `uid` is the pod's.
    pub(super) fn new(netns: Netns, uid: &str, root: PathBuf, target: Arc<Target>, tls: Tls, sink: TargetSink) -> Self {
        let sockets: Arc<dyn Sockets> = Arc::new(Inside(Arc::new(Within(netns.clone()))));
        let (stats, sink) = (Arc::clone(&sink.stats), Arc::new(sink));
        Self {
            netns,
            sockets,
            target,
            tls,
            alone: Arc::default(),
            stats,
            sink,
            root,
            hooks: None,
            steered: None,
            attached: BTreeMap::new(),
            steering: Steer::default(),
            explicit: BTreeMap::new(),
            config: None,
            older_closed: false,
            uid: uid.to_owned(),
        }
    }

    /// As it is, for a plan.
    pub(super) fn observe(&self) -> observed::Held {
        let id = self.netns.id();
        let told = |mark: &Mark, connections| Open {
            addresses: mark.addresses.clone(),
            app: mark.app,
            verified: mark.verified,
            retired: mark.retired,
            closed: mark.closed,
            connections,
        };
        let explicit = self.explicit.iter().map(|(listener, held)| (*listener, told(&held.mark, held.open())));
        let open = self.hooks.as_ref().map_or(0, |hooks| hooks.served.open());
        let steered = self.steered.iter().map(|mark| (Listener::Steered, told(mark, open)));
        observed::Held {
            namespace: NamespaceId { device: id.device, inode: id.inode },
            listeners: explicit.chain(steered).collect(),
            attached: self.attached.keys().cloned().collect(),
            config: self.config.clone(),
            steering: Steering { inbound: self.steering.inbound, outbound: self.steering.outbound },
            older_closed: self.older_closed,
        }
    }

    /// The hooks, once there are some.
    pub(super) fn hooks(&self) -> Option<&Arc<capture::Target>> {
        self.hooks.as_ref().map(|hooks| &hooks.hooks)
    }

    /// Open connections.
    pub(super) fn open(&self) -> u64 {
        let steered = self.hooks.as_ref().map_or(0, |hooks| hooks.served.open());
        steered + self.explicit.values().map(HeldListener::open).sum::<u64>()
    }

    /// Is this one of our own listeners?
    pub(super) fn is_ours(&self, address: SocketAddr) -> bool {
        let is = |(listener, held): (&Listener, &HeldListener)| {
            listener.port() == Some(address.port()) && held.mark.addresses.contains(&address.ip())
        };
        self.explicit.iter().any(is)
    }

    /// Makes the hooks know the namespace, and listeners for what they might steer. Nothing is steered yet.
    fn hook(&mut self, tools: &Tools) -> Result<&HeldHooks, String> {
        let hooked = match self.hooks.take() {
            Some(hooked) => hooked,
            None => self.new_hooks(tools)?,
        };
        Ok(self.hooks.insert(hooked))
    }

    fn new_hooks(&self, tools: &Tools) -> Result<HeldHooks, String> {
        let Some(hooks) = &tools.hooks else { return Err("the kernel programs are not loaded".into()) };
        let namespace: Arc<dyn Namespace> = Arc::new(Within(self.netns.clone()));
        let options = capture::Options { target: Arc::clone(&self.target), tls: Policy::Untouched, pace: POD_PACE };
        let mut target = hooks.target(namespace, options).map_err(|error| error.to_string())?;
        let steering = Arc::new(Steered::new(target.steering(), Arc::clone(&self.target), self.tls.clone()));
        let sink = self.mutable();
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Brings>,
            sink: Arc::clone(&sink) as Arc<dyn Sink>,
            limits: limits(tools),
        };
        let served = tools.engine.serve(target.take_listeners(), group).map_err(|error| error.to_string())?;
        target.record_to(Arc::clone(&sink) as Arc<dyn Sink>);
        let hooks = Arc::new(target);
        self.stats.follow(&hooks);
        Ok(HeldHooks { hooks, steering, served, sink })
    }

    fn mutable(&self) -> Arc<Mutable> {
        Arc::new(Mutable { sink: Arc::clone(&self.sink), muted: AtomicBool::new(false) })
    }

    /// Puts the hooks on a container.
    pub(super) fn attach(&mut self, container: &str, path: &Path, tools: &Tools) -> Result<(), String> {
        let hooked = self.hook(tools)?;
        let attached = hooked.hooks.attach(path).map_err(|error| error.to_string())?;
        self.attached.insert(container.to_owned(), attached);
        self.older_closed = false;
        Ok(())
    }

    pub(super) fn detach(&mut self, container: &str) {
        self.attached.remove(container);
    }

    pub(super) fn steer(&mut self, steering: Steering, loopback: bool, tools: &Tools) -> Result<(), String> {
        let steer = Steer { inbound: steering.inbound, outbound: steering.outbound, loopback };
        if self.hooks.is_none() && !steering.any() {
            return Ok(());
        }
        self.hook(tools)?.hooks.steer(steer).map_err(|error| error.to_string())?;
        self.steering = steer;
        Ok(())
    }

    /// Puts a configuration in force: what is left alone, who it is called, how its TLS is treated.
    pub(super) fn set(&mut self, config: Box<Config>, rules: Rules, tools: &Tools) -> Result<(), String> {
        self.ignore(&rules, tools)?;
        let Rules { target, tls, .. } = rules;
        if let Some(hooked) = &self.hooks {
            hooked.steering.set(Arc::clone(&target), tls.clone());
        }
        for part in self.explicit.values().flat_map(|listener| &listener.parts) {
            part.steering.set(Arc::clone(&target), tls.clone());
        }
        (self.target, self.tls) = (target, tls);
        if self.steering.loopback != config.track_loopback && (self.steering.inbound || self.steering.outbound) {
            let Steer { inbound, outbound, .. } = self.steering;
            self.steer(Steering { inbound, outbound }, config.track_loopback, tools)?;
        }
        self.config = Some(config);
        Ok(())
    }

    /// What is in force is to be put in force anew.
    pub(super) fn unset(&mut self) {
        self.config = None;
    }

    /// What is left alone from now on.
    pub(super) fn ignore(&mut self, rules: &Rules, tools: &Tools) -> Result<(), String> {
        self.leave_alone(&rules.alone);
        let ignoring = self.hook(tools)?.hooks.ignoring();
        let set = |direction, ignore| ignoring.set(direction, ignore).map_err(|error| error.to_string());
        set(Direction::Inbound, &rules.alone.inbound)?;
        set(Direction::Outbound, &rules.alone.outbound)
    }

    /// The same of what comes to listeners that somebody was told of; those that are bound later keep to it from their
    /// first connection on.
    pub(super) fn leave_alone(&mut self, alone: &LeftAlone) {
        if *self.alone != *alone {
            self.alone = Arc::new(alone.clone());
            let parts = self.explicit.values().flat_map(|listener| &listener.parts);
            parts.for_each(|part| part.steering.leave_alone(Arc::clone(&self.alone)));
        }
    }

    /// Listens for what is steered, or for the application or its callers: what the keeper has of that is taken, with what
    /// waits there.
    pub(super) fn listen(
        &mut self,
        listener: Listener,
        leads: &Leads,
        addresses: &BTreeSet<IpAddr>,
        tools: &mut Tools,
    ) -> Result<(), String> {
        let Some(port) = listener.port() else {
            let sink = &self.hook(tools)?.sink;
            sink.muted.store(false, Ordering::Relaxed);
            self.steered = Some(Mark { verified: true, ..Mark::default() });
            return Ok(());
        };
        let part = self.bind(port, leads, addresses, tools)?;
        let held =
            self.explicit.entry(listener).or_insert_with(|| HeldListener { mark: Mark::default(), parts: vec![] });
        // What was closed before only ends.
        let before = if held.mark.closed { BTreeSet::new() } else { std::mem::take(&mut held.mark.addresses) };
        let addresses = before.into_iter().chain(addresses.iter().copied()).collect();
        held.mark = Mark { addresses, app: leads.app, ..Mark::default() };
        held.parts.push(part);
        self.verify(listener)
    }

    fn bind(&self, port: u16, leads: &Leads, addresses: &BTreeSet<IpAddr>, tools: &mut Tools) -> Result<Part, String> {
        let (mut sockets, mut names, mut listens) = (Vec::new(), Vec::new(), Vec::new());
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            let name = kept_name(&self.uid, &self.netns, address);
            let socket: TcpListener = match tools.link.take(&name) {
                Some(socket) => socket,
                None => self.netns.listener(address, BACKLOG).map_err(|error| format!("{address}: {error}"))?,
            };
            sockets.push(socket);
            names.push(name);
            listens.push(Listens { address, serves: leads.serves });
        }
        // All of them or none: only now are they told of.
        names.iter().zip(&sockets).for_each(|(name, socket)| tools.link.keep(name, socket));
        let steering = PodSteering::new(
            Arc::clone(&self.target),
            &self.root,
            Arc::clone(&self.sockets),
            self.tls.clone(),
            Arc::clone(&self.alone),
            Arc::clone(&self.stats),
        );
        let (steering, sink) = (Arc::new(steering), self.mutable());
        steering.set_listeners(listens, leads.container.clone());
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Brings>,
            sink: Arc::clone(&sink) as Arc<dyn Sink>,
            limits: limits(tools),
        };
        let served = tools.engine.serve(sockets, group).map_err(|error| error.to_string())?;
        Ok(Part { addresses: addresses.clone(), served, steering, sink, names })
    }

    /// Leads a listener elsewhere from now on.
    pub(super) fn point(&mut self, listener: Listener, leads: &Leads) {
        let (Some(held), Some(port)) = (self.explicit.get_mut(&listener), listener.port()) else { return };
        for part in &held.parts {
            let listens =
                part.addresses.iter().map(|ip| Listens { address: SocketAddr::new(*ip, port), serves: leads.serves });
            part.steering.set_listeners(listens.collect(), leads.container.clone());
        }
        held.mark.app = leads.app;
    }

    /// Names are resolved as whoever has this root directory does, from now on.
    pub(super) fn set_root(&mut self, root: PathBuf) {
        if self.root != root {
            self.explicit.values().flat_map(|held| &held.parts).for_each(|part| part.steering.set_root(&root));
            self.root = root;
        }
    }

    /// Asks a listener whether it answers.
    pub(super) fn verify(&mut self, listener: Listener) -> Result<(), String> {
        let (Some(held), Some(port)) = (self.explicit.get_mut(&listener), listener.port()) else { return Ok(()) };
        held.mark.verified = false;
        for part in held.parts.iter().filter(|part| !part.names.is_empty()) {
            for address in &part.addresses {
                let address = SocketAddr::new(*address, port);
                part.steering.test(address).map_err(|error| format!("nobody answers at {address}: {error}"))?;
            }
        }
        held.mark.verified = true;
        Ok(())
    }

    /// What was verified a while ago has to be again.
    pub(super) fn doubt(&mut self) {
        self.explicit.values_mut().for_each(|held| held.mark.verified = false);
    }

    /// Closes idle connections that are older than the hooks; the others stay until they are idle, and are counted.
    pub(super) fn close_older(&mut self) -> Result<(), String> {
        if let Some(hooked) = &self.hooks {
            let Reset { ended, busy } = hooked.hooks.close_older(IDLE).map_err(|error| error.to_string())?;
            if ended > 0 {
                tracing::info!(pod = %self.target.name, ended, busy, "connections older than the capture");
            }
        }
        self.older_closed = true;
        Ok(())
    }

    fn mute(&mut self, listener: Listener, retired: Option<Millis>) {
        let muted = retired.is_some();
        if listener == Listener::Steered {
            if let (Some(hooked), Some(mark)) = (&self.hooks, &mut self.steered) {
                hooked.sink.muted.store(muted, Ordering::Relaxed);
                mark.retired = retired;
            }
        } else if let Some(held) = self.explicit.get_mut(&listener) {
            held.parts.iter().for_each(|part| part.sink.muted.store(muted, Ordering::Relaxed));
            held.mark.retired = retired;
        }
    }

    /// Records nothing more of what passes there.
    pub(super) fn retire(&mut self, listener: Listener, now: Millis) {
        self.mute(listener, Some(now));
    }

    /// Records what passes there again.
    pub(super) fn revive(&mut self, listener: Listener) {
        self.mute(listener, None);
    }

    /// Accepts nothing more there; what is open goes on.
    pub(super) fn close(&mut self, listener: Listener, link: &Link) {
        let Some(held) = self.explicit.get_mut(&listener) else { return };
        for part in &mut held.parts {
            part.served.close();
            part.names.drain(..).for_each(|name| link.release(&name));
        }
        held.mark.closed = true;
    }

    /// Closes it and resets what is open there. Returns how many that were. What is steered ends by itself, or with the
    /// hooks.
    pub(super) fn end(&mut self, listener: Listener, link: &Link) -> u64 {
        if listener == Listener::Steered {
            self.steered = None;
            return 0;
        }
        self.close(listener, link);
        let parts = self.explicit.remove(&listener).map(|held| held.parts).unwrap_or_default();
        parts.into_iter().map(|part| part.served.cut().cut).sum()
    }

    /// Accepts nothing more and steers nothing more, for a successor: what is open goes on, and the keeper has the
    /// listening sockets.
    pub(super) fn let_go(&mut self) {
        if let Some(hooked) = &self.hooks {
            // What is not taken back now is with the end of this process.
            let _ = hooked.hooks.steer(Steer::default());
        }
        for part in self.explicit.values_mut().flat_map(|held| &mut held.parts) {
            part.served.close();
            part.names.clear();
        }
    }

    /// The hooks go too, so that a successor can put its own there: what waited in the queues of the steered listeners was
    /// accepted meanwhile.
    pub(super) fn unhook(&mut self) {
        self.attached.clear();
        if let Some(hooked) = &mut self.hooks {
            hooked.served.close();
        }
    }

    /// Everything is given up. Returns how many connections were cut.
    pub(super) fn leave(mut self, link: &Link) -> u64 {
        let listeners: Vec<Listener> = self.explicit.keys().copied().collect();
        let mut cut: u64 = listeners.into_iter().map(|listener| self.end(listener, link)).sum();
        // In this order: nothing new arrives, what is open ends, nobody asks the hooks any more.
        if let Some(HeldHooks { hooks, served, .. }) = self.hooks.take() {
            let _ = hooks.steer(Steer::default());
            self.attached.clear();
            cut += served.cut().cut;
            self.stats.keep(&hooks);
        }
        cut
    }
}

/// By what the keeper knows a listening socket of a pod.
pub(super) fn kept_name(uid: &str, netns: &Netns, address: SocketAddr) -> String {
    format!("{uid}/{}/{address}", netns.id().inode)
}

fn limits(tools: &Tools) -> GroupLimits {
    GroupLimits { connections: tools.connections, kept: tools.kept }
}

/// What a configuration comes to on this node.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub target: Arc<Target>,
    pub tls: Tls,
    pub alone: LeftAlone,
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
