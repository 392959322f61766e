//! The programs that answer for a pod's reverse listeners when nobody of us does: an object of its own, loaded once a pod,
//! attached, pinned, and from then on there without us. It refuses to know when a pod has one.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use aya::maps::{Array, HashMap, MapData, SockMap};
use aya::{Ebpf, EbpfLoader};
use nodetap_ebpf_common::{BYPASSED, BYPASSED_FIRST, BYPASSED_LAST, Endpoint, Way as Slots};

use super::pins::Generation;
use super::tables::{data, locked, take};
use super::wire::{self, Wire, monotonic_ns};
use super::{Error, SK_LOOKUP_ATTACH, hook};

/// The compiled programs: see `OBJECT` of the module above.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/fallback.bpf.o");

const ANSWER: &str = "answer";
const REFILL: &str = "refill";
/// BPF_CGROUP_SOCK_OPS.
const SOCK_OPS_ATTACH: u32 = 3;
/// By what the three are pinned.
pub(super) const PINS: [&str; 3] = [ANSWER, REFILL, BYPASS];
pub(super) const BYPASS: &str = "BYPASS";

/// One of our listeners, and whose place it took.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    pub address: SocketAddr,
    pub listener: &'a TcpListener,
    /// The application's port behind it.
    pub application: u16,
}

/// Where a fallback is to be.
#[derive(Debug)]
pub struct Place<'a> {
    /// The pod's network namespace.
    pub netns: BorrowedFd<'a>,
    /// … and its cookie.
    pub cookie: u64,
    /// A control group that the application's processes are in or beneath: whoever of them begins to listen is seen.
    pub group: BorrowedFd<'a>,
    /// Where it is pinned.
    pub pins: Generation,
}

/// Connections that went past us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bypassed {
    pub connections: u64,
    /// CLOCK_MONOTONIC nanoseconds of the first and of the last; 0: there was none.
    pub first_ns: u64,
    pub last_ns: u64,
}

/// A fallback that is there. Dropping it ends our part only: it answers for us from two seconds later on.
pub struct Fallback {
    applications: Mutex<SockMap<MapData>>,
    slots: BTreeMap<u16, u32>,
    bypass: Mutex<Array<MapData, u64>>,
    pins: Generation,
    /// For as long as we are there, it is given a heartbeat.
    beat: Arc<Beat>,
}

impl std::fmt::Debug for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fallback").field("pins", &self.pins).field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// `None`: it was stopped.
type Beat = Mutex<Option<Array<MapData, u64>>>;

/// The heartbeats of all fallbacks of this process.
#[derive(Debug, Default)]
pub(super) struct Beats(Mutex<Vec<Weak<Beat>>>);

impl Beats {
    pub(super) fn set(&self, at: u64) -> Result<(), Error> {
        let mut beats = locked(&self.0);
        beats.retain(|beat| beat.strong_count() > 0);
        let set = |beat: Arc<Beat>| match &mut *locked(&beat) {
            Some(beat) => beat.set(0, at, 0).map_err(Error::map("BEAT")),
            None => Ok(()),
        };
        beats.iter().filter_map(Weak::upgrade).map(set).fold(Ok(()), Result::and)
    }
}

impl Fallback {
    pub(super) fn make(beats: &Beats, place: Place<'_>, ways: &[Way<'_>]) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new().btf(None).load(OBJECT)?;
        let (answer, refill) = (hook(&mut ebpf, ANSWER, SK_LOOKUP_ATTACH)?, hook(&mut ebpf, REFILL, SOCK_OPS_ATTACH)?);
        let mut netns: Array<MapData, u64> = take(&mut ebpf, "NETNS")?;
        netns.set(0, place.cookie, 0).map_err(Error::map("NETNS"))?;
        let slots = fill(&mut ebpf, ways)?;
        let mut beat: Array<MapData, u64> = take(&mut ebpf, "BEAT")?;
        beat.set(0, monotonic_ns(), 0).map_err(Error::map("BEAT"))?;
        let beat = Arc::new(Mutex::new(Some(beat)));
        let counted = ebpf.map(BYPASS).and_then(data).ok_or(Error::Missing(BYPASS))?.fd().as_fd().try_clone_to_owned();
        let counted = counted.map_err(|source| Error::Attach { name: BYPASS, source })?;
        let bypass = Mutex::new(take(&mut ebpf, BYPASS)?);
        let applications = Mutex::new(take(&mut ebpf, "APPLICATIONS")?);
        // Who begins to listen from here on is seen; whoever did before is put there by our caller.
        let attach = |hook: &super::Hook, place: BorrowedFd<'_>| {
            wire::link(&hook.program, place, hook.attach).map_err(|source| Error::Attach { name: hook.name, source })
        };
        let refill: OwnedFd = attach(&refill, place.group)?;
        let answer: OwnedFd = attach(&answer, place.netns)?;
        place.pins.pin(&[(REFILL, refill.as_fd()), (BYPASS, counted.as_fd()), (ANSWER, answer.as_fd())])?;
        locked(&beats.0).push(Arc::downgrade(&beat));
        Ok(Self { applications, slots, bypass, pins: place.pins, beat })
    }

    /// Puts a listening socket of the application there, for connections that come while we are away.
    ///
    /// # Errors
    /// When its port is none of those that it was made for, or it does not listen any more.
    pub fn put(&self, address: SocketAddr, socket: &OwnedFd) -> io::Result<()> {
        let slot = self.slots.get(&address.port()).ok_or(io::ErrorKind::NotFound)?;
        let slot = slot + u32::from(address.is_ipv6());
        locked(&self.applications).set(slot, socket, 0).map_err(io::Error::other)
    }

    /// We accept nothing more, and nobody takes our place: it answers for us from now on.
    ///
    /// # Errors
    /// When the kernel does not take it; then two seconds later.
    pub fn step_aside(&self) -> Result<(), Error> {
        match locked(&self.beat).take() {
            Some(mut beat) => beat.set(0, 0, 0).map_err(Error::map("BEAT")),
            None => Ok(()),
        }
    }

    /// What went past us so far.
    pub fn bypassed(&self) -> Bypassed {
        read(&locked(&self.bypass))
    }

    /// Where it is pinned.
    pub fn pins(&self) -> &Generation {
        &self.pins
    }

    /// Takes it away: nobody answers for us any more.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove(self) -> Result<Bypassed, Error> {
        self.pins.remove()?;
        Ok(self.bypassed())
    }
}

/// What a fallback counted, by its map.
pub(super) fn read(bypass: &Array<MapData, u64>) -> Bypassed {
    let slot = |slot: u32| bypass.get(&slot, 0).unwrap_or(0);
    Bypassed { connections: slot(BYPASSED), first_ns: slot(BYPASSED_FIRST), last_ns: slot(BYPASSED_LAST) }
}

/// Puts our listeners there; which application's port has which slots.
fn fill(ebpf: &mut Ebpf, ways: &[Way<'_>]) -> Result<BTreeMap<u16, u32>, Error> {
    let mut table: HashMap<MapData, Wire<Endpoint>, Wire<Slots>> = take(ebpf, "WAYS")?;
    let mut ports: HashMap<MapData, u32, u32> = take(ebpf, "PORTS")?;
    let mut ours: SockMap<MapData> = take(ebpf, "OURS")?;
    let mut slots = BTreeMap::new();
    for (number, way) in (0u32..).zip(ways) {
        let free = 2 * u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let application = *slots.entry(way.application).or_insert(free);
        ports.insert(u32::from(way.application), application, 0).map_err(Error::map("PORTS"))?;
        ours.set(number, way.listener, 0).map_err(Error::map("OURS"))?;
        let endpoint = Wire(wire::endpoint(way.address));
        table.insert(endpoint, Wire(Slots { ours: number, application }), 0).map_err(Error::map("WAYS"))?;
    }
    Ok(slots)
}
