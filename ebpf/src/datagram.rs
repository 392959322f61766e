//! Datagrams are never steered, but shown: `sendmsg4/6` see the destinations of sockets that are not connected, and
//! `connect4/6` those of sockets that are. Resolvers connect only to ask for the way, so such a socket counts when its
//! first packet leaves (`egress`, the one hook that every packet passes: it looks at the protocol and is done with TCP).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns,
    bpf_sk_fullsock,
};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext};
use nodetap_ebpf_common::{
    COMM, Connected, Counter, Endpoint, Event, EventKind, OUTBOUND, Place, STEER_LOOPBACK, Sent,
};

use crate::connect::{destination4, destination6, is_loopback, is_scoped};
use crate::maps::{self, CONNECTED, SENT, TARGETS};

const PROCEED: i32 = 1;
const IPPROTO_UDP: u32 = 17;

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sent(&ctx, destination4(&ctx), true);
    PROCEED
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let (destination, mapped) = destination6(&ctx);
    sent(&ctx, destination, mapped);
    PROCEED
}

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context is the kernel's, and the socket is checked for null, as the verifier demands.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PROCEED;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() || (*sk).protocol != IPPROTO_UDP {
            return PROCEED;
        }
        let cookie = bpf_get_socket_cookie(ctx.as_ptr());
        if let Some(connected) = CONNECTED.get(cookie).copied()
            && CONNECTED.remove(cookie).is_ok()
        {
            tell(cookie, &connected);
        }
    }
    PROCEED
}

/// A datagram socket was connected; what it sends now passes no other hook.
#[inline(always)]
pub fn connected(ctx: &SockAddrContext, destination: Endpoint, v4: bool) {
    let Some((cookie, connected)) = of_interest(ctx, destination, v4) else { return };
    if CONNECTED.insert(cookie, connected, 0).is_err() {
        maps::count(connected.place.netns, Counter::MapFull);
    }
}

#[inline(always)]
fn sent(ctx: &SockAddrContext, destination: Endpoint, v4: bool) {
    let Some((cookie, connected)) = of_interest(ctx, destination, v4) else { return };
    let key = Sent { cookie, place: connected.place };
    // SAFETY: only the presence of the entry is asked for.
    if unsafe { SENT.get(key) }.is_none() {
        let _ = SENT.insert(key, 1, 0);
        tell(cookie, &connected);
    }
}

/// Who sends there, unless it is nobody of ours, a loopback or multicast address, or to be left alone.
#[inline(always)]
fn of_interest(ctx: &SockAddrContext, destination: Endpoint, v4: bool) -> Option<(u64, Connected)> {
    // SAFETY: the helpers take the program's own context; the value is only read.
    unsafe {
        let netns = bpf_get_netns_cookie(ctx.as_ptr());
        let settings = TARGETS.get(netns)?;
        if is_scoped(&destination.address, v4)
            || settings.flags & STEER_LOOPBACK == 0 && is_loopback(&destination.address, v4)
        {
            return None;
        }
        if maps::is_ignored(netns, OUTBOUND, destination.address, destination.port) {
            return None;
        }
        let comm = bpf_get_current_comm().unwrap_or([0; COMM]);
        let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        let connected = Connected { place: Place::new(netns, destination), pid, comm, padding: 0 };
        Some((bpf_get_socket_cookie(ctx.as_ptr()), connected))
    }
}

#[inline(always)]
fn tell(cookie: u64, Connected { place, pid, comm, .. }: &Connected) {
    maps::count(place.netns, Counter::Datagram);
    maps::tell(&Event {
        cookie,
        netns: place.netns,
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sent: 0,
        received: 0,
        local: Endpoint { address: [0; 4], port: 0 },
        remote: place.endpoint,
        kind: EventKind::Datagram as u32,
        reason: 0,
        retransmits: 0,
        pid: *pid,
        comm: *comm,
    });
}
