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

/// Listeners that outbound connections are spread over: one destination can hold about 28,000 connections at a time
/// (the ephemeral ports of one client address), so there are several.
pub const SHARDS: usize = 8;

/// Steer outbound connections.
pub const STEER_OUTBOUND: u32 = 1;
/// Steer inbound connections.
pub const STEER_INBOUND: u32 = 2;

/// Written by user space once, before the hooks are attached, and again when steering is switched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The network namespace that our listeners stand in; sockets of other namespaces are left alone.
    pub netns_cookie: u64,
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
    pub padding: u32,
}
const _: () = assert!(size_of::<Settings>() == 8 + 24 + 2 * SHARDS * 4);

/// Nanoseconds of CLOCK_MONOTONIC after which a heartbeat is stale and every hook steps aside.
pub const HEARTBEAT_STALE_NS: u64 = 2_000_000_000;

/// Length of the kernel's process names.
pub const COMM: usize = 16;

/// What a steered connection was meant to reach, and who opened it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The kernel's identifier of the client's socket.
    pub cookie: u64,
    pub destination: Endpoint,
    /// What getsockname() would have answered without us; zero: unknown.
    pub source: Address,
    /// 1: the program bound `source` itself, so that the kernel's answer is right.
    pub bound: u32,
    pub pid: u32,
    pub comm: [u8; COMM],
    pub padding: u32,
}
const _: () = assert!(size_of::<Origin>() == 72);

/// The client's end of a steered connection, as our listener sees it at accept().
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    pub client: Endpoint,
    pub listener_port: u32,
}
const _: () = assert!(size_of::<Steered>() == 24);

/// A route of the host, so that the hooks know where the kernel itself would answer "unreachable".
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
    /// A socket of another network namespace.
    OtherNamespace = 7,
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
            7 => Self::OtherNamespace,
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
            _ => return None,
        })
    }
}

/// What the kernel programs tell through the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub cookie: u64,
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
const _: () = assert!(size_of::<Event>() == 104);

/// Slots of the counter array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connects that were steered.
    Steered = 0,
    /// Connects that were not, for whatever reason.
    Direct = 1,
    /// Inbound connections that were steered.
    SteeredIn = 2,
    /// Events that did not fit into the ring.
    RingFull = 3,
    /// Map entries that did not fit.
    MapFull = 4,
    /// Steered connects that did not reach our listener.
    SteeredFailed = 5,
    /// Connects that the user wants left alone, or of another network namespace: told only as this number.
    LeftAlone = 6,
    /// Inbound connections that went to the program directly, because our heartbeat was stale or our listener gone.
    AwayIn = 7,
}

/// Number of slots of the counter array.
pub const COUNTERS: u32 = 8;
