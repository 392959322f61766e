//! The listeners of a pod that somebody was told of, and when the steered ones count as open: bound, asked whether they
//! answer, led elsewhere, and let go without a cut.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nodetap_core::pod::observed::{Listener, Listening, Millis};
use nodetap_proxy::engine::{Group, Served};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::steering::{Listener as Listens, Serves, Steering as Brings};

use super::{Held, Mutable, Tools, kept_name, limits};
use crate::agent::explicit::PodSteering;
use crate::agent::link::Link;

/// Connections that wait for accept(); the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Where a listener leads.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Leads {
    pub serves: Serves,
    /// The application's port behind it.
    pub app: Option<u16>,
    pub container: Option<Arc<str>>,
}

/// What is told of a listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) app: Option<u16>,
    pub(super) verified: bool,
    pub(super) retired: Option<Millis>,
    pub(super) closed: bool,
}

/// A listener that somebody was told of.
#[derive(Debug)]
pub(super) struct HeldListener {
    pub(super) mark: Mark,
    pub(super) parts: Vec<Part>,
}

/// Some of its addresses: those that were bound together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) served: Served,
    pub(super) steering: Arc<PodSteering>,
    pub(super) sink: Arc<Mutable>,
    /// What the keeper knows its sockets by.
    pub(super) names: Vec<String>,
    /// The sockets themselves, for a fallback; none once nothing more is accepted there.
    pub(super) sockets: Vec<(SocketAddr, TcpListener)>,
}

impl HeldListener {
    pub(super) fn open(&self) -> u64 {
        self.parts.iter().map(|part| part.served.open()).sum()
    }
}

impl Held {
    /// Listens for what is steered, or for the application or its callers: what the keeper has of that is taken, with what
    /// waits there.
    pub(in crate::agent) fn listen(
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
        // What another agent left would answer in our place when we ask.
        self.fall_back(tools);
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
        let copies = addresses.iter().zip(&sockets);
        let copies = copies.map(|(address, socket)| Ok((SocketAddr::new(*address, port), socket.try_clone()?)));
        let copies = copies.collect::<std::io::Result<_>>().map_err(|error| format!("port {port}: {error}"))?;
        let served = tools.engine.serve(sockets, group).map_err(|error| error.to_string())?;
        Ok(Part { addresses: addresses.clone(), served, steering, sink, names, sockets: copies })
    }

    /// Leads a listener elsewhere from now on.
    pub(in crate::agent) fn point(&mut self, listener: Listener, leads: &Leads) {
        let (Some(held), Some(port)) = (self.explicit.get_mut(&listener), listener.port()) else { return };
        for part in &held.parts {
            let listens =
                part.addresses.iter().map(|ip| Listens { address: SocketAddr::new(*ip, port), serves: leads.serves });
            part.steering.set_listeners(listens.collect(), leads.container.clone());
        }
        held.mark.app = leads.app;
    }

    /// Asks a listener whether it answers.
    pub(in crate::agent) fn verify(&mut self, listener: Listener) -> Result<(), String> {
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
    pub(in crate::agent) fn doubt(&mut self) {
        self.explicit.values_mut().for_each(|held| held.mark.verified = false);
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
    pub(in crate::agent) fn retire(&mut self, listener: Listener, now: Millis) {
        self.mute(listener, Some(now));
    }

    /// Records nothing more of what passes at any of them.
    pub(in crate::agent) fn retire_all(&mut self, now: Millis) {
        let explicit: Vec<Listener> = self.explicit.keys().copied().collect();
        explicit.into_iter().chain([Listener::Steered]).for_each(|listener| self.retire(listener, now));
    }

    /// Records what passes there again.
    pub(in crate::agent) fn revive(&mut self, listener: Listener) {
        self.mute(listener, None);
    }

    /// Accepts nothing more there; what is open goes on.
    pub(in crate::agent) fn close(&mut self, listener: Listener, link: &Link) {
        let Some(held) = self.explicit.get_mut(&listener) else { return };
        for part in &mut held.parts {
            part.served.close();
            part.names.drain(..).for_each(|name| link.release(&name));
            part.sockets.clear();
        }
        held.mark.closed = true;
    }

    /// Closes it and resets what is open there. Returns how many that were. What is steered ends by itself, or with the
    /// hooks.
    pub(in crate::agent) fn end(&mut self, listener: Listener, link: &Link) -> u64 {
        if listener == Listener::Steered {
            self.steered = None;
            return 0;
        }
        self.close(listener, link);
        let parts = self.explicit.remove(&listener).map(|held| held.parts).unwrap_or_default();
        parts.into_iter().map(|part| part.served.cut().cut).sum()
    }
}

/// Where the application can be reached at `port`: an address that it listens on, loopback before others.
pub(in crate::agent) fn upstream(port: u16, listening: &BTreeSet<Listening>) -> SocketAddr {
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
