//! The maps, their limits, and the few questions that several hooks ask of them. One loaded object serves many targets:
//! whatever belongs to one is found by the cookie of its network namespace. Maps that are sized by what the targets do
//! are shared by all, and those that would be full otherwise forget the oldest.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuHashMap, RingBuf, SockMap};
use nodetap_ebpf_common::{
    Address, COUNTERS, Connected, Counter, DIRECT_COUNTERS, Endpoint, Event, HEARTBEAT_STALE_NS, IGNORED_BITS,
    IgnoredKey, IgnoredPort, Origin, Place, ROUTE_BITS, Reason, Route, RouteKey, Sent, Settings, Steered, ignored_key,
    route_key,
};

/// BPF_F_NO_PREALLOC: these maps are almost empty almost always.
const NO_PREALLOC: u32 = 1;
/// Targets at a time; a node runs 250 pods or so.
const TARGETS_MAX: u32 = 1_024;

/// Network namespace → what its target is to be like.
#[map]
pub static TARGETS: HashMap<u64, Settings> = HashMap::with_max_entries(TARGETS_MAX, NO_PREALLOC);
/// CLOCK_MONOTONIC nanoseconds, written by user space twice a second.
#[map]
pub static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);

/// Client socket → what it was meant to reach, for as long as the socket lives.
#[map]
pub static ORIGINS: LruHashMap<u64, Origin> = LruHashMap::with_max_entries(65_536, 0);
/// The same by what our listener sees; taken out by user space at accept().
#[map]
pub static STEERED: LruHashMap<Steered, Origin> = LruHashMap::with_max_entries(65_536, 0);
/// Connections that were not steered, for as long as the socket lives.
#[map]
pub static DIRECT: LruHashMap<u64, Place> = LruHashMap::with_max_entries(16_384, 0);
/// Datagram sockets that are connected and have sent nothing so far: resolvers only ask for the way.
#[map]
pub static CONNECTED: LruHashMap<u64, Connected> = LruHashMap::with_max_entries(4_096, 0);
/// Where a datagram socket has sent to, so that it is told once.
#[map]
pub static SENT: LruHashMap<Sent, u32> = LruHashMap::with_max_entries(8_192, 0);
/// Destinations that just refused → CLOCK_MONOTONIC nanoseconds until which they are not steered.
#[map]
pub static REFUSED: LruHashMap<Place, u64> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub static ROUTES: LpmTrie<RouteKey, Route> = LpmTrie::with_max_entries(131_072, NO_PREALLOC);
#[map]
pub static IGNORED: LpmTrie<IgnoredKey, u32> = LpmTrie::with_max_entries(131_072, NO_PREALLOC);
#[map]
pub static IGNORED_PORTS: HashMap<IgnoredPort, u32> = HashMap::with_max_entries(131_072, NO_PREALLOC);

/// Where the targets listen, counted by the sockops hook itself so that it is never behind. Entries stay when their
/// count falls to zero, which means that nobody listens: taking them out would race with the next listener.
#[map]
pub static LISTENING: HashMap<Place, u64> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Where the targets listened already when they were attached to. Only user space writes it: no hook sees these sockets
/// begin or end.
#[map]
pub static OLDER: HashMap<Place, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Endpoints of the targets that do not take IPv4 (IPV6_V6ONLY). Only user space writes it: no hook can see the option.
#[map]
pub static V6ONLY: HashMap<Place, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// The targets' listening sockets; user space tells them from others' by this.
#[map]
pub static LISTENERS: HashMap<u64, Place> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Addresses and ports on which somebody else listens: never steered.
#[map]
pub static FOREIGN: HashMap<Place, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Our own dials to the targets (source address and port) → the real client.
#[map]
pub static DIALS: HashMap<Place, Endpoint> = HashMap::with_max_entries(131_072, NO_PREALLOC);
/// Our inbound listeners, two slots a target: IPv4, then IPv6. Listening sockets only, never an established one.
#[map]
pub static INBOUND: SockMap = SockMap::with_max_entries(2 * TARGETS_MAX, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(512 * 1024, 0);
#[map]
pub static COUNTS: PerCpuHashMap<u64, [u64; COUNTERS]> = PerCpuHashMap::with_max_entries(TARGETS_MAX, NO_PREALLOC);

/// Does the target listen on exactly this endpoint?
#[inline(always)]
pub fn is_listening(netns: u64, endpoint: Endpoint) -> bool {
    let place = Place::new(netns, endpoint);
    // SAFETY: the values are only read. More ends than beginnings (a full map took no beginning) are nobody as well.
    unsafe { LISTENING.get(place).is_some_and(|sockets| *sockets as i64 > 0) || OLDER.get(place).is_some() }
}

/// Is this endpoint of the other side, or of the target's own port `server_port`, to be left alone?
#[inline(always)]
pub fn is_ignored(netns: u64, direction: u32, address: Address, server_port: u32) -> bool {
    // SAFETY: the values are only read.
    let port = unsafe { IGNORED_PORTS.get(IgnoredPort { netns, direction, port: server_port }) };
    port.is_some() || IGNORED.get(Key::new(IGNORED_BITS + 128, ignored_key(netns, direction, address))).is_some()
}

/// The way to an address, if there is one.
#[inline(always)]
pub fn route(netns: u64, address: Address) -> Option<&'static Route> {
    ROUTES.get(Key::new(ROUTE_BITS + 128, route_key(netns, address)))
}

/// Adds one to a counter of a target on this CPU.
#[inline(always)]
pub fn count(netns: u64, counter: Counter) {
    add_one(netns, counter as u32);
}

/// Adds one connect that was not steered.
#[inline(always)]
pub fn count_direct(netns: u64, reason: Reason) {
    add_one(netns, DIRECT_COUNTERS + reason as u32);
}

#[inline(always)]
fn add_one(netns: u64, slot: u32) {
    let Some(slots) = COUNTS.get_ptr_mut(netns) else { return };
    // SAFETY: the slots belong to this CPU. A hook of another kind may interrupt this one between read and write, and
    // one count is lost then: these are for people, and no decision hangs on them.
    unsafe {
        if let Some(slot) = (*slots).get_mut(slot as usize) {
            *slot += 1;
        }
    }
}

/// Has user space shown within the last two seconds that it runs?
#[inline(always)]
pub fn alive() -> bool {
    let Some(heartbeat) = HEARTBEAT.get(0) else { return false };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // A beat that came after `now` was read is not a stale one.
    now.saturating_sub(*heartbeat) < HEARTBEAT_STALE_NS
}

/// Tells user space; counts what does not fit.
#[inline(always)]
pub fn tell(event: &Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut entry) => {
            entry.write(*event);
            entry.submit(0);
        }
        None => count(event.netns, Counter::RingFull),
    }
}
