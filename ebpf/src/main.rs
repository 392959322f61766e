//! nodetap's kernel programs, one hook family a file. They decide from maps that user space fills, and step aside as
//! soon as user space is gone, stopped or hung: see `alive` in [`maps`].
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "one atomic addition; see sockops")]
#![allow(
    unsafe_code,
    reason = "kernel programs read their context and their maps through raw pointers; the verifier proves each access"
)]
#![allow(unreachable_pub, reason = "programs and maps are exported by their ELF symbols, not by Rust paths")]

mod connect;
mod datagram;
mod ends;
mod maps;
mod names;
mod sk_lookup;
mod sockops;

/// The verifier refuses every program that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers that are marked GPL-only are used; the rest of nodetap is Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
