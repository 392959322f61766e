//! What the hooks cannot see of the listening sockets in a target's namespace, looked up from time to time: those of
//! others, those that are older than the hooks, and the processes behind the target's own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::processes::Processes;
use crate::cgroup;
use crate::netlink::listeners::Listener;
use crate::probes::Maps;

/// Looks for the process behind a socket before it is given up: it may have handed the socket on to another group.
const LOOKS: u32 = 16;

/// A socket on which the target listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    pub address: SocketAddr,
    /// The kernel's identifier of the socket.
    pub cookie: u64,
    /// The control group that it was made in.
    pub cgroup: u64,
    /// It listened before the hooks could see it.
    pub older: bool,
}

/// What was found at the last look, as far as the hooks know it.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// Everybody else's endpoints.
    foreign: BTreeSet<SocketAddr>,
    /// Cookies of everybody else's listening sockets at the last look.
    others: Option<BTreeSet<u64>>,
    /// Endpoints of the target that take no IPv4.
    v6only: BTreeSet<SocketAddr>,
    /// Endpoints of the target that are older than the hooks.
    older: BTreeSet<SocketAddr>,
    /// How often the process behind a listening socket was looked for.
    looks: HashMap<u64, u32>,
    listening: Vec<Listening>,
}

impl Picture {
    pub(super) fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Brings it and the hooks up to date with the listeners of the namespace. `look` finds all of them; `groups`: the
    /// target's control groups; `ours`: the addresses of our own listeners.
    ///
    /// # Errors
    /// When a look fails: what is known stays, but for everybody else's endpoints.
    pub(super) fn update(
        &mut self,
        look: impl Fn() -> io::Result<BTreeMap<u64, Listener>>,
        maps: &Maps,
        groups: &[PathBuf],
        ours: &BTreeSet<SocketAddr>,
        processes: &Processes,
    ) -> io::Result<()> {
        // A thread of the data plane owns these, and nobody else can: they need no look at the hooks' list.
        let all: Vec<Listener> = look()?.into_values().filter(|listener| !ours.contains(&listener.address)).collect();
        let (known, rest): (Vec<Listener>, Vec<Listener>) =
            all.into_iter().partition(|listener| maps.is_own(listener.cookie));
        let inside = if rest.is_empty() { HashSet::new() } else { ids(groups) };
        let (mut older, others): (Vec<Listener>, Vec<Listener>) =
            // What is bound to a device does not take what we dial from loopback.
            rest.into_iter().partition(|listener| listener.device == 0 && inside.contains(&listener.cgroup));
        self.update_foreign(&others, maps);
        let mut older_now = unheard(&known, &older, maps, |_| true);
        // A socket that ended since the look is as unknown to the hooks as an older one, but is not found again. Taken for
        // older, it would have callers steered to us whom the kernel refuses.
        if !older_now.is_subset(&self.older) {
            let again = look()?;
            let still = unheard(&known, &older, maps, |cookie| again.contains_key(&cookie));
            older_now.retain(|endpoint| still.contains(endpoint));
            older.retain(|one| maps.is_own(one.cookie) || again.contains_key(&one.cookie));
        }
        apply(&mut self.older, &older_now, |endpoint, set| maps.set_older(endpoint, set));
        let own = || known.iter().chain(&older);
        let v6only = own().filter(|listener| listener.v6only).map(|listener| listener.address).collect();
        apply(&mut self.v6only, &v6only, |endpoint, set| maps.set_v6only(endpoint, set));
        let listening = |older| {
            move |listener: &Listener| Listening {
                address: listener.address,
                cookie: listener.cookie,
                cgroup: listener.cgroup,
                older,
            }
        };
        self.listening = known.iter().map(listening(false)).chain(older.iter().map(listening(true))).collect();
        self.find_processes(&known.iter().chain(&older).copied().collect::<Vec<_>>(), groups, processes);
        Ok(())
    }

    /// The hooks were taken off a group: its sockets are somebody else's from now on. `groups`: those that are left.
    pub(super) fn forget_group(&mut self, maps: &Maps, groups: &[PathBuf]) {
        let inside = ids(groups);
        let (stay, go): (Vec<Listening>, Vec<Listening>) =
            self.listening.iter().partition(|listening| inside.contains(&listening.cgroup));
        self.listening = stay;
        go.iter().for_each(|gone| maps.forget_listener(gone.cookie, gone.address));
    }

    fn update_foreign(&mut self, others: &[Listener], maps: &Maps) {
        let foreign: BTreeSet<_> = others
            .iter()
            // A socket of the target that came and went during the look is in neither list of its own. Somebody else's
            // is still there at the next look; before the target starts, all are somebody else's.
            .filter(|other| self.others.as_ref().is_none_or(|seen| seen.contains(&other.cookie)))
            .map(|other| other.address)
            .filter(|address| !address.ip().is_unspecified())
            .collect();
        self.others = Some(others.iter().map(|other| other.cookie).collect());
        apply(&mut self.foreign, &foreign, |endpoint, set| maps.set_foreign(endpoint, set));
    }

    fn find_processes(&mut self, own: &[Listener], groups: &[PathBuf], processes: &Processes) {
        self.looks.retain(|cookie, _| own.iter().any(|listener| listener.cookie == *cookie));
        let unknown: Vec<_> = own
            .iter()
            .filter(|listener| !processes.knows(listener.address))
            .filter(|listener| *self.looks.entry(listener.cookie).and_modify(|looks| *looks += 1).or_insert(1) <= LOOKS)
            .map(|listener| (listener.address, listener.inode))
            .collect();
        if !unknown.is_empty() {
            let inside: Vec<u32> = groups.iter().flat_map(|group| cgroup::processes(group)).collect();
            processes.learn(&unknown, &inside);
        }
    }
}

/// Endpoints, of sockets that are `there`, whose end the hooks would not tell: they saw no beginning, or its count was taken
/// out in that very moment.
fn unheard(known: &[Listener], older: &[Listener], maps: &Maps, there: impl Fn(u64) -> bool) -> BTreeSet<SocketAddr> {
    let uncounted = known.iter().filter(|one| maps.is_own(one.cookie) && !maps.counts_listeners(one.address));
    let unseen = older.iter().filter(|one| !maps.is_own(one.cookie));
    uncounted.chain(unseen).filter(|one| there(one.cookie)).map(|one| one.address).collect()
}

/// Brings `known` and the hooks to `now`; what they do not take is tried again at the next look.
fn apply(
    known: &mut BTreeSet<SocketAddr>,
    now: &BTreeSet<SocketAddr>,
    mut tell: impl FnMut(SocketAddr, bool) -> io::Result<()>,
) {
    let gone = known.difference(now).map(|endpoint| (*endpoint, false));
    let new = now.difference(known).map(|endpoint| (*endpoint, true));
    for (endpoint, set) in gone.chain(new).collect::<Vec<_>>() {
        match tell(endpoint, set) {
            Ok(()) if set => _ = known.insert(endpoint),
            Ok(()) => _ = known.remove(&endpoint),
            Err(error) => tracing::debug!(%error, %endpoint, "the hooks do not take what is known of a listener"),
        }
    }
}

/// The kernel's identifiers of these control groups and of all within them.
pub(super) fn ids(groups: &[PathBuf]) -> HashSet<u64> {
    groups.iter().flat_map(|group| by_id(group)).map(|(id, _)| id).collect()
}

/// A control group and all within it, by the kernel's identifiers: the inodes of their directories.
pub(super) fn by_id(group: &Path) -> HashMap<u64, PathBuf> {
    let id = |path: PathBuf| Some((path.metadata().ok()?.ino(), path));
    cgroup::within(group).into_iter().filter_map(id).collect()
}
