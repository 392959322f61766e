//! Who answers for a pod's reverse listeners when we do not: the application itself, by programs that are pinned and stay
//! when we are gone. They are made anew by every agent, before it takes away what another left; what went past us
//! meanwhile is counted, and brought back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nodetap_core::pod::observed::Listener;

use super::{Held, Tools};
use crate::capture::namespace::Namespace;
use crate::capture::{self, Bypassed, Fallback, Reset, Way, bring_back};
use crate::cgroup;
use crate::netlink::listeners;

/// How long connections that went past us are watched for a moment in which they can be brought back.
const PATIENCE: Duration = Duration::from_secs(4);

/// … and after how long once more, while some never rest.
const AGAIN: Duration = Duration::from_secs(5);

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
    /// What agents before us left was taken away.
    alone: bool,
    /// Why there is none, as it was last said.
    why: Option<String>,
    bringing: Arc<Bringing>,
}

/// What is done about connections that went past us.
#[derive(Debug, Default)]
struct Bringing {
    /// Somebody is at it.
    now: AtomicBool,
    /// Some were in use all the time, when that ended.
    left: Mutex<Option<Instant>>,
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
    written: Bypassed,
}

impl Held {
    /// What is behind the reverse listeners from now on; nothing for a pod that is to have no fallback.
    pub(in crate::agent) fn set_behind(&mut self, behind: Option<Behind>) {
        self.fallback.behind = behind;
    }

    /// Brings the fallback into line with the listeners and with what is behind them. What another agent left stays beside
    /// it, for listeners that are not there yet: the newer one goes first.
    pub(in crate::agent) fn fall_back(&mut self, tools: &Tools) {
        let (Some(pins), Some(hooks)) = (&tools.pins, &tools.hooks) else { return };
        let ways = self.reverse_listeners();
        let Some(behind) = self.fallback.behind.clone().filter(|_| !ways.is_empty()) else {
            // What another agent left is needed until our listeners are there.
            let needless = self.fallback.behind.is_none() && self.config.is_some() && !self.fallback.alone;
            if self.fallback.made.is_some() || needless {
                self.remove_fallback(tools);
            }
            return;
        };
        let keys = ways.iter().map(|way| (way.address, way.application)).collect();
        if self.fallback.made.as_ref().is_none_or(|made| made.ways != keys || made.group != behind.group) {
            let made = hooks.fall_back(&self.netns, &behind.group, pins.next(&self.uid), &ways);
            match made {
                Ok(fallback) => self.set_fallback(fallback, keys, behind.group.clone()),
                Err(error) => return self.without_fallback(&error.to_string(), tools),
            }
        }
        self.put_applications(&behind);
    }

    fn reverse_listeners(&self) -> Vec<Way<'_>> {
        let mut ways = Vec::new();
        for (listener, held) in &self.explicit {
            let (Listener::Reverse { .. }, Some(application), false) = (listener, held.mark.app, held.mark.closed)
            else {
                continue;
            };
            let sockets = held.parts.iter().flat_map(|part| &part.sockets);
            ways.extend(sockets.map(|(address, listener)| Way { address: *address, listener, application }));
        }
        ways
    }

    /// A new one in the place of ours before.
    fn set_fallback(&mut self, fallback: Fallback, ways: BTreeSet<(SocketAddr, u16)>, group: PathBuf) {
        self.count_bypassed();
        self.write_bypassed();
        let (counted, written) = (Bypassed::default(), Bypassed::default());
        let made = Made { fallback, ways, group, put: BTreeSet::new(), counted, written };
        self.fallback.why = None;
        if let Some(before) = self.fallback.made.replace(made)
            && let Err(error) = before.fallback.remove()
        {
            tracing::warn!(%error, pod = %self.target.name, "a fallback that is not needed any more stays");
        }
    }

    fn without_fallback(&mut self, why: &str, tools: &Tools) {
        if self.fallback.why.as_deref() != Some(why) {
            let pod = &self.target.name;
            tracing::warn!(%pod, "is not answered at its inbound ports while no agent runs: {why}");
        }
        self.fallback.why = Some(why.to_owned());
        // An older one would answer in our place.
        self.remove_fallback(tools);
    }

    /// The application answers for us from now on, so that nobody who calls now is cut when we end.
    pub(super) fn step_aside(&self) {
        if let Some(made) = &self.fallback.made
            && let Err(error) = made.fallback.step_aside()
        {
            tracing::warn!(%error, pod = %self.target.name, "callers come to us for two seconds more");
        }
    }

    /// Nobody answers for us any more.
    pub(in crate::agent) fn remove_fallback(&mut self, tools: &Tools) {
        self.count_bypassed();
        self.write_bypassed();
        let ours = self.fallback.made.take().map(|made| made.fallback.remove());
        if let Some(Err(error)) = ours {
            tracing::warn!(%error, pod = %self.target.name, "a fallback that is not needed any more stays");
        }
        self.be_alone(tools);
    }

    /// Takes away what agents before us left of this pod, and counts what went past there. To be called when all of our
    /// listeners are there.
    pub(in crate::agent) fn be_alone(&mut self, tools: &Tools) {
        let Some(pins) = tools.pins.as_ref().filter(|_| !self.fallback.alone) else { return };
        let ours = self.fallback.made.as_ref().map(|made| made.fallback.pins());
        if ours.is_none() && self.fallback.behind.is_some() && self.fallback.why.is_none() {
            // Our listeners are not there, for whatever reason: callers still are.
            return;
        }
        let past: Vec<Bypassed> =
            pins.replace(&self.uid, ours).into_iter().filter(|past| past.connections > 0).collect();
        self.fallback.alone = true;
        for past in &past {
            self.stats.went_past(past.connections);
            self.sink.went_past(*past);
        }
        if !past.is_empty() {
            self.bring_back();
        }
    }

    /// The application may have begun to listen before the fallback was there, or by a socket that it was given.
    fn put_applications(&mut self, behind: &Behind) {
        let Some(made) = &mut self.fallback.made else { return };
        // What is bound to a device does not take what comes to ours.
        let behind_ours =
            |one: &&listeners::Listener| one.device == 0 && made.ways.iter().any(|(_, app)| *app == one.address.port());
        let wanted: Vec<listeners::Listener> = behind.listening.iter().filter(behind_ours).copied().collect();
        let cookies: BTreeSet<u64> = wanted.iter().map(|one| one.cookie).collect();
        if cookies != made.put {
            // What nobody of the pod has is looked for again.
            if capture::put(&made.fallback, &wanted, &cgroup::processes(&made.group)) == wanted.len() {
                made.put = cookies;
            }
        }
    }

    /// Counts what went past us since the last time, and brings it back when that has ended. To be called once a second or
    /// so.
    pub(in crate::agent) fn watch_fallback(&mut self) {
        let rest = |left: MutexGuard<'_, Option<Instant>>| left.is_some_and(|left| left.elapsed() >= AGAIN);
        let again = rest(self.fallback.bringing.left.lock().unwrap_or_else(PoisonError::into_inner));
        if self.count_bypassed() == 0 && (self.write_bypassed() || again) {
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
        let more = made.counted.connections.saturating_sub(made.written.connections);
        if more > 0 {
            // What was written before has ended then.
            let first_ns = made.counted.first_ns.max(made.written.last_ns);
            self.sink.went_past(Bypassed { connections: more, first_ns, ..made.counted });
            made.written = made.counted;
        }
        more > 0
    }

    /// Ends the connections that the application was given in our place, each as soon as it rests, where that is asked for:
    /// no look at bytes can tell a pause within an answer (a stream of events) from its end.
    fn bring_back(&self) {
        let Some(made) = &self.fallback.made else { return };
        if !self.config.as_ref().is_some_and(|config| config.reset_older_connections) {
            return;
        }
        if self.fallback.bringing.now.swap(true, Ordering::Relaxed) {
            return;
        }
        let (namespace, group, pod) = (self.netns.clone(), made.group.clone(), self.target.name.clone());
        let (bringing, ours) = (Arc::clone(&self.fallback.bringing), made.ways.iter().map(|(at, _)| *at).collect());
        let thread = std::thread::Builder::new().name("nodetap-back".into());
        let spawned = thread.spawn(move || {
            let busy = match bring_back(&namespace as &dyn Namespace, &group, &ours, PATIENCE) {
                Ok(Reset { ended, busy }) => {
                    tracing::info!(%pod, ended, busy, "connections that went past us");
                    busy
                }
                Err(error) => {
                    tracing::warn!(%pod, %error, "connections that went past us stay with the application");
                    // Tried again.
                    1
                }
            };
            *bringing.left.lock().unwrap_or_else(PoisonError::into_inner) = (busy > 0).then(Instant::now);
            bringing.now.store(false, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread that brings connections back");
            self.fallback.bringing.now.store(false, Ordering::Relaxed);
        }
    }
}
