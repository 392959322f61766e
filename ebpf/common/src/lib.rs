//! The contract between the kernel programs and user space: every value that crosses, with its size asserted. It has
//! no dependencies and knows neither aya nor the kernel's own structures.
//!
//! Addresses are 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`, held as four `u32` as they lie in memory (so that
//! kernel code copies words and no field needs padding). Ports are in host order, in a `u32` for the same reason.
#![no_std]

use core::mem::size_of;

/// An address as it lies in memory: network order, IPv4 mapped.
pub type Address = [u32; 4];

/// The third word of every IPv4-mapped address, as it lies in memory: `00 00 ff ff`.
pub const MAPPED: u32 = u32::from_be(0x0000_ffff);

/// An address and a TCP port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub port: u32,
}
const _: () = assert!(size_of::<Endpoint>() == 20);

/// An endpoint in one network namespace: pods have equal addresses and ports, one after the other or at the same time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kernel's identifier of the namespace (SO_NETNS_COOKIE); it is never given twice.
    pub netns: u64,
    pub endpoint: Endpoint,
    pub padding: u32,
}
const _: () = assert!(size_of::<Place>() == 32);

impl Place {
    /// `endpoint` in the namespace with this cookie.
    pub const fn new(netns: u64, endpoint: Endpoint) -> Self {
        Self { netns, endpoint, padding: 0 }
    }
}

/// The namespace's cookie as the first two words of a trie's key.
const fn words(netns: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = netns.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// Key of the routes: the namespace, then the address.
pub type RouteKey = [u32; 6];
/// Bits of it before the address.
pub const ROUTE_BITS: u32 = 64;

/// The route of `address` in a namespace.
pub const fn route_key(netns: u64, address: Address) -> RouteKey {
    let netns = words(netns);
    [netns[0], netns[1], address[0], address[1], address[2], address[3]]
}

/// Of two lists that are alike, the one for connections that the target opens.
pub const OUTBOUND: u32 = 0;
/// … and the one for those that it accepts.
pub const INBOUND: u32 = 1;

/// Key of what is left alone: the namespace, the direction, then the other side's address.
pub type IgnoredKey = [u32; 7];
/// Bits of it before the address.
pub const IGNORED_BITS: u32 = 96;

/// Is `address` left alone in this direction?
pub const fn ignored_key(netns: u64, direction: u32, address: Address) -> IgnoredKey {
    let netns = words(netns);
    [netns[0], netns[1], direction, address[0], address[1], address[2], address[3]]
}

/// A port that is left alone: of the server's side, whichever side the target is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoredPort {
    pub netns: u64,
    pub direction: u32,
    pub port: u32,
}
const _: () = assert!(size_of::<IgnoredPort>() == 16);

/// Listeners that outbound connections are spread over: one destination can hold about 28,000 connections at a time
/// (the ephemeral ports of one client address), so there are several.
pub const SHARDS: usize = 8;

/// Steer outbound connections.
pub const STEER_OUTBOUND: u32 = 1;
/// Steer inbound connections.
pub const STEER_INBOUND: u32 = 2;
/// Steer what goes to loopback addresses, too.
pub const STEER_LOOPBACK: u32 = 4;

/// Of one target, by its network namespace. Written by user space before its hooks are attached, and again when steering
/// is switched; sockets of namespaces without an entry are left alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `STEER_*`.
    pub flags: u32,
    /// Used entries of the two port lists, a power of two, `SHARDS` at most; 0: the family is not steered.
    pub shards4: u32,
    pub shards6: u32,
    /// Our outbound listeners' ports on 127.0.0.1 and on ::1.
    pub ports4: [u32; SHARDS],
    pub ports6: [u32; SHARDS],
    /// First and last port that the kernel gives by itself (`ip_local_port_range`).
    pub ephemeral: [u32; 2],
}
const _: () = assert!(size_of::<Settings>() == 12 + 8 + 2 * SHARDS * 4);

/// Stands in the instructions of `inbound` where the cookie of its network namespace has to be: no helper tells it. User
/// space puts it there, and loads the program once for each namespace.
pub const NETNS_PLACEHOLDER: u64 = 0x6e6f_6465_7461_7001;
/// The same for the first of the target's two slots among the inbound listeners.
pub const SLOT_PLACEHOLDER: u64 = 0x6e6f_6465_7461_7002;

/// Nanoseconds of CLOCK_MONOTONIC after which a heartbeat is stale and every hook steps aside.
pub const HEARTBEAT_STALE_NS: u64 = 2_000_000_000;

/// Listening addresses of one pod that have a fallback, at most.
pub const FALLBACK_LISTENERS: u32 = 64;

/// Where connections to one of these go: the slot of our listener, and the first of the application's two slots (its
/// IPv4 listener, then its IPv6 one).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub ours: u32,
    pub application: u32,
}
const _: () = assert!(size_of::<Way>() == 8);

/// What a fallback counts: connections that went past us, then the CLOCK_MONOTONIC nanoseconds of the first and of the
/// last.
pub const BYPASSED: u32 = 0;
pub const BYPASSED_FIRST: u32 = 1;
pub const BYPASSED_LAST: u32 = 2;

/// Length of the kernel's process names.
pub const COMM: usize = 16;

/// What a steered connection was meant to reach, and who opened it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The kernel's identifier of the client's socket.
    pub cookie: u64,
    /// … and of its network namespace.
    pub netns: u64,
    pub destination: Endpoint,
    /// What getsockname() would have answered without us; zero: unknown.
    pub source: Address,
    /// 1: the program bound `source` itself, so that the kernel's answer is right.
    pub bound: u32,
    pub pid: u32,
    pub comm: [u8; COMM],
    pub padding: u32,
}
const _: () = assert!(size_of::<Origin>() == 80);

/// The client's end of a steered connection, as our listener sees it at accept().
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    pub netns: u64,
    pub client: Endpoint,
    pub listener_port: u32,
}
const _: () = assert!(size_of::<Steered>() == 32);

/// A datagram socket that was connected, and by whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    pub place: Place,
    pub pid: u32,
    pub comm: [u8; COMM],
    pub padding: u32,
}
const _: () = assert!(size_of::<Connected>() == 56);

/// A destination of a datagram socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub cookie: u64,
    pub place: Place,
}
const _: () = assert!(size_of::<Sent>() == 40);

/// A route of the namespace, so that the hooks know where the kernel itself would answer "unreachable".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The source address that the kernel would choose; zero: unknown.
    pub source: Address,
    /// 1: packets can go this way; 0: unreachable, prohibited or blackhole.
    pub usable: u32,
}
const _: () = assert!(size_of::<Route>() == 20);

/// Why a TCP connect of the target was not steered.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Steering is switched off for this direction or family.
    Off = 1,
    /// Our heartbeat is stale or our listener is gone.
    Away = 2,
    /// The user asked to leave this destination alone.
    Ignored = 3,
    /// The destination refused or timed out within the last seconds.
    Refused = 4,
    /// The kernel has no route to it.
    NoRoute = 5,
    /// Link-local or multicast, or the socket is bound to a device.
    Scoped = 6,
    /// To a loopback address, and these are not steered for this target.
    Loopback = 7,
    /// The program chose its own port, or marked the socket for the host's routing: a dial of ours could do neither.
    Chosen = 8,
}

impl Reason {
    /// The reason with this number, for readers of raw events.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Off,
            2 => Self::Away,
            3 => Self::Ignored,
            4 => Self::Refused,
            5 => Self::NoRoute,
            6 => Self::Scoped,
            7 => Self::Loopback,
            8 => Self::Chosen,
            _ => return None,
        })
    }
}

/// What an [`Event`] reports.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A connect that is not steered; `reason` says why.
    Direct = 1,
    /// Such a connection could not be established. `retransmits` tells a refusal (0) from a time-out.
    DirectFailed = 2,
    /// Such a connection ended.
    DirectClosed = 3,
    /// A socket of the target began to listen on `local`.
    Listen = 4,
    /// … and stopped.
    ListenClosed = 5,
    /// The first packet of a connection that is not steered leaves; without it the kernel refused at once.
    DirectBegan = 6,
    /// A datagram socket sends to `remote` for the first time. Datagrams are never steered.
    Datagram = 7,
}

impl EventKind {
    /// The kind with this number, for readers of raw events.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Direct,
            2 => Self::DirectFailed,
            3 => Self::DirectClosed,
            4 => Self::Listen,
            5 => Self::ListenClosed,
            6 => Self::DirectBegan,
            7 => Self::Datagram,
            _ => return None,
        })
    }
}

/// What the kernel programs tell through the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub cookie: u64,
    pub netns: u64,
    /// CLOCK_MONOTONIC nanoseconds.
    pub time_ns: u64,
    /// Payload bytes that the socket sent and received (`DirectClosed`).
    pub sent: u64,
    pub received: u64,
    pub local: Endpoint,
    pub remote: Endpoint,
    /// [`EventKind`].
    pub kind: u32,
    /// [`Reason`] (`Direct`).
    pub reason: u32,
    pub retransmits: u32,
    pub pid: u32,
    pub comm: [u8; COMM],
}
const _: () = assert!(size_of::<Event>() == 112);

/// Slots of a target's counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connects that were steered.
    Steered = 0,
    /// Inbound connections that were steered.
    SteeredIn = 1,
    /// Events that did not fit into the ring.
    RingFull = 2,
    /// Map entries that did not fit.
    MapFull = 3,
    /// Steered connects that did not reach our listener.
    SteeredFailed = 4,
    /// Inbound connections that went to the program directly, because our heartbeat was stale or our listener gone.
    AwayIn = 5,
    /// Inbound connections that the user wants left alone.
    IgnoredIn = 6,
    /// Inbound connections to a loopback address, which are not steered for this target.
    LoopbackIn = 7,
    /// Destinations that a socket has sent datagrams to.
    Datagram = 8,
}

/// Where the connects that were not steered begin, each [`Reason`] in a slot of its own.
pub const DIRECT_COUNTERS: u32 = 9;

/// In place of a namespace's cookie: the counters of the targets' programs where they are in namespaces of no target.
/// Their connects stand there as [`Reason::Off`].
pub const ELSEWHERE: u64 = 0;

/// Number of slots.
pub const COUNTERS: usize = 18;
