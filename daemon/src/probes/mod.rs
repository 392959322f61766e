//! The kernel programs from user space: loaded, attached to one cgroup and one network namespace, and asked. Links are
//! never pinned: when this process is gone, so are the hooks. It refuses to know why something is steered.

mod maps;
mod ring;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use aya::programs::{CgroupAttachMode, CgroupSockAddr, SkLookup, SockOps};
use aya::{Ebpf, EbpfLoader};
use nodetap_ebpf_common::{SHARDS, STEER_INBOUND, STEER_OUTBOUND, Settings};
use thiserror::Error;

pub use maps::{Counts, Maps};
pub use ring::{Observation, Observed, Ring, WhyDirect};
pub use wire::monotonic_ns;

use crate::netns;

/// The compiled programs. Checked in, so that a plain `cargo build` needs no eBPF toolchain; `cargo xtask ebpf` makes it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/nodetap.bpf.o");

/// The programs on the target's cgroup.
const CGROUP_PROGRAMS: [&str; 6] =
    ["connect4", "connect6", "getpeername4", "getpeername6", "getsockname4", "getsockname6"];
const SOCKOPS: &str = "socket_state";
const SK_LOOKUP: &str = "inbound";

/// What went wrong with the kernel's side.
#[derive(Debug, Error)]
pub enum Error {
    /// The object was refused: an old kernel, or a missing capability.
    #[error("the kernel does not take nodetap's programs: {}", causes(.0))]
    Load(#[from] aya::EbpfError),
    /// One program was refused.
    #[error("the kernel does not take the program `{name}`: {}", causes(.source))]
    Program { name: &'static str, source: aya::programs::ProgramError },
    /// A map is missing, or does not take a value.
    #[error("the kernel's map `{name}`: {}", causes(.source))]
    Map { name: &'static str, source: aya::maps::MapError },
    /// The object is not the one that this program was built for.
    #[error("the embedded kernel object lacks `{0}`; run `cargo xtask ebpf` and build again")]
    Missing(&'static str),
    /// The identity of the network namespace could not be read.
    #[error("cannot identify the network namespace (SO_NETNS_COOKIE, Linux 5.14): {0}")]
    Namespace(io::Error),
}

impl Error {
    /// Was it the lack of a privilege?
    pub fn is_permission(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            // EPERM: a capability is missing. EACCES is the verifier's word, and no capability helps.
            let errno = error.downcast_ref::<io::Error>().and_then(rustix::io::Errno::from_io_error);
            if errno == Some(rustix::io::Errno::PERM) {
                return true;
            }
            source = error.source();
        }
        false
    }
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // A verifier's log is long: its first line names the call, its last ones the reason.
    tracing::debug!("{text}");
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, .., reason, _statistics] => format!("{first} … {reason}"),
        [first, last] => format!("{first} … {last}"),
    }
}

/// Where the hooks send connections.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// Outbound, on 127.0.0.1 and ::1: a power of two of each, `SHARDS` at most; none: not steered.
    pub outbound4: Vec<u16>,
    pub outbound6: Vec<u16>,
    /// First and last port that the kernel gives by itself.
    pub ephemeral: [u16; 2],
}

/// The loaded programs. Dropping it detaches them.
pub struct Probes {
    ebpf: Ebpf,
    settings: Settings,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads everything; nothing is attached yet, and nothing is steered. `object` replaces the embedded one.
    ///
    /// # Errors
    /// When the kernel refuses, with its own words.
    pub fn load(listeners: &Listeners, object: Option<&[u8]>) -> Result<(Self, Maps, Ring), Error> {
        let mut ebpf = EbpfLoader::new().load(object.unwrap_or(OBJECT))?;
        for name in CGROUP_PROGRAMS {
            let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
            program.load().map_err(|source| Error::Program { name, source })?;
        }
        let sockops: &mut SockOps = program(&mut ebpf, SOCKOPS)?;
        sockops.load().map_err(|source| Error::Program { name: SOCKOPS, source })?;
        let sk_lookup: &mut SkLookup = program(&mut ebpf, SK_LOOKUP)?;
        sk_lookup.load().map_err(|source| Error::Program { name: SK_LOOKUP, source })?;
        let settings = Settings {
            netns_cookie: netns::cookie::here().map_err(Error::Namespace)?,
            flags: 0,
            shards4: shards(&listeners.outbound4),
            shards6: shards(&listeners.outbound6),
            ports4: ports(&listeners.outbound4),
            ports6: ports(&listeners.outbound6),
            ephemeral: listeners.ephemeral.map(u32::from),
            padding: 0,
        };
        let ring = Ring::take(&mut ebpf)?;
        let maps = Maps::take(&mut ebpf)?;
        maps.settings(&settings)?;
        Ok((Self { ebpf, settings }, maps, ring))
    }

    /// Attaches all programs. What the target did before is not seen.
    ///
    /// # Errors
    /// When the kernel refuses one; those before it stay attached until this is dropped.
    pub fn attach(&mut self, cgroup: impl AsFd, netns: impl AsFd) -> Result<(), Error> {
        // The link API takes no flags, and always allows several programs side by side (Linux 5.7, bpf_link for
        // cgroups); aya's `AllowMultiple` is a flag of the older attach call, which would outlive this process.
        let mode = CgroupAttachMode::Single;
        let sockops: &mut SockOps = program(&mut self.ebpf, SOCKOPS)?;
        sockops.attach(cgroup.as_fd(), mode).map_err(|source| Error::Program { name: SOCKOPS, source })?;
        for name in CGROUP_PROGRAMS {
            let program: &mut CgroupSockAddr = program(&mut self.ebpf, name)?;
            program.attach(cgroup.as_fd(), mode).map_err(|source| Error::Program { name, source })?;
        }
        let sk_lookup: &mut SkLookup = program(&mut self.ebpf, SK_LOOKUP)?;
        sk_lookup.attach(netns).map_err(|source| Error::Program { name: SK_LOOKUP, source })?;
        Ok(())
    }

    /// Switches steering on or off, at once and for new connections only.
    ///
    /// # Errors
    /// When the kernel does not take the value.
    pub fn steer(&mut self, maps: &Maps, inbound: bool, outbound: bool) -> Result<(), Error> {
        self.settings.flags = if inbound { STEER_INBOUND } else { 0 } | if outbound { STEER_OUTBOUND } else { 0 };
        maps.settings(&self.settings)
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    ebpf.program_mut(name).ok_or(Error::Missing(name))?.try_into().map_err(|source| Error::Program { name, source })
}

fn shards(ports: &[u16]) -> u32 {
    // The hooks pick by the low bits of a counter.
    let usable = if ports.is_empty() { 0 } else { 1 << ports.len().min(SHARDS).ilog2() };
    u32::try_from(usable).unwrap_or(0)
}

fn ports(ports: &[u16]) -> [u32; SHARDS] {
    let mut all = [0; SHARDS];
    for (slot, port) in all.iter_mut().zip(ports) {
        *slot = u32::from(*port);
    }
    all
}

/// What a steered connection was meant to reach, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub destination: SocketAddr,
    /// What the target believes to be its own address.
    pub source: Option<std::net::IpAddr>,
    /// The program bound that address itself.
    pub bound: bool,
    pub pid: u32,
    pub name: String,
    /// For [`Maps::set_source`].
    pub cookie: u64,
}
