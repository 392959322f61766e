//! Between Rust's values and the bytes of the contract. Beside one socket option, the only `unsafe` of the daemon.
#![allow(unsafe_code, reason = "values cross to the kernel as bytes")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nodetap_ebpf_common::{Address, COMM, Endpoint, Event, MAPPED, Origin, Route, Settings, Steered};

/// A value of the contract, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wire<T>(pub(super) T);

macro_rules! pod {
    ($($value:ty),*) => {$(
        // SAFETY: `repr(C)`, made of integers and arrays of integers only, and without padding: the contract asserts
        // each size to be the sum of its fields.
        unsafe impl aya::Pod for Wire<$value> {}
    )*};
}
pod!(Endpoint, Origin, Route, Settings, Steered);

/// Reads an event from the ring; `None` when it is too short.
pub(super) fn event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `Event`; the ring aligns to 8 bytes, but this does not
    // rely on it.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<Event>()) })
}

pub(super) fn address(ip: IpAddr) -> Address {
    let v6 = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let octets = v6.octets();
    let word = |at: usize| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: self::address(address.ip()), port: u32::from(address.port()) }
}

pub(super) fn ip(address: Address) -> IpAddr {
    let mut octets = [0u8; 16];
    for (four, word) in octets.chunks_exact_mut(4).zip(address) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    let v6 = Ipv6Addr::from(octets);
    if address[2] == MAPPED && address[0] == 0 && address[1] == 0 {
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    } else {
        IpAddr::V6(v6)
    }
}

pub(super) fn socket_addr(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(ip(endpoint.address), u16::try_from(endpoint.port).unwrap_or(0))
}

/// A process name; what is not UTF-8 is replaced.
pub(super) fn name(comm: [u8; COMM]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

/// CLOCK_MONOTONIC, the clock of the hooks, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_cross_and_come_back() {
        for text in ["127.0.0.1:80", "10.2.3.4:65535", "[::1]:443", "[2001:db8::7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(socket_addr(endpoint(address)), address);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(socket_addr(endpoint(mapped)), "10.0.0.1:80".parse().unwrap());
    }
}
