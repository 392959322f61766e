//! `sockops`: what the target's TCP sockets do. A steered connection gets its client address here (before the final
//! ACK of the handshake leaves, so before our accept() can return); listening sockets are counted where they begin and
//! end; connections that are not steered are reported when they fail or close. It never sets `reply`, which is shared.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use nodetap_ebpf_common::{COMM, Counter, Endpoint, Event, EventKind, MAPPED, Place, Steered};

use crate::maps::{self, DIRECT, LISTENERS, LISTENING, ORIGINS, REFUSED, STEERED, TARGETS};

const TCP_CONNECT_CB: u32 = 3;
const ACTIVE_ESTABLISHED_CB: u32 = 4;
const STATE_CB: u32 = 10;
const TCP_LISTEN_CB: u32 = 11;
/// BPF_SOCK_OPS_STATE_CB_FLAG.
const STATE_CB_FLAG: u32 = 4;
const AF_INET6: u32 = 10;
// States of the kernel's `tcp_states.h`.
const SYN_SENT: u32 = 2;
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const LISTEN: u32 = 10;
const CLOSING: u32 = 11;
const NO_EXIST: u64 = 1;
const LOOPBACK4: [u32; 4] = [0, 0, MAPPED, u32::from_be(0x7f00_0001)];
const LOOPBACK6: [u32; 4] = [0, 0, 0, u32::from_be(1)];

#[sock_ops]
pub fn socket_state(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT_CB => connecting(&ctx),
        ACTIVE_ESTABLISHED_CB => established(&ctx),
        TCP_LISTEN_CB => listen(&ctx),
        STATE_CB if ctx.arg(1) == CLOSE => closed(&ctx, ctx.arg(0)),
        _ => {}
    }
    0
}

/// Other programs may have set flags of their own: the call overwrites, so they are kept.
#[inline(always)]
fn watch_state(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags((ctx.cb_flags() | STATE_CB_FLAG) as i32);
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    watch_state(ctx);
    // SAFETY: the helper takes the program's own context; the value is copied out.
    let (cookie, direct) = unsafe {
        let cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (cookie, DIRECT.get(cookie).copied())
    };
    if let Some(direct) = direct {
        event(ctx, direct.netns, cookie, EventKind::DirectBegan, local(ctx));
    }
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    // SAFETY: the helper takes the program's own context; the value is copied by the insert.
    let Some(origin) = (unsafe { ORIGINS.get(bpf_get_socket_cookie(ctx.as_ptr())) }) else { return };
    let key = Steered { netns: origin.netns, client: local(ctx), listener_port: remote(ctx).port };
    if STEERED.insert(key, origin, 0).is_err() {
        maps::count(key.netns, Counter::MapFull);
    }
}

#[inline(always)]
fn listen(ctx: &SockOpsContext) {
    // SAFETY: the helpers take the program's own context; only the presence of the entry is asked for.
    let (cookie, netns, ours) = unsafe {
        let netns = bpf_get_netns_cookie(ctx.as_ptr());
        (bpf_get_socket_cookie(ctx.as_ptr()), netns, TARGETS.get(netns).is_some())
    };
    // A listener that is bound to a device does not take what we dial from loopback.
    if !ours || is_bound_to_device(ctx) {
        return;
    }
    watch_state(ctx);
    let place = Place::new(netns, local(ctx));
    if LISTENERS.insert(cookie, place, 0).is_err() {
        maps::count(netns, Counter::MapFull);
    }
    // Two sockets may begin at once: who comes second to the insert finds the entry.
    if !change(&place, 1) && LISTENING.insert(place, 1, NO_EXIST).is_err() && !change(&place, 1) {
        maps::count(netns, Counter::MapFull);
    }
    forget_refusal(&place);
    event(ctx, netns, cookie, EventKind::Listen, place.endpoint);
}

#[inline(always)]
fn is_bound_to_device(ctx: &SockOpsContext) -> bool {
    // SAFETY: `sk` is checked for null, as the verifier demands.
    unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        !sk.is_null() && (*sk).bound_dev_if != 0
    }
}

/// A program that waits for its own server must not be left alone for the rest of the hold.
#[inline(always)]
fn forget_refusal(Place { netns, endpoint, .. }: &Place) {
    let _ = REFUSED.remove(Place::new(*netns, *endpoint));
    let _ = REFUSED.remove(Place::new(*netns, Endpoint { address: LOOPBACK4, port: endpoint.port }));
    let _ = REFUSED.remove(Place::new(*netns, Endpoint { address: LOOPBACK6, port: endpoint.port }));
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, from: u32) {
    // SAFETY: the helper takes the program's own context; the values are copied out.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if from == LISTEN {
        return stopped_listening(ctx, cookie);
    }
    // SAFETY: as above.
    if let Some(netns) = unsafe { ORIGINS.get(cookie) }.map(|origin| origin.netns)
        && ORIGINS.remove(cookie).is_ok()
        && from == SYN_SENT
    {
        maps::count(netns, Counter::SteeredFailed);
    }
    // SAFETY: as above.
    if let Some(netns) = unsafe { DIRECT.get(cookie) }.map(|direct| direct.netns)
        && DIRECT.remove(cookie).is_ok()
    {
        let kind = if from == SYN_SENT { EventKind::DirectFailed } else { EventKind::DirectClosed };
        let (sent, received) = payload(ctx, from);
        tell(ctx, netns, cookie, kind, local(ctx), sent, received);
    }
}

/// Payload bytes of a connection that ends in state `from`. The kernel counts sequence numbers: the SYN and, once it was
/// acknowledged, the FIN among those sent; the other side's FIN among those received.
#[inline(always)]
fn payload(ctx: &SockOpsContext, from: u32) -> (u64, u64) {
    // SAFETY: the context is the kernel's; the verifier checks each field access.
    let (acked, received) = unsafe { ((*ctx.ops).bytes_acked, (*ctx.ops).bytes_received) };
    let fin_sent = matches!(from, FIN_WAIT2 | LAST_ACK | CLOSING);
    let fin_received = matches!(from, FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING);
    (acked.saturating_sub(1 + u64::from(fin_sent)), received.saturating_sub(u64::from(fin_received)))
}

#[inline(always)]
fn stopped_listening(ctx: &SockOpsContext, cookie: u64) {
    // SAFETY: the value is copied out.
    let Some(place) = (unsafe { LISTENERS.get(cookie) }).copied() else { return };
    let _ = LISTENERS.remove(cookie);
    change(&place, u64::MAX);
    event(ctx, place.netns, cookie, EventKind::ListenClosed, place.endpoint);
}

#[inline(always)]
fn event(ctx: &SockOpsContext, netns: u64, cookie: u64, kind: EventKind, local: Endpoint) {
    tell(ctx, netns, cookie, kind, local, 0, 0);
}

#[inline(always)]
fn tell(ctx: &SockOpsContext, netns: u64, cookie: u64, kind: EventKind, local: Endpoint, sent: u64, received: u64) {
    maps::tell(&Event {
        cookie,
        netns,
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sent,
        received,
        local,
        remote: remote(ctx),
        kind: kind as u32,
        reason: 0,
        // SAFETY: as in `payload`.
        retransmits: unsafe { (*ctx.ops).total_retrans },
        pid: 0,
        comm: [0; COMM],
    });
}

#[inline(always)]
fn local(ctx: &SockOpsContext) -> Endpoint {
    Endpoint { address: address(ctx, ctx.local_ip4(), true), port: ctx.local_port() }
}

#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Endpoint {
    // The kernel leaves the 16 bits in network order in the upper half on little-endian machines.
    Endpoint { address: address(ctx, ctx.remote_ip4(), false), port: u32::from_be(ctx.remote_port()) }
}

/// An IPv6 socket that speaks IPv4 has its addresses mapped already.
#[inline(always)]
fn address(ctx: &SockOpsContext, ip4: u32, local: bool) -> [u32; 4] {
    if ctx.family() != AF_INET6 {
        return [0, 0, MAPPED, ip4];
    }
    // SAFETY: as in `payload`; word by word, because the verifier refuses wide accesses to these fields.
    unsafe {
        let ip6 = if local { &raw const (*ctx.ops).local_ip6 } else { &raw const (*ctx.ops).remote_ip6 };
        [
            core::ptr::read_volatile(&raw const (*ip6)[0]),
            core::ptr::read_volatile(&raw const (*ip6)[1]),
            core::ptr::read_volatile(&raw const (*ip6)[2]),
            core::ptr::read_volatile(&raw const (*ip6)[3]),
        ]
    }
}

/// Adds to the number of sockets that listen there, if it is known. The intrinsic, because Rust offers no `fetch_add`
/// for a target that it believes to have no compare-and-swap; BPF has had this instruction since 4.x.
#[inline(always)]
fn change(place: &Place, by: u64) -> bool {
    let Some(sockets) = LISTENING.get_ptr_mut(place) else { return false };
    // SAFETY: a live, aligned map value, which other CPUs change in the same way.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(sockets, by) };
    true
}
