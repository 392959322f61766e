//! `sk_lookup`: runs when a SYN arrives in the network namespace and no established socket wants it. It hands the
//! connection to our listener only while the target itself listens there, so that "connection refused" stays what it
//! was; everybody else's listeners, and our own dials to the target, are left alone. No helper tells it which namespace
//! it runs in: user space writes that into its instructions and loads it once for each.

use core::arch::asm;

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use nodetap_ebpf_common::{
    Address, Counter, Endpoint, INBOUND as DIRECTION, MAPPED, NETNS_PLACEHOLDER, Place, SLOT_PLACEHOLDER,
    STEER_INBOUND, STEER_LOOPBACK,
};

use crate::ends::{AF_INET, IPPROTO_TCP, REPLACE, local_address, remote_address};
use crate::maps::{self, DIALS, FOREIGN, INBOUND, TARGETS, V6ONLY};

const PASS: u32 = 1;

#[sk_lookup]
pub fn inbound(ctx: SkLookupContext) -> u32 {
    // SAFETY: the context is the kernel's; the verifier checks each field access.
    unsafe { steer(&ctx, ctx.lookup) };
    PASS
}

/// The constants of this instance of the program. Assembly, because user space looks for exactly this instruction; once
/// each, so that what is looked for is found once.
#[inline(always)]
fn own_constants() -> (u64, u32) {
    let netns: u64;
    let slot: u64;
    // SAFETY: loads two constants into registers.
    unsafe {
        asm!("{0} = {netns} ll", out(reg) netns, netns = const NETNS_PLACEHOLDER, options(pure, nomem, nostack));
        asm!("{0} = {slot} ll", out(reg) slot, slot = const SLOT_PLACEHOLDER, options(pure, nomem, nostack));
    }
    (netns, slot as u32)
}

#[inline(always)]
unsafe fn steer(ctx: &SkLookupContext, lookup: *mut bpf_sk_lookup) -> Option<()> {
    // SAFETY: see the caller; map values are only read.
    unsafe {
        let (netns, slot) = own_constants();
        let settings = TARGETS.get(netns)?;
        if (*lookup).protocol != IPPROTO_TCP || settings.flags & STEER_INBOUND == 0 {
            return None;
        }
        let v4 = (*lookup).family == AF_INET;
        let local = Endpoint { address: local_address(lookup, v4), port: (*lookup).local_port };
        let remote =
            Endpoint { address: remote_address(lookup, v4), port: u32::from(u16::from_be((*lookup).remote_port)) };
        if DIALS.get(Place::new(netns, remote)).is_some() {
            return None;
        }
        // Also where somebody else shares the very endpoint (SO_REUSEPORT): some of its connections are theirs.
        if FOREIGN.get(Place::new(netns, local)).is_some() {
            return None;
        }
        let exact = maps::is_listening(netns, local);
        if !exact && !wildcard(netns, local.port, v4) {
            return None;
        }
        if settings.flags & STEER_LOOPBACK == 0 && is_loopback(&local.address, v4) {
            maps::count(netns, Counter::LoopbackIn);
            return None;
        }
        if maps::is_ignored(netns, DIRECTION, remote.address, local.port) {
            maps::count(netns, Counter::IgnoredIn);
            return None;
        }
        // Another target's wildcard listener may have been served first: an exact address wins, as in the kernel.
        let flags = if exact { REPLACE } else { 0 };
        if maps::alive() && INBOUND.redirect_sk_lookup(ctx, slot + u32::from(!v4), flags).is_ok() {
            maps::count(netns, Counter::SteeredIn);
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(ctx, "inbound: port {} goes to our listener", local.port);
        } else {
            maps::count(netns, Counter::AwayIn);
        }
        Some(())
    }
}

/// Does the target listen on all addresses of this family?
#[inline(always)]
fn wildcard(netns: u64, port: u32, v4: bool) -> bool {
    if v4 && maps::is_listening(netns, Endpoint { address: [0, 0, MAPPED, 0], port }) {
        return true;
    }
    let any = Endpoint { address: [0; 4], port };
    // SAFETY: the value is only read.
    maps::is_listening(netns, any) && !(v4 && unsafe { V6ONLY.get(Place::new(netns, any)) }.is_some())
}

/// What only the namespace itself can call.
#[inline(always)]
fn is_loopback(address: &Address, v4: bool) -> bool {
    if v4 {
        u32::from_be(address[3]) >> 24 == 127
    } else {
        address[0] | address[1] | address[2] == 0 && u32::from_be(address[3]) == 1
    }
}
