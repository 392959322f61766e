//! `connect4`, `connect6`: every connect of a target passes here before the kernel looks for a route. The
//! original destination is remembered under the socket's cookie, then replaced by one of our listeners; `sockops` adds
//! the client's own address when it is known. Whatever is in doubt is left as it is, and reported.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns,
    bpf_sk_lookup_tcp, bpf_sk_release,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use nodetap_ebpf_common::{
    Address, COMM, Counter, ELSEWHERE, Endpoint, Event, EventKind, MAPPED, OUTBOUND, Origin, Place, Reason, SHARDS,
    STEER_LOOPBACK, STEER_OUTBOUND, Settings,
};

use crate::datagram;
use crate::maps::{self, DIRECT, ORIGINS, REFUSED, TARGETS};

const PROCEED: i32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;
/// BPF_F_CURRENT_NETNS of `bpf_sk_lookup_tcp`.
const CURRENT_NETNS: u64 = u64::MAX;
const LOOPBACK4: u32 = u32::from_be(0x7f00_0001);
const LAST_OF_LOOPBACK6: u32 = u32::from_be(1);

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let destination = destination4(&ctx);
    match transport(&ctx) {
        Some(Transport::Stream) => {
            if let Some(listener) = steer(&ctx, &destination, true) {
                // SAFETY: the context is the kernel's; the verifier checks each field access.
                unsafe {
                    (*ctx.sock_addr).user_ip4 = LOOPBACK4;
                    (*ctx.sock_addr).user_port = u32::from((listener as u16).to_be());
                }
            }
        }
        Some(Transport::Datagram) => datagram::connected(&ctx, destination, true),
        None => {}
    }
    PROCEED
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let (destination, mapped) = destination6(&ctx);
    match transport(&ctx) {
        Some(Transport::Stream) => {
            if let Some(listener) = steer(&ctx, &destination, mapped) {
                let addr = ctx.sock_addr;
                let last = if mapped { LOOPBACK4 } else { LAST_OF_LOOPBACK6 };
                // SAFETY: as above.
                unsafe {
                    core::ptr::write_volatile(&raw mut (*addr).user_ip6[0], 0);
                    core::ptr::write_volatile(&raw mut (*addr).user_ip6[1], 0);
                    core::ptr::write_volatile(&raw mut (*addr).user_ip6[2], if mapped { MAPPED } else { 0 });
                    core::ptr::write_volatile(&raw mut (*addr).user_ip6[3], last);
                    (*addr).user_port = u32::from((listener as u16).to_be());
                }
            }
        }
        Some(Transport::Datagram) => datagram::connected(&ctx, destination, mapped),
        None => {}
    }
    PROCEED
}

enum Transport {
    Stream,
    Datagram,
}

/// MPTCP sockets come through here as well, and are steered alike.
#[inline(always)]
fn transport(ctx: &SockAddrContext) -> Option<Transport> {
    // SAFETY: as above.
    match unsafe { (*ctx.sock_addr).protocol } {
        IPPROTO_TCP | IPPROTO_MPTCP => Some(Transport::Stream),
        IPPROTO_UDP => Some(Transport::Datagram),
        _ => None,
    }
}

/// Where the program wants to go. 0.0.0.0 means this host, and getpeername() will say so.
#[inline(always)]
pub fn destination4(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: as above.
    let ip = match unsafe { (*ctx.sock_addr).user_ip4 } {
        0 => LOOPBACK4,
        ip => ip,
    };
    Endpoint { address: [0, 0, MAPPED, ip], port: port(ctx) }
}

/// The same of an IPv6 socket, and is it an IPv4 address?
#[inline(always)]
pub fn destination6(ctx: &SockAddrContext) -> (Endpoint, bool) {
    let addr = ctx.sock_addr;
    // SAFETY: as above; read word by word, because the verifier refuses wide accesses to this field.
    let mut address = unsafe {
        [
            core::ptr::read_volatile(&raw const (*addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[3]),
        ]
    };
    let mapped = address[0] == 0 && address[1] == 0 && address[2] == MAPPED;
    if mapped && address[3] == 0 {
        address[3] = LOOPBACK4;
    } else if address[0] | address[1] | address[2] | address[3] == 0 {
        address[3] = LAST_OF_LOOPBACK6;
    }
    (Endpoint { address, port: port(ctx) }, mapped)
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as above. The field holds 16 bits in network order.
    u32::from(u16::from_be(unsafe { (*ctx.sock_addr).user_port } as u16))
}

/// The port of ours that this connect goes to instead, or nothing.
#[inline(always)]
fn steer(ctx: &SockAddrContext, destination: &Endpoint, v4: bool) -> Option<u32> {
    // SAFETY: the helpers take the program's own context.
    let (netns, cookie) = unsafe { (bpf_get_netns_cookie(ctx.as_ptr()), bpf_get_socket_cookie(ctx.as_ptr())) };
    // SAFETY: the value is only read.
    let Some(settings) = (unsafe { TARGETS.get(netns) }) else {
        // The program has gone into a namespace of its own, where none of our listeners stands.
        maps::count_direct(ELSEWHERE, Reason::Off);
        return None;
    };
    match decide(ctx, settings, netns, destination, cookie, v4) {
        Ok(Way { listener, source, bound }) => {
            let origin = Origin {
                cookie,
                netns,
                destination: *destination,
                source,
                bound: u32::from(bound),
                pid: (bpf_get_current_pid_tgid() >> 32) as u32,
                comm: comm(),
                padding: 0,
            };
            if ORIGINS.insert(cookie, origin, 0).is_err() {
                maps::count(netns, Counter::MapFull);
                return None;
            }
            maps::count(netns, Counter::Steered);
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(ctx, "connect: port {} goes to our port {}", destination.port, listener);
            Some(listener)
        }
        Err(reason) => {
            // A socket may connect a second time, after a steered attempt that failed.
            let _ = ORIGINS.remove(cookie);
            maps::count_direct(netns, reason);
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(ctx, "connect: port {} goes by itself, reason {}", destination.port, reason as u32);
            // What the user wants left alone is not reported one by one.
            if !matches!(reason, Reason::Ignored | Reason::Loopback) {
                report(netns, cookie, destination, reason);
            }
            None
        }
    }
}

/// Where a steered connect goes, and what stands for its own address.
struct Way {
    listener: u32,
    source: Address,
    bound: bool,
}

#[inline(always)]
fn decide(
    ctx: &SockAddrContext,
    settings: &Settings,
    netns: u64,
    destination: &Endpoint,
    cookie: u64,
    v4: bool,
) -> Result<Way, Reason> {
    if settings.flags & STEER_LOOPBACK == 0 && is_loopback(&destination.address, v4) {
        return Err(Reason::Loopback);
    }
    // Before all others: what the user wants left alone went past us for no fault of ours.
    if maps::is_ignored(netns, OUTBOUND, destination.address, destination.port) {
        return Err(Reason::Ignored);
    }
    let shards = if v4 { settings.shards4 } else { settings.shards6 };
    if settings.flags & STEER_OUTBOUND == 0 || shards == 0 {
        return Err(Reason::Off);
    }
    if !maps::alive() {
        return Err(Reason::Away);
    }
    let own = own(ctx, v4);
    if is_scoped(&destination.address, v4) || own.device != 0 {
        return Err(Reason::Scoped);
    }
    let kernels_choice = own.port == 0 || own.port >= settings.ephemeral[0] && own.port <= settings.ephemeral[1];
    if own.mark != 0 || !kernels_choice {
        return Err(Reason::Chosen);
    }
    // SAFETY: the value is only read.
    if let Some(until) = unsafe { REFUSED.get(Place::new(netns, *destination)) } {
        // SAFETY: the helper has no preconditions.
        if unsafe { bpf_ktime_get_ns() } < *until {
            return Err(Reason::Refused);
        }
    }
    let route = maps::route(netns, destination.address).ok_or(Reason::NoRoute)?;
    if route.usable == 0 {
        return Err(Reason::NoRoute);
    }
    let shard = (cookie as usize) & (shards as usize).wrapping_sub(1) & (SHARDS - 1);
    let listener = if v4 { settings.ports4[shard] } else { settings.ports6[shard] };
    if !listens(ctx, listener, v4) {
        return Err(Reason::Away);
    }
    Ok(if own.is_bound(v4) {
        Way { listener, source: own.address, bound: true }
    } else {
        Way { listener, source: route.source, bound: false }
    })
}

/// 127.0.0.0/8, ::1 and the first mapped.
#[inline(always)]
pub fn is_loopback(address: &Address, v4: bool) -> bool {
    if v4 {
        u32::from_be(address[3]) >> 24 == 127
    } else {
        address[0] | address[1] | address[2] == 0 && address[3] == LAST_OF_LOOPBACK6
    }
}

/// Multicast and broadcast (224.0.0.0 upwards, ff00::/8), and fe80::/10, whose zone no hook can see.
#[inline(always)]
pub fn is_scoped(address: &Address, v4: bool) -> bool {
    if v4 {
        u32::from_be(address[3]) >= 0xe000_0000
    } else {
        let first = u32::from_be(address[0]) >> 16;
        first & 0xff00 == 0xff00 || first & 0xffc0 == 0xfe80
    }
}

/// What the program has said about its own end of the connection.
struct Own {
    address: Address,
    port: u32,
    device: u32,
    mark: u32,
}

impl Own {
    #[inline(always)]
    fn is_bound(&self, v4: bool) -> bool {
        let last = self.address[3] != 0;
        if v4 { last } else { last || self.address[0] | self.address[1] | self.address[2] != 0 }
    }
}

#[inline(always)]
fn own(ctx: &SockAddrContext, v4: bool) -> Own {
    // SAFETY: `sk` is checked for null, as the verifier demands; its fields are read word by word.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if sk.is_null() {
            return Own { address: [0; 4], port: 0, device: 0, mark: 0 };
        }
        // All of them, always: the compiler would else compute which one to read, which the verifier refuses here.
        let ip4 = core::ptr::read_volatile(&raw const (*sk).src_ip4);
        let ip6 = [
            core::ptr::read_volatile(&raw const (*sk).src_ip6[0]),
            core::ptr::read_volatile(&raw const (*sk).src_ip6[1]),
            core::ptr::read_volatile(&raw const (*sk).src_ip6[2]),
            core::ptr::read_volatile(&raw const (*sk).src_ip6[3]),
        ];
        let address = if v4 { [0, 0, MAPPED, ip4] } else { ip6 };
        Own { address, port: (*sk).src_port, device: (*sk).bound_dev_if, mark: (*sk).mark }
    }
}

/// Does our listener stand in the namespace of this socket? If we died this very moment, it does not.
#[inline(always)]
fn listens(ctx: &SockAddrContext, port: u32, v4: bool) -> bool {
    let port = (port as u16).to_be();
    let (mut tuple, size) = if v4 {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr: 0, daddr: LOOPBACK4, sport: 0, dport: port };
        (bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 } }, size_of_val(&ipv4))
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: [0; 4],
            daddr: [0, 0, 0, LAST_OF_LOOPBACK6],
            sport: 0,
            dport: port,
        };
        (bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6 } }, size_of_val(&ipv6))
    };
    // SAFETY: the tuple lives on the stack for the length of the call, and the socket is released at once.
    unsafe {
        let sk = bpf_sk_lookup_tcp(ctx.as_ptr(), &mut tuple, size as u32, CURRENT_NETNS, 0);
        if sk.is_null() {
            return false;
        }
        bpf_sk_release(sk.cast());
    }
    true
}

#[inline(always)]
fn report(netns: u64, cookie: u64, destination: &Endpoint, reason: Reason) {
    if DIRECT.insert(cookie, Place::new(netns, *destination), 0).is_err() {
        maps::count(netns, Counter::MapFull);
    }
    maps::tell(&Event {
        cookie,
        netns,
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sent: 0,
        received: 0,
        local: Endpoint { address: [0; 4], port: 0 },
        remote: *destination,
        kind: EventKind::Direct as u32,
        reason: reason as u32,
        retransmits: 0,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        comm: comm(),
    });
}

#[inline(always)]
fn comm() -> [u8; COMM] {
    bpf_get_current_comm().unwrap_or_default()
}
