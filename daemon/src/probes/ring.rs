//! What the hooks tell, decoded.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use nodetap_ebpf_common::{EventKind, Reason};

use super::{Error, wire};

/// Why a connect was not steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyDirect {
    Off,
    Away,
    Refused,
    NoRoute,
    Scoped,
    Chosen,
}

/// Something that a socket of a target did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The cookie of its network namespace.
    pub netns: u64,
    /// The kernel's identifier of the socket.
    pub cookie: u64,
    /// CLOCK_MONOTONIC nanoseconds.
    pub time_ns: u64,
    pub what: Observed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It connects, and is not steered.
    Direct {
        destination: SocketAddr,
        why: WhyDirect,
        pid: u32,
        name: String,
    },
    /// The first packet of such a connection leaves.
    DirectBegan,
    /// Such a connection was not established; repeated SYNs tell a time-out from a refusal.
    DirectFailed {
        retransmits: u32,
    },
    /// Such a connection ended.
    DirectClosed {
        local: SocketAddr,
        sent: u64,
        received: u64,
    },
    /// It sends datagrams to a destination for the first time.
    Datagram {
        destination: SocketAddr,
        pid: u32,
        name: String,
    },
    Listen {
        local: SocketAddr,
    },
    ListenClosed {
        local: SocketAddr,
    },
}

/// The reading end of the ring, and of the programs' log where the object was built with one.
pub struct Ring {
    events: RingBuf<MapData>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        const NAME: &str = "EVENTS";
        let map = ebpf.take_map(NAME).ok_or(Error::Missing(NAME))?;
        let events = RingBuf::try_from(map).map_err(|source| Error::Map { name: NAME, source })?;
        // The checked-in object has none: its programs do not contain the calls.
        Ok(Self { events, log: EbpfLogger::init(ebpf).ok() })
    }

    /// Passes on what the programs have logged.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// The next observation, if there is one; what cannot be decoded is skipped.
    pub fn take_one(&mut self) -> Option<Observation> {
        loop {
            let item = self.events.next()?;
            if let Some(observation) = decode(&item) {
                return Some(observation);
            }
        }
    }
}

/// Readable when something is there.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn decode(bytes: &[u8]) -> Option<Observation> {
    let event = wire::event(bytes)?;
    let local = wire::socket_addr(event.local);
    let what = match EventKind::from_number(event.kind)? {
        EventKind::Direct => Observed::Direct {
            destination: wire::socket_addr(event.remote),
            why: match Reason::from_number(event.reason)? {
                Reason::Off => WhyDirect::Off,
                Reason::Away => WhyDirect::Away,
                Reason::Refused => WhyDirect::Refused,
                Reason::NoRoute => WhyDirect::NoRoute,
                Reason::Scoped => WhyDirect::Scoped,
                Reason::Chosen => WhyDirect::Chosen,
                // Counted in the kernel, not told one by one.
                Reason::Ignored | Reason::Loopback => return None,
            },
            pid: event.pid,
            name: wire::name(event.comm),
        },
        EventKind::DirectBegan => Observed::DirectBegan,
        EventKind::DirectFailed => Observed::DirectFailed { retransmits: event.retransmits },
        EventKind::DirectClosed => Observed::DirectClosed { local, sent: event.sent, received: event.received },
        EventKind::Datagram => Observed::Datagram {
            destination: wire::socket_addr(event.remote),
            pid: event.pid,
            name: wire::name(event.comm),
        },
        EventKind::Listen => Observed::Listen { local },
        EventKind::ListenClosed => Observed::ListenClosed { local },
    };
    Some(Observation { netns: event.netns, cookie: event.cookie, time_ns: event.time_ns, what })
}
