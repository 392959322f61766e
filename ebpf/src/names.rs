//! `getpeername4/6` and `getsockname4/6`: the target sees the addresses that it would see without us. `accept()` asks
//! the same hook for the peer, so servers need no X-Forwarded-For.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use nodetap_ebpf_common::{Address, Endpoint, MAPPED, Place};

use crate::maps::{DIALS, ORIGINS};

const PROCEED: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(peer) = real_peer(&ctx, &current4(&ctx)) {
        answer4(&ctx, peer.address[3], Some(peer.port));
    }
    PROCEED
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(peer) = real_peer(&ctx, &current6(&ctx)) {
        answer6(&ctx, &peer.address, Some(peer.port));
    }
    PROCEED
}

#[cgroup_sock_addr(getsockname4)]
pub fn getsockname4(ctx: SockAddrContext) -> i32 {
    if let Some(address) = real_source(&ctx, &current4(&ctx).address) {
        answer4(&ctx, address[3], None);
    }
    PROCEED
}

#[cgroup_sock_addr(getsockname6)]
pub fn getsockname6(ctx: SockAddrContext) -> i32 {
    if let Some(address) = real_source(&ctx, &current6(&ctx).address) {
        answer6(&ctx, &address, None);
    }
    PROCEED
}

/// Outbound: the original destination. Inbound: the client whose connection we dialled for.
#[inline(always)]
fn real_peer(ctx: &SockAddrContext, current: &Endpoint) -> Option<Endpoint> {
    // SAFETY: the helper takes the program's own context; the values are copied out.
    unsafe {
        let cookie = bpf_get_socket_cookie(ctx.as_ptr());
        match ORIGINS.get(cookie) {
            Some(origin) => Some(origin.destination),
            None => DIALS.get(Place::new(bpf_get_netns_cookie(ctx.as_ptr()), *current)).copied(),
        }
    }
}

/// Only where the kernel chose the loopback address because of us: a source that the program bound stays.
#[inline(always)]
fn real_source(ctx: &SockAddrContext, current: &Address) -> Option<Address> {
    // SAFETY: as above.
    let origin = unsafe { ORIGINS.get(bpf_get_socket_cookie(ctx.as_ptr())) }?;
    let known = origin.bound == 0 && origin.source[0] | origin.source[1] | origin.source[2] | origin.source[3] != 0;
    let loopback = if current[2] == MAPPED {
        u32::from_be(current[3]) >> 24 == 127
    } else {
        current[0] | current[1] | current[2] == 0 && u32::from_be(current[3]) == 1
    };
    (known && loopback).then_some(origin.source)
}

#[inline(always)]
fn current4(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: the context is the kernel's; the verifier checks each field access.
    unsafe {
        let port = u32::from(u16::from_be((*ctx.sock_addr).user_port as u16));
        Endpoint { address: [0, 0, MAPPED, (*ctx.sock_addr).user_ip4], port }
    }
}

#[inline(always)]
fn current6(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: as above; read word by word, because the verifier refuses wide accesses to this field.
    unsafe {
        let addr = ctx.sock_addr;
        let address = [
            core::ptr::read_volatile(&raw const (*addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*addr).user_ip6[3]),
        ];
        Endpoint { address, port: u32::from(u16::from_be((*addr).user_port as u16)) }
    }
}

#[inline(always)]
fn answer4(ctx: &SockAddrContext, address: u32, port: Option<u32>) {
    // SAFETY: as above.
    unsafe {
        (*ctx.sock_addr).user_ip4 = address;
        if let Some(port) = port {
            (*ctx.sock_addr).user_port = u32::from((port as u16).to_be());
        }
    }
}

#[inline(always)]
fn answer6(ctx: &SockAddrContext, address: &Address, port: Option<u32>) {
    // SAFETY: as above.
    unsafe {
        let addr = ctx.sock_addr;
        core::ptr::write_volatile(&raw mut (*addr).user_ip6[0], address[0]);
        core::ptr::write_volatile(&raw mut (*addr).user_ip6[1], address[1]);
        core::ptr::write_volatile(&raw mut (*addr).user_ip6[2], address[2]);
        core::ptr::write_volatile(&raw mut (*addr).user_ip6[3], address[3]);
        if let Some(port) = port {
            (*addr).user_port = u32::from((port as u16).to_be());
        }
    }
}
