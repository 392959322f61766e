//! The maps, their limits, and the few questions that several hooks ask of them. Everything here is per target: one
//! loaded object serves one target in one network namespace.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap};
use nodetap_ebpf_common::{
    Address, COUNTERS, Counter, Endpoint, Event, HEARTBEAT_STALE_NS, Origin, Route, Settings, Steered,
};

/// BPF_F_NO_PREALLOC: these maps are almost empty almost always.
const NO_PREALLOC: u32 = 1;

#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
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
pub static DIRECT: LruHashMap<u64, Endpoint> = LruHashMap::with_max_entries(16_384, 0);
/// Destinations that just refused → CLOCK_MONOTONIC nanoseconds until which they are not steered.
#[map]
pub static REFUSED: LruHashMap<Endpoint, u64> = LruHashMap::with_max_entries(4_096, 0);
#[map]
pub static ROUTES: LpmTrie<Address, Route> = LpmTrie::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static IGNORED: LpmTrie<Address, u32> = LpmTrie::with_max_entries(4_096, NO_PREALLOC);
#[map]
pub static IGNORED_PORTS: HashMap<u32, u32> = HashMap::with_max_entries(1_024, NO_PREALLOC);

/// Where the target listens, counted by the sockops hook itself so that it is never behind. Entries stay when their
/// count falls to zero, which means that nobody listens: taking them out would race with the next listener.
#[map]
pub static LISTENING: HashMap<Endpoint, u64> = HashMap::with_max_entries(4_096, NO_PREALLOC);
/// Endpoints of the target that do not take IPv4 (IPV6_V6ONLY). Only user space writes it: no hook can see the option.
#[map]
pub static V6ONLY: HashMap<Endpoint, u32> = HashMap::with_max_entries(4_096, NO_PREALLOC);
/// The target's listening sockets; user space tells them from others' by this.
#[map]
pub static LISTENERS: HashMap<u64, Endpoint> = HashMap::with_max_entries(4_096, NO_PREALLOC);
/// Addresses and ports on which somebody else listens: never steered.
#[map]
pub static FOREIGN: HashMap<Endpoint, u32> = HashMap::with_max_entries(16_384, NO_PREALLOC);
/// Our own dials to the target (source address and port) → the real client.
#[map]
pub static DIALS: HashMap<Endpoint, Endpoint> = HashMap::with_max_entries(65_536, NO_PREALLOC);
/// Our inbound listeners: 0 for IPv4, 1 for IPv6. Listening sockets only, never an established one.
#[map]
pub static INBOUND: SockMap = SockMap::with_max_entries(2, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Does the target listen on exactly this endpoint?
#[inline(always)]
pub fn is_listening(endpoint: &Endpoint) -> bool {
    // SAFETY: the value is only read.
    unsafe { LISTENING.get(endpoint) }.is_some_and(|sockets| *sockets > 0)
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU. A hook of another kind may interrupt this one between read and write, and
        // one count is lost then: these are for people, and no decision hangs on them.
        unsafe { *slot += 1 };
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
        None => count(Counter::RingFull),
    }
}

/// The key that finds the longest prefix of `address` in a trie.
#[inline(always)]
pub fn whole(address: Address) -> Key<Address> {
    Key::new(128, address)
}
