//! The fallback of a pod's reverse listeners: an object of its own, loaded once a pod and pinned, because it is for the
//! time in which nobody of us is there. `answer` hands a connection for one of our listeners to that listener while we
//! run, and to the application's own one otherwise; `refill` puts the application's listener back when the application
//! has restarted. Every map speaks of one pod only, so nothing here asks whose a connection is.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "one atomic addition; see sockops")]
#![allow(
    unsafe_code,
    reason = "kernel programs read their context and their maps through raw pointers; the verifier proves each access"
)]
#![allow(unreachable_pub, reason = "programs and maps are exported by their ELF symbols, not by Rust paths")]

mod ends;

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::{map, sk_lookup, sock_ops};
use aya_ebpf::maps::{Array, HashMap, SockMap};
use aya_ebpf::programs::{SkLookupContext, SockOpsContext};
use nodetap_ebpf_common::{
    BYPASSED, BYPASSED_FIRST, BYPASSED_LAST, Endpoint, FALLBACK_LISTENERS, HEARTBEAT_STALE_NS, Way,
};

use self::ends::{AF_INET, IPPROTO_TCP, REPLACE, local_address};

const PASS: u32 = 1;
const AF_INET6: u32 = 10;
const TCP_LISTEN_CB: u32 = 11;

/// The pod's network namespace: containers may have made others.
#[map]
static NETNS: Array<u64> = Array::with_max_entries(1, 0);
/// CLOCK_MONOTONIC nanoseconds, written by user space twice a second.
#[map]
static BEAT: Array<u64> = Array::with_max_entries(1, 0);
/// The addresses of our listeners.
#[map]
static WAYS: HashMap<Endpoint, Way> = HashMap::with_max_entries(FALLBACK_LISTENERS, 0);
/// The application's ports behind them → the first of its two slots.
#[map]
static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(FALLBACK_LISTENERS, 0);
/// Our listeners. One that was closed is gone from here.
#[map]
static OURS: SockMap = SockMap::with_max_entries(FALLBACK_LISTENERS, 0);
/// The application's. Listening sockets only, never an established one.
#[map]
static APPLICATIONS: SockMap = SockMap::with_max_entries(2 * FALLBACK_LISTENERS, 0);
/// See `BYPASSED`.
#[map]
static BYPASS: Array<u64> = Array::with_max_entries(3, 0);

#[sk_lookup]
pub fn answer(ctx: SkLookupContext) -> u32 {
    // SAFETY: the context is the kernel's; the verifier checks each field access.
    unsafe { choose(&ctx) };
    PASS
}

/// # Safety
/// `ctx` is the context of the program that runs.
#[inline(always)]
unsafe fn choose(ctx: &SkLookupContext) -> Option<()> {
    // SAFETY: the caller's promise; map values are only read.
    let (way, v4) = unsafe {
        let lookup = ctx.lookup;
        if (*lookup).protocol != IPPROTO_TCP {
            return None;
        }
        let v4 = (*lookup).family == AF_INET;
        (*WAYS.get(Endpoint { address: local_address(lookup, v4), port: (*lookup).local_port })?, v4)
    };
    // A fallback that was there before this one may have chosen already.
    if alive() && OURS.redirect_sk_lookup(ctx, way.ours, REPLACE).is_ok() {
        return Some(());
    }
    // An IPv6 socket takes IPv4 too, unless it was told not to: the kernel refuses it here then.
    let taken = v4 && APPLICATIONS.redirect_sk_lookup(ctx, way.application, REPLACE).is_ok()
        || APPLICATIONS.redirect_sk_lookup(ctx, way.application + 1, REPLACE).is_ok();
    // Otherwise it is as without us: whoever listens there, or a refusal.
    if taken {
        count();
    }
    Some(())
}

/// Has user space shown within the last two seconds that it runs?
#[inline(always)]
fn alive() -> bool {
    let Some(beat) = BEAT.get(0) else { return false };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // A beat that came after `now` was read is not a stale one.
    now.saturating_sub(*beat) < HEARTBEAT_STALE_NS
}

#[inline(always)]
fn count() {
    let slots = (BYPASS.get_ptr_mut(BYPASSED), BYPASS.get_ptr_mut(BYPASSED_FIRST), BYPASS.get_ptr_mut(BYPASSED_LAST));
    let (Some(number), Some(first), Some(last)) = slots else { return };
    // SAFETY: live, aligned map values. The number is added to by all CPUs in the same way; which of two that come at
    // once is the first does not matter.
    unsafe {
        let now = bpf_ktime_get_ns();
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, 1);
        if *first == 0 {
            *first = now;
        }
        *last = now;
    }
}

#[sock_ops]
pub fn refill(ctx: SockOpsContext) -> u32 {
    if ctx.op() == TCP_LISTEN_CB {
        listens(&ctx);
    }
    0
}

#[inline(always)]
fn listens(ctx: &SockOpsContext) -> Option<()> {
    // SAFETY: the helper takes the program's own context; map values are only read.
    let slot = unsafe {
        if *NETNS.get(0)? != bpf_get_netns_cookie(ctx.as_ptr()) {
            return None;
        }
        let port = ctx.local_port();
        *PORTS.get(port)?
    };
    let slot = slot + u32::from(ctx.family() == AF_INET6);
    // SAFETY: the context is the kernel's. What does not fit is as without a fallback.
    let _ = unsafe { APPLICATIONS.update(slot, ctx.ops, 0) };
    Some(())
}

/// The verifier refuses every program that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers that are marked GPL-only are used; the rest of nodetap is Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
