//! Who answers for a pod's reverse listeners when we do not: the application itself, by programs that are pinned and stay
//! when we are gone. They are made anew by every agent, before it takes away what another left; what went past us
//! meanwhile is counted, and brought back.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nodetap_core::pod::observed::Listener;

use super::{Held, Tools};
use crate::capture::namespace::Namespace;
use crate::capture::{self, Bypassed, Fallback, Reset, Way, bring_back};
use crate::cgroup;
use crate::netlink::listeners;

/// How long connections that went past us are watched for a moment in which they can be brought back.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is behind a pod's reverse listeners.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Behind {
    /// The pod's control group.
    pub group: PathBuf,
    /// Where its programs listen.
    pub listening: Vec<listeners::Listener>,
}

/// What there is of it.
#[derive(Debug, Default)]
pub(super) struct HeldFallback {
    /// Nothing: this pod has none, and what others left is to be taken away.
    behind: Option<Behind>,
    made: Option<Made>,
    /// What an agent before us left was looked for.
    looked: bool,
    /// Why there is none, as it was last said.
    why: Option<String>,
    /// Somebody is at it.
    bringing: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Made {
    fallback: Fallback,
    ways: BTreeSet<(SocketAddr, u16)>,
    group: PathBuf,
    /// The cookies of the sockets that were put there.
    put: BTreeSet<u64>,
    /// What was counted of it, and what of that was written down.
    counted: Bypassed,
    written: u64,
}

impl Held {
    /// What is behind the reverse listeners from now on; nothing for a pod that is to have no fallback.
    pub(in crate::agent) fn set_behind(&mut self, behind: Option<Behind>) {
        self.fallback.behind = behind;
    }

    /// Brings the fallback into line with the listeners and with what is behind them.
    pub(in crate::agent) fn fall_back(&mut self, tools: &Tools) {
        let (Some(pins), Some(hooks)) = (&tools.pins, &tools.hooks) else { return };
        let ways: Vec<(SocketAddr, u16, &TcpListener)> = self.reverse_listeners();
        let keys = ways.iter().map(|(address, application, _)| (*address, *application)).collect();
        let Some(behind) = self.fallback.behind.clone().filter(|_| !ways.is_empty()) else {
            // What another agent left is needed until our listeners are there.
            let needless = self.fallback.behind.is_none() && self.config.is_some() && !self.fallback.looked;
            if self.fallback.made.is_some() || needless {
                self.remove_fallback(tools);
            }
            return;
        };
        if self.fallback.made.as_ref().is_none_or(|made| made.ways != keys || made.group != behind.group) {
            let pinned = pins.next(&self.uid);
            let given: Vec<Way<'_>> = ways
                .iter()
                .map(|(address, application, listener)| Way { address: *address, listener, application: *application })
                .collect();
            match hooks.fall_back(&self.netns, &behind.group, pinned, &given) {
                Ok(fallback) => {
                    self.fallback.why = None;
                    self.replace_fallback(tools, Some((fallback, keys, behind.group.clone())));
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.fallback.why.as_ref() != Some(&why) {
                        tracing::warn!(
                            pod = %self.target.name,
                            "has no fallback, and is not answered at its inbound ports while no agent runs: {why}"
                        );
                    }
                    self.fallback.why = Some(why);
                    // An older one would answer in our place.
                    self.replace_fallback(tools, None);
                    return;
                }
            }
        }
        self.put_applications(&behind);
    }

    fn reverse_listeners(&self) -> Vec<(SocketAddr, u16, &TcpListener)> {
        let of = |(listener, held): (&Listener, &'_ super::HeldListener)| match (listener, held.mark.app) {
            (Listener::Reverse { .. }, Some(app)) if !held.mark.closed => Some(app),
            _ => None,
        };
        let open = self.explicit.iter().filter_map(|(listener, held)| Some((held, of((listener, held))?)));
        let sockets = open.flat_map(|(held, app)| {
            held.parts.iter().flat_map(|part| &part.sockets).map(move |(address, socket)| (*address, app, socket))
        });
        sockets.collect()
    }

    /// Another one, or none, in the place of what there is.
    fn replace_fallback(&mut self, tools: &Tools, by: Option<(Fallback, BTreeSet<(SocketAddr, u16)>, PathBuf)>) {
        let Some(pins) = &tools.pins else { return };
        self.count_bypassed();
        self.write_bypassed();
        let before = self.fallback.made.take();
        self.fallback.made = by.map(|(fallback, ways, group)| Made {
            fallback,
            ways,
            group,
            put: BTreeSet::new(),
            counted: Bypassed::default(),
            written: 0,
        });
        let others = pins.replace(&self.uid, self.fallback.made.as_ref().map(|made| made.fallback.pins()));
        // Our own one was counted already.
        let news = others.into_iter().filter(|_| before.is_none());
        let past: Vec<Bypassed> = news.filter(|past| past.connections > 0).collect();
        for past in &past {
            self.stats.went_past(past.connections);
            self.sink.went_past(*past, past.connections);
        }
        self.fallback.looked = true;
        if !past.is_empty() {
            self.bring_back();
        }
    }

    /// Nobody answers for us any more.
    pub(super) fn remove_fallback(&mut self, tools: &Tools) {
        self.replace_fallback(tools, None);
    }

    /// The application may have begun to listen before the fallback was there, or by a socket that it was given.
    fn put_applications(&mut self, behind: &Behind) {
        let Some(made) = &mut self.fallback.made else { return };
        let behind_ours = |one: &&listeners::Listener| made.ways.iter().any(|(_, app)| *app == one.address.port());
        let wanted: Vec<listeners::Listener> = behind.listening.iter().filter(behind_ours).copied().collect();
        let cookies: BTreeSet<u64> = wanted.iter().map(|one| one.cookie).collect();
        if cookies != made.put {
            capture::put(&made.fallback, &wanted, &cgroup::processes(&made.group));
            made.put = cookies;
        }
    }

    /// Counts what went past us since the last time, and brings it back when that has ended. To be called once a second or
    /// so.
    pub(in crate::agent) fn watch_fallback(&mut self) {
        if self.count_bypassed() == 0 && self.write_bypassed() {
            self.bring_back();
        }
    }

    fn count_bypassed(&mut self) -> u64 {
        let Some(made) = &mut self.fallback.made else { return 0 };
        let now = made.fallback.bypassed();
        let more = now.connections.saturating_sub(made.counted.connections);
        made.counted = now;
        self.stats.went_past(more);
        more
    }

    /// One record for all that came together; was there something?
    fn write_bypassed(&mut self) -> bool {
        let Some(made) = &mut self.fallback.made else { return false };
        let more = made.counted.connections.saturating_sub(made.written);
        if more > 0 {
            self.sink.went_past(made.counted, more);
            made.written = made.counted.connections;
        }
        more > 0
    }

    /// Ends the connections that the application was given in our place, each as soon as it rests.
    fn bring_back(&self) {
        let Some(made) = &self.fallback.made else { return };
        if self.fallback.bringing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (namespace, group, pod) = (self.netns.clone(), made.group.clone(), self.target.name.clone());
        let (bringing, ours) = (Arc::clone(&self.fallback.bringing), made.ways.iter().map(|(at, _)| *at).collect());
        let thread = std::thread::Builder::new().name("nodetap-back".into());
        let spawned = thread.spawn(move || {
            match bring_back(&namespace as &dyn Namespace, &group, &ours, PATIENCE) {
                Ok(Reset { ended, busy }) => tracing::info!(%pod, ended, busy, "connections that went past us"),
                Err(error) => tracing::warn!(%pod, %error, "connections that went past us stay with the application"),
            }
            bringing.store(false, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread that brings connections back");
            self.fallback.bringing.store(false, Ordering::Relaxed);
        }
    }
}
