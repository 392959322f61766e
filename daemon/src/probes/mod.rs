//! The kernel programs from user space: loaded once, attached to many targets, and asked. Their links are never pinned:
//! when this process is gone, so are the hooks. What is for that time is another object ([`fallback`]), and pinned. It
//! refuses to know why something is steered.

mod counts;
pub mod fallback;
mod fill;
mod instance;
mod maps;
pub mod pins;
mod ring;
mod sweep;
mod tables;
mod target;
mod wire;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use nodetap_ebpf_common::ELSEWHERE;
use thiserror::Error;

pub use counts::{Counts, Direct};
pub use fallback::Fallback;
pub use fill::Fill;
pub use maps::Maps;
pub use ring::{Observation, Observed, Ring, WhyDirect};
pub use target::{Attached, Listeners, Steer, Target};
pub use wire::monotonic_ns;

use self::fallback::Beats;
use self::instance::Template;
use self::sweep::{Slots, sweep};
use self::tables::{Tables, locked};

/// The compiled programs. Checked in, so that a plain `cargo build` needs no eBPF toolchain; `cargo xtask ebpf` makes it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/nodetap.bpf.o");

/// The programs on a target's control groups, with what bpf(2) calls the places that they are attached to. The first
/// sees listeners, and is the first to be there.
const HOOKS: [(&str, u32); 10] = [
    ("socket_state", 3),
    ("connect4", 10),
    ("connect6", 11),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("getsockname4", 31),
    ("getsockname6", 32),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("egress", 1),
];
/// The program on a target's network namespace, and its place there.
const SK_LOOKUP: &str = "inbound";
const SK_LOOKUP_ATTACH: u32 = 36;

/// What went wrong with the kernel's side.
#[derive(Debug, Error)]
pub enum Error {
    /// The object was refused: an old kernel, or a missing capability.
    #[error("the kernel does not take nodetap's programs: {}", causes(.0))]
    Load(#[from] aya::EbpfError),
    /// One program was refused.
    #[error("the kernel does not take the program `{name}`: {}", causes(.source))]
    Program { name: &'static str, source: ProgramError },
    /// One program could not be attached.
    #[error("the kernel does not attach the program `{name}`: {source}")]
    Attach { name: &'static str, source: io::Error },
    /// The program of one network namespace was refused.
    #[error("the kernel does not take the program of a network namespace: {0}")]
    Instance(#[source] io::Error),
    /// A map is missing, or does not take a value.
    #[error("the kernel's map `{name}`: {}", causes(.source))]
    Map { name: &'static str, source: aya::maps::MapError },
    /// A pin could not be made, or not be taken away.
    #[error("the BPF file system does not take `{path}`: {source}")]
    Pin { path: std::path::PathBuf, source: io::Error },
    /// The object is not the one that this program was built for.
    #[error("the embedded kernel object lacks `{0}`; run `cargo xtask ebpf` and build again")]
    Missing(&'static str),
}

impl Error {
    fn map(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { name, source }
    }

    /// Was it the lack of a privilege?
    pub fn is_permission(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            // EPERM: a capability is missing. EACCES is the verifier's word, and no capability helps, except where it says
            // that more is allowed to others (CAP_PERFMON).
            if error.to_string().contains("prohibited for !root") {
                return true;
            }
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

/// A program on control groups.
#[derive(Debug)]
struct Hook {
    name: &'static str,
    attach: u32,
    program: OwnedFd,
}

/// What all targets share.
#[derive(Debug)]
struct Shared {
    tables: Arc<Tables>,
    hooks: Vec<Hook>,
    template: Template,
    slots: Mutex<Slots>,
    /// Held by whoever takes out what a namespace has left.
    sweeping: Mutex<()>,
    /// Endpoints on which nobody listened at the last look.
    silent: Mutex<HashSet<sweep::Endpoint>>,
    /// Those of fallbacks.
    beats: Arc<Beats>,
}

/// The loaded programs. They stay loaded for as long as a target lives.
#[derive(Debug)]
pub struct Probes {
    shared: Arc<Shared>,
}

impl Probes {
    /// Loads everything; nothing is attached yet, and nothing is steered. `object` replaces the embedded one.
    ///
    /// # Errors
    /// When the kernel refuses, with its own words.
    pub fn load(object: Option<&[u8]>) -> Result<(Self, Ring), Error> {
        let object = object.unwrap_or(OBJECT);
        // Nothing in the object is relocated by the kernel's types, and to read them takes longer than all the rest.
        let mut ebpf = EbpfLoader::new().btf(None).load(object)?;
        let hooks = HOOKS.iter().map(|(name, attach)| hook(&mut ebpf, name, *attach)).collect::<Result<_, _>>()?;
        // This one belongs to no namespace. What the verifier has to say about it is heard here.
        hook(&mut ebpf, SK_LOOKUP, SK_LOOKUP_ATTACH)?;
        let template = Template::of(object, &tables::descriptors(&ebpf))?;
        let ring = Ring::take(&mut ebpf)?;
        let tables = Arc::new(Tables::take(&mut ebpf)?);
        tables.count(ELSEWHERE)?;
        let (slots, sweeping, silent) = (Mutex::default(), Mutex::default(), Mutex::default());
        let beats = Arc::default();
        Ok((Self { shared: Arc::new(Shared { tables, hooks, template, slots, sweeping, silent, beats }) }, ring))
    }

    /// Makes the hooks know a network namespace, by its cookie; nothing of it is steered yet. `inbound`: our listeners
    /// for what is steered in, with "is it IPv6".
    ///
    /// # Errors
    /// When the kernel refuses, or the namespace has a target already.
    pub fn target<'a>(
        &self,
        netns: impl AsFd,
        cookie: u64,
        listeners: &Listeners,
        inbound: impl IntoIterator<Item = (bool, &'a TcpListener)>,
    ) -> Result<Target, Error> {
        Target::new(&self.shared, netns, cookie, listeners, inbound)
    }

    /// What tells the hooks, and every fallback, that the data plane runs.
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat { tables: Arc::clone(&self.shared.tables), beats: Arc::clone(&self.shared.beats) }
    }

    /// Makes a fallback for listeners of ours, and pins it: see [`fallback`].
    ///
    /// # Errors
    /// When the kernel refuses; nothing of it stays then.
    pub fn fall_back(&self, place: fallback::Place<'_>, ways: &[fallback::Way<'_>]) -> Result<Fallback, Error> {
        Fallback::make(&self.shared.beats, place, ways)
    }

    /// Connects of the targets' programs in namespaces of no target; they are left alone.
    pub fn elsewhere(&self) -> u64 {
        Maps::new(Arc::clone(&self.shared.tables), ELSEWHERE).counts().direct.off
    }

    /// Takes out what targets have left that are gone for some seconds; how many entries these were. To be called from
    /// time to time.
    pub fn sweep(&self) -> usize {
        self.sweep_after(sweep::REST)
    }

    /// Takes out endpoints on which no target has listened for a while. To be called once a minute or so.
    pub fn prune(&self) -> usize {
        sweep::prune(&self.shared.tables, &mut locked(&self.shared.silent))
    }

    /// Entries of each map. It takes a system call an entry.
    pub fn fill(&self) -> Vec<Fill> {
        fill::fill(&self.shared.tables)
    }

    /// Is there something to take out, now or in some seconds?
    pub fn has_to_sweep(&self) -> bool {
        locked(&self.shared.slots).has_graves()
    }

    fn sweep_after(&self, rest: Duration) -> usize {
        // Whoever makes a target of a namespace again waits: what it writes must not be taken out.
        let _sweeping = locked(&self.shared.sweeping);
        let graves = locked(&self.shared.slots).rested(rest);
        if graves.is_empty() {
            return 0;
        }
        let gone = graves.iter().map(|grave| grave.netns).filter(|netns| *netns != ELSEWHERE).collect();
        let entries = sweep(&self.shared.tables, &gone);
        let mut slots = locked(&self.shared.slots);
        graves.iter().for_each(|grave| slots.give_back(grave.slot));
        entries
    }
}

/// Without it every hook steps aside.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    tables: Arc<Tables>,
    beats: Arc<Beats>,
}

impl Heartbeat {
    /// Tells the hooks that the data plane runs.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn beat(&self) -> Result<(), Error> {
        self.set(monotonic_ns())
    }

    /// Makes the hooks step aside at once.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn stop(&self) -> Result<(), Error> {
        self.set(0)
    }

    fn set(&self, at: u64) -> Result<(), Error> {
        // All of them, whatever becomes of one.
        let fallbacks = self.beats.set(at);
        locked(&self.tables.heartbeat).set(0, at, 0).map_err(Error::map("HEARTBEAT")).and(fallbacks)
    }
}

fn hook(ebpf: &mut Ebpf, name: &'static str, attach: u32) -> Result<Hook, Error> {
    let program = ebpf.program_mut(name).ok_or(Error::Missing(name))?;
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => return Err(Error::Missing(name)),
    };
    let descriptor = loaded.and_then(|()| program.fd());
    let descriptor = descriptor.and_then(|fd| fd.as_fd().try_clone_to_owned().map_err(ProgramError::IOError));
    Ok(Hook { name, attach, program: descriptor.map_err(|source| Error::Program { name, source })? })
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
