//! The two ends of what `sk_lookup` programs are asked about, and the numbers that they have in common. It knows no map.

use aya_ebpf::bindings::bpf_sk_lookup;
use nodetap_ebpf_common::{Address, MAPPED};

pub const AF_INET: u32 = 2;
pub const IPPROTO_TCP: u32 = 6;
/// BPF_SK_LOOKUP_F_REPLACE: overrule what an earlier program chose.
pub const REPLACE: u64 = 1;

/// Whom the connection is for.
///
/// # Safety
/// `lookup` is the context of the program that runs.
#[inline(always)]
pub unsafe fn local_address(lookup: *mut bpf_sk_lookup, v4: bool) -> Address {
    // SAFETY: see above; word by word, because the verifier refuses wide accesses.
    unsafe {
        if v4 {
            return [0, 0, MAPPED, (*lookup).local_ip4];
        }
        [
            core::ptr::read_volatile(&raw const (*lookup).local_ip6[0]),
            core::ptr::read_volatile(&raw const (*lookup).local_ip6[1]),
            core::ptr::read_volatile(&raw const (*lookup).local_ip6[2]),
            core::ptr::read_volatile(&raw const (*lookup).local_ip6[3]),
        ]
    }
}

/// Whose it is.
///
/// # Safety
/// As of [`local_address`].
#[inline(always)]
#[allow(dead_code, reason = "the fallback does not ask who calls")]
pub unsafe fn remote_address(lookup: *mut bpf_sk_lookup, v4: bool) -> Address {
    // SAFETY: as above.
    unsafe {
        if v4 {
            return [0, 0, MAPPED, (*lookup).remote_ip4];
        }
        [
            core::ptr::read_volatile(&raw const (*lookup).remote_ip6[0]),
            core::ptr::read_volatile(&raw const (*lookup).remote_ip6[1]),
            core::ptr::read_volatile(&raw const (*lookup).remote_ip6[2]),
            core::ptr::read_volatile(&raw const (*lookup).remote_ip6[3]),
        ]
    }
}
