//! What we hold of one pod: its network namespace, the hooks on it, listeners in it and the connections that came there.
//! Each method does one step of a plan and says whether it worked; what is held is told as it is.

mod fallback;
mod hooked;
mod listener;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nodetap_core::exchange::{Direction, Event, Target};
use nodetap_core::pod::config::Config;
use nodetap_core::pod::observed::{self, Listener, NamespaceId, Open, Steering};
use nodetap_proxy::engine::{Engine, GroupLimits};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::sockets::Sockets;

use self::fallback::HeldFallback;
use self::hooked::HeldHooks;
use self::listener::{HeldListener, Mark};
use super::explicit::Tls;
use super::left_alone::LeftAlone;
use super::link::Link;
use super::stats::{Stats, TargetSink};
use crate::capture::namespace::Inside;
use crate::capture::{self, Hooks, Pins, Steer};
use crate::netns::Netns;

pub(super) use self::fallback::Behind;
pub(super) use self::listener::{Leads, upstream};

/// What acts: one of each in a process.
#[derive(Debug)]
pub(super) struct Tools {
    pub engine: Engine,
    pub hooks: Option<Hooks>,
    /// Where fallbacks are pinned; nowhere: there are none.
    pub pins: Option<Pins>,
    pub link: Link,
    /// Connections of one group of listeners of a pod at a time.
    pub connections: u64,
    /// Bytes that the taps of such a group keep together of what is open; its records say what that cost.
    pub kept: usize,
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
    fallback: HeldFallback,
    config: Option<Box<Config>>,
    older_closed: bool,
    /// Looks in a row that left some of them, because they were in use.
    older_in_use: u32,
    uid: String,
}

impl Held {
    /// Nothing yet, in this namespace. `uid` is the pod's.
    pub(super) fn new(netns: Netns, uid: &str, root: PathBuf, target: Arc<Target>, tls: Tls, sink: TargetSink) -> Self {
        let sockets: Arc<dyn Sockets> = Arc::new(Inside(Arc::new(netns.clone())));
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
            fallback: HeldFallback::default(),
            config: None,
            older_closed: false,
            older_in_use: 0,
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

    /// Names are resolved as whoever has this root directory does, from now on.
    pub(super) fn set_root(&mut self, root: PathBuf) {
        if self.root != root {
            self.explicit.values().flat_map(|held| &held.parts).for_each(|part| part.steering.set_root(&root));
            self.root = root;
        }
    }

    /// Steers nothing more; what is open goes on. A successor gets the listening sockets from the keeper. Without one the
    /// application answers at the reverse listeners that have a fallback; whatever comes to us all the same, and who has
    /// nobody else (the application's own proxy), is answered until our end, because nobody else would hear it.
    pub(super) fn let_go(&mut self, successor: bool) {
        if let Some(hooked) = &self.hooks {
            // What is not taken back now is with the end of this process.
            let _ = hooked.hooks.steer(Steer::default());
        }
        if successor {
            self.hear_no_more();
        } else {
            self.step_aside();
        }
        // Its pins stay: for the time until the successor has made its own, or for as long as there is none.
        self.fallback = HeldFallback::default();
    }

    /// Accepts nothing more: a successor has the listening sockets, and what waits there.
    pub(super) fn hear_no_more(&mut self) {
        for part in self.explicit.values_mut().flat_map(|held| &mut held.parts) {
            part.served.close();
            part.names.clear();
            part.sockets.clear();
        }
    }

    fn mutable(&self) -> Arc<Mutable> {
        Arc::new(Mutable { sink: Arc::clone(&self.sink), muted: AtomicBool::new(false) })
    }

    /// Everything is given up. Returns how many connections were cut.
    pub(super) fn leave(mut self, tools: &Tools) -> u64 {
        self.set_behind(None);
        self.remove_fallback(tools);
        self.cut(&tools.link)
    }

    /// The same when we end: the keeper hands the sockets on, or ends itself, and what is pinned stays.
    pub(super) fn end_all(mut self) -> u64 {
        self.cut(&Link::default())
    }

    fn cut(&mut self, link: &Link) -> u64 {
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

/// What a configuration comes to on this node.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub target: Arc<Target>,
    pub tls: Tls,
    pub alone: LeftAlone,
}

/// By what the keeper knows a listening socket of a pod.
pub(super) fn kept_name(uid: &str, netns: &Netns, address: SocketAddr) -> String {
    format!("{uid}/{}/{address}", netns.id().inode)
}

fn limits(tools: &Tools) -> GroupLimits {
    GroupLimits { connections: tools.connections, kept: tools.kept }
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
