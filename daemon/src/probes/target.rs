//! One target: a network namespace that the hooks know, and the control groups in it whose sockets they see.

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex};

use nodetap_ebpf_common::{SHARDS, STEER_INBOUND, STEER_LOOPBACK, STEER_OUTBOUND, Settings};

use super::sweep::sweep;
use super::tables::locked;
use super::wire::{self, Wire};
use super::{Error, Maps, Shared};

/// Where the hooks send connections.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// Outbound, on 127.0.0.1 and ::1: a power of two of each, `SHARDS` at most; none: not steered.
    pub outbound4: Vec<u16>,
    pub outbound6: Vec<u16>,
    /// First and last port that the kernel gives by itself.
    pub ephemeral: [u16; 2],
}

/// What is steered; nothing at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steer {
    pub inbound: bool,
    pub outbound: bool,
    /// Of both: what goes to loopback addresses, too.
    pub loopback: bool,
}

/// A target whose namespace the hooks know. Dropping it makes them forget it.
#[derive(Debug)]
pub struct Target {
    shared: Arc<Shared>,
    maps: Arc<Maps>,
    settings: Mutex<Settings>,
    slot: u32,
    /// `inbound`, on the namespace.
    link: Option<OwnedFd>,
}

/// The hooks on one control group of a target. Dropping it takes them off.
#[derive(Debug)]
pub struct Attached {
    links: Vec<OwnedFd>,
}

impl Attached {
    /// Are they still there? The kernel takes them off when the group is removed.
    pub fn is_attached(&self) -> bool {
        self.links.iter().all(|link| has_place(link, "cgroup_id"))
    }
}

/// Does this link hang on something? `place`: what `/proc/self/fdinfo` calls that, 0 when it is gone.
fn has_place(link: &OwnedFd, place: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix(place)?.strip_prefix(':')).map(str::trim);
    number.is_some_and(|number| number != "0")
}

impl Target {
    /// `inbound`: our listeners for what is steered in, with "is it IPv6"; listening sockets of that namespace.
    pub(super) fn new<'a>(
        shared: &Arc<Shared>,
        netns: impl AsFd,
        cookie: u64,
        listeners: &Listeners,
        inbound: impl IntoIterator<Item = (bool, &'a TcpListener)>,
    ) -> Result<Self, Error> {
        /// Two targets in one namespace could not be told apart.
        const NO_EXIST: u64 = 1;
        let settings = Settings {
            flags: 0,
            shards4: shards(&listeners.outbound4),
            shards6: shards(&listeners.outbound6),
            ports4: ports(&listeners.outbound4),
            ports6: ports(&listeners.outbound6),
            ephemeral: listeners.ephemeral.map(u32::from),
        };
        let tables = &shared.tables;
        // It may have been a target a moment ago. What was known of it then is not true any more.
        let sweeping = locked(&shared.sweeping);
        if locked(&shared.slots).exhume(cookie) {
            sweep(tables, &HashSet::from([cookie]));
        }
        drop(sweeping);
        locked(&tables.targets).insert(cookie, Wire(settings), NO_EXIST).map_err(Error::map("TARGETS"))?;
        let slot = locked(&shared.slots).take();
        // From here on dropping it undoes everything.
        let mut target = Self {
            shared: Arc::clone(shared),
            maps: Arc::new(Maps::new(Arc::clone(tables), cookie)),
            settings: Mutex::new(settings),
            slot,
            link: None,
        };
        tables.count(cookie)?;
        for (v6, listener) in inbound {
            locked(&tables.inbound).set(slot + u32::from(v6), listener, 0).map_err(Error::map("INBOUND"))?;
        }
        let program = shared.template.load(cookie, slot)?;
        target.link = Some(wire::link(&program, netns, super::SK_LOOKUP_ATTACH).map_err(Error::Instance)?);
        Ok(target)
    }

    /// Its part of the maps.
    pub fn maps(&self) -> Arc<Maps> {
        Arc::clone(&self.maps)
    }

    /// Is `inbound` still there? The kernel takes it off when the namespace goes.
    pub fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(|link| has_place(link, "netns_ino"))
    }

    /// Puts the hooks on a control group. What its processes did before is not seen.
    ///
    /// # Errors
    /// When the kernel refuses one; none stays then.
    pub fn attach(&self, cgroup: impl AsFd) -> Result<Attached, Error> {
        let on_cgroup = |hook: &super::Hook| {
            wire::link(&hook.program, cgroup.as_fd(), hook.attach)
                .map_err(|source| Error::Attach { name: hook.name, source })
        };
        Ok(Attached { links: self.shared.hooks.iter().map(on_cgroup).collect::<Result<_, _>>()? })
    }

    /// Switches steering on or off, at once and for new connections only.
    ///
    /// # Errors
    /// When the kernel does not take the value.
    pub fn steer(&self, steer: Steer) -> Result<(), Error> {
        let flag = |set, flag| if set { flag } else { 0 };
        let mut settings = locked(&self.settings);
        settings.flags = flag(steer.inbound, STEER_INBOUND)
            | flag(steer.outbound, STEER_OUTBOUND)
            | flag(steer.loopback, STEER_LOOPBACK);
        let cookie = self.maps.netns();
        locked(&self.shared.tables.targets).insert(cookie, Wire(*settings), 0).map_err(Error::map("TARGETS"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let (tables, cookie) = (&self.shared.tables, self.maps.netns());
        self.maps.close();
        // Nobody asks `inbound` any more when its slots are emptied.
        let _ = locked(&tables.targets).remove(&cookie);
        drop(self.link.take());
        let mut inbound = locked(&tables.inbound);
        // One that is empty already was emptied by the kernel, when its listener was closed.
        let _ = inbound.clear_index(&self.slot);
        let _ = inbound.clear_index(&(self.slot + 1));
        drop(inbound);
        locked(&self.shared.slots).bury(cookie, self.slot);
    }
}

fn shards(ports: &[u16]) -> u32 {
    // The hooks pick by the low bits of a counter.
    let usable = if ports.is_empty() { 0 } else { 1 << ports.len().min(SHARDS).ilog2() };
    u32::try_from(usable).unwrap_or(0)
}

fn ports(ports: &[u16]) -> [u32; SHARDS] {
    let mut all = [0; SHARDS];
    for (slot, port) in all.iter_mut().zip(ports) {
        *slot = u32::from(*port);
    }
    all
}
