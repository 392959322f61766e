//! `sockops`: what the target's TCP sockets do. A steered connection gets its client address here (before the final
//! ACK of the handshake leaves, so before our accept() can return); listening sockets are counted where they begin and
//! end; connections that are not steered are reported when they fail or close. It never sets `reply`, which is shared.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use nodetap_ebpf_common::{COMM, Counter, Endpoint, Event, EventKind, Listening, MAPPED, Steered};

use crate::maps::{self, DIRECT, LISTENERS, LISTENING, ORIGINS, REFUSED, SETTINGS, STEERED};

const TCP_CONNECT_CB: u32 = 3;
const ACTIVE_ESTABLISHED_CB: u32 = 4;
const STATE_CB: u32 = 10;
const TCP_LISTEN_CB: u32 = 11;
/// BPF_SOCK_OPS_STATE_CB_FLAG.
const STATE_CB_FLAG: u32 = 4;
const AF_INET6: u32 = 10;
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
const NO_EXIST: u64 = 1;
const LOOPBACK4: [u32; 4] = [0, 0, MAPPED, u32::from_be(0x7f00_0001)];
const LOOPBACK6: [u32; 4] = [0, 0, 0, u32::from_be(1)];

#[sock_ops]
pub fn socket_state(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT_CB => watch_state(&ctx),
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
fn established(ctx: &SockOpsContext) {
    // SAFETY: the helper takes the program's own context; the value is copied by the insert.
    let Some(origin) = (unsafe { ORIGINS.get(bpf_get_socket_cookie(ctx.as_ptr())) }) else { return };
    let key = Steered { client: local(ctx), listener_port: remote(ctx).port };
    if STEERED.insert(key, origin, 0).is_err() {
        maps::count(Counter::MapFull);
    }
}

#[inline(always)]
fn listen(ctx: &SockOpsContext) {
    let Some(settings) = SETTINGS.get(0) else { return };
    // SAFETY: the helpers take the program's own context.
    let (cookie, netns) = unsafe { (bpf_get_socket_cookie(ctx.as_ptr()), bpf_get_netns_cookie(ctx.as_ptr())) };
    if netns != settings.netns_cookie {
        return;
    }
    watch_state(ctx);
    let endpoint = local(ctx);
    if LISTENERS.insert(cookie, endpoint, 0).is_err() {
        maps::count(Counter::MapFull);
    }
    if let Some(listening) = LISTENING.get_ptr_mut(endpoint) {
        // SAFETY: the entry is a map value, shared with other CPUs: hence the atomic.
        unsafe { add(&raw mut (*listening).sockets, 1) };
    } else if LISTENING.insert(endpoint, Listening { sockets: 1, v6only: 0, padding: 0 }, NO_EXIST).is_err() {
        maps::count(Counter::MapFull);
    }
    forget_refusal(&endpoint);
    event(ctx, cookie, EventKind::Listen, endpoint);
}

/// A program that waits for its own server must not be left alone for the rest of the hold.
#[inline(always)]
fn forget_refusal(endpoint: &Endpoint) {
    let _ = REFUSED.remove(endpoint);
    let _ = REFUSED.remove(Endpoint { address: LOOPBACK4, port: endpoint.port });
    let _ = REFUSED.remove(Endpoint { address: LOOPBACK6, port: endpoint.port });
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, from: u32) {
    // SAFETY: the helper takes the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if from == LISTEN {
        return stopped_listening(ctx, cookie);
    }
    if ORIGINS.remove(cookie).is_ok() && from == SYN_SENT {
        maps::count(Counter::SteeredFailed);
    }
    if DIRECT.remove(cookie).is_ok() {
        let kind = if from == SYN_SENT { EventKind::DirectFailed } else { EventKind::DirectClosed };
        event(ctx, cookie, kind, local(ctx));
    }
}

#[inline(always)]
fn stopped_listening(ctx: &SockOpsContext, cookie: u64) {
    // SAFETY: the value is copied out.
    let Some(endpoint) = (unsafe { LISTENERS.get(cookie) }).copied() else { return };
    let _ = LISTENERS.remove(cookie);
    // SAFETY: as in `listen`.
    unsafe {
        if let Some(listening) = LISTENING.get_ptr_mut(endpoint) {
            if (*listening).sockets <= 1 {
                let _ = LISTENING.remove(endpoint);
            } else {
                add(&raw mut (*listening).sockets, u64::MAX);
            }
        }
    }
    event(ctx, cookie, EventKind::ListenClosed, endpoint);
}

#[inline(always)]
fn event(ctx: &SockOpsContext, cookie: u64, kind: EventKind, local: Endpoint) {
    // SAFETY: the context is the kernel's; the verifier checks each field access.
    let (sent, received, retransmits) =
        unsafe { ((*ctx.ops).bytes_acked, (*ctx.ops).bytes_received, (*ctx.ops).total_retrans) };
    maps::tell(&Event {
        cookie,
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
        // The kernel counts the SYN among the acknowledged bytes, and the FIN among the received ones.
        sent: sent.saturating_sub(1),
        received: received.saturating_sub(1),
        local,
        remote: remote(ctx),
        kind: kind as u32,
        reason: 0,
        retransmits,
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
    // SAFETY: as in `event`; word by word, because the verifier refuses wide accesses to these fields.
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

/// Adds to a counter that several CPUs may touch at once. The intrinsic, because Rust offers no `fetch_add` for a
/// target that it believes to have no compare-and-swap; BPF has had this instruction since 4.x.
#[inline(always)]
unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller passes a live, aligned map value.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}
