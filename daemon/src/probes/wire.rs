//! Between Rust's values and the bytes of the contract, and of some commands of bpf(2). Beside one socket option, the only
//! `unsafe` of the daemon.
#![allow(unsafe_code, reason = "values cross to the kernel as bytes, and commands as pointers")]

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nodetap_ebpf_common::{
    Address, COMM, Connected, Endpoint, Event, IgnoredPort, MAPPED, Origin, Place, Route, Sent, Settings, Steered, Way,
};

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
pod!(Connected, Endpoint, IgnoredPort, Origin, Place, Route, Sent, Settings, Steered, Way);

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}
const _: () = assert!(size_of::<Load>() == 72);

/// The same for BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}
const _: () = assert!(size_of::<Link>() == 16);

/// The same for BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}
const _: () = assert!(size_of::<Pin>() == 16);

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;
/// Loads that a signal interrupted are tried again so often.
const ATTEMPTS: u32 = 5;

/// Loads a program of this type. It holds the maps that its instructions name by their descriptors.
pub(super) fn load_sk_lookup(name: &str, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    prog_name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
    let load = Load {
        prog_type: BPF_PROG_TYPE_SK_LOOKUP,
        insn_cnt: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: BPF_SK_LOOKUP,
    };
    let mut attempts = ATTEMPTS;
    loop {
        // SAFETY: `load` points to `insn_cnt` instructions of 8 bytes each and to a string, which live longer than the
        // call; the kernel only reads them.
        match unsafe { bpf(BPF_PROG_LOAD, &load) } {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && attempts > 0 => attempts -= 1,
            answer => return answer,
        }
    }
}

/// Attaches a program to a control group or a network namespace, for as long as the descriptor is open. Several programs
/// at one place are allowed by this call without a flag (Linux 5.7).
pub(super) fn link(program: &OwnedFd, target: impl AsFd, attach_type: u32) -> io::Result<OwnedFd> {
    let (prog_fd, target_fd) = (number(program)?, number(target)?);
    // SAFETY: no pointer is in it.
    unsafe { bpf(BPF_LINK_CREATE, &Link { prog_fd, target_fd, attach_type, flags: 0 }) }
}

/// Gives a link or a map a name on a BPF file system: it stays for as long as that is there.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pin = Pin { pathname: path.as_ptr() as u64, bpf_fd: number(object)?, file_flags: 0 };
    // SAFETY: the string lives longer than the call; the kernel only reads it.
    unsafe { command(BPF_OBJ_PIN, &pin) }.map(drop)
}

/// Takes a pinned link off at once: without this it goes some time after its name.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let get = Pin { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the string lives longer than the call; the kernel only reads it.
    let link = unsafe { bpf(BPF_OBJ_GET, &get) }?;
    // SAFETY: no pointer is in it; it begins with the link's descriptor, and that is all.
    unsafe { command(BPF_LINK_DETACH, &number(link.as_fd())?) }.map(drop)
}

fn number(fd: impl AsFd) -> io::Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A command of bpf(2) that answers with a descriptor.
///
/// # Safety
/// As of [`command`]; the command is one of these.
unsafe fn bpf<T>(number: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; the kernel has just made this descriptor for us.
    unsafe { command(number, attribute).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// A command of bpf(2), and its answer.
///
/// # Safety
/// `attribute` is what the command wants, and what it points to is valid for the length of the call.
unsafe fn command<T>(number: libc::c_long, attribute: &T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the size is the attribute's own.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, number, std::ptr::from_ref(attribute), size_of::<T>()) };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

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
