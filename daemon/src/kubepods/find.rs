//! From a pod to its network namespace, with nothing but `/proc` and control groups: a process in the pod's group is in
//! the pod's namespace, unless it went elsewhere. So the namespace must also own one of the pod's addresses, must not be
//! the node's, and among those that pass the one of the oldest process is taken: that is the sandbox's own.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::names::PodUid;
use super::process::Proc;
use crate::cgroup;
use crate::netns::{self, Hosts, Id, Netns};

/// Why a pod's network namespace is not known.
#[derive(Debug, Error)]
pub enum Why {
    #[error("the pod has no address yet")]
    NoAddress,
    #[error("no process of the pod runs on this node")]
    NoProcess,
    #[error("the pod shares the node's network")]
    HostNetwork,
    #[error("the processes of the pod are in a network namespace that has none of the pod's addresses, but {}", listed(.found))]
    AddressMismatch { found: Vec<IpAddr> },
    #[error("the pod's processes ended while they were looked at")]
    Gone,
    #[error("the pod's processes may not be looked at (CAP_SYS_PTRACE, or a security module)")]
    Denied,
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    #[error("cannot read the addresses of the pod's network namespace: {0}")]
    Addresses(io::Error),
}

fn listed(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "no address at all".to_owned();
    }
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

impl Why {
    /// Is it what a pod that is only starting shows, too? A process is in the group before it is in the namespace.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NoAddress | Self::NoProcess | Self::HostNetwork | Self::Gone)
    }
}

/// Namespaces of one pod whose addresses are looked at; a pod whose processes are spread over more is not searched
/// further.
const NAMESPACES: usize = 16;
/// Processes of one pod that are looked at.
const PROCESSES: usize = 4096;
/// For how long one look at every process of the node serves.
const SCAN_AGE: Duration = Duration::from_millis(100);

/// A process of a pod, and the namespace it was in.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    pid: u32,
    started: u64,
    id: Id,
}

/// A pod's network namespace.
#[derive(Debug, Clone)]
pub struct Found {
    pub netns: Netns,
    /// What it has beside loopback.
    pub addresses: Vec<IpAddr>,
    witness: Candidate,
}

/// Is a namespace still that of its pod?
#[derive(Debug)]
pub enum Verdict {
    Same,
    /// The sandbox was made anew.
    Replaced(Found),
    Lost(Why),
}

/// The processes of a pod.
#[derive(Debug, Clone, Default)]
struct Seen {
    candidates: Vec<Candidate>,
    denied: bool,
}

impl Seen {
    fn take(&mut self, looked: io::Result<Option<Candidate>>) {
        match looked {
            Ok(candidate) if self.candidates.len() < PROCESSES => self.candidates.extend(candidate),
            Ok(_) => {}
            Err(_) => self.denied = true,
        }
    }
}

/// Those of all pods, as one look at `/proc` showed them.
type Scan = HashMap<PodUid, Seen>;

/// Finds namespaces.
#[derive(Debug)]
pub struct Finder {
    proc: Proc,
    hosts: Hosts,
    scan: Mutex<Option<(Instant, Arc<Scan>)>>,
}

impl Finder {
    /// One that looks at processes through this `/proc`.
    ///
    /// # Errors
    /// When the node's own namespace cannot be told.
    pub fn new(proc: Proc) -> Result<Self, netns::Error> {
        let hosts = Hosts::of(proc.root())?;
        Ok(Self { proc, hosts, scan: Mutex::default() })
    }

    /// The namespace of the pod that has these addresses and these control groups.
    ///
    /// # Errors
    /// [`Why`] there is none.
    pub fn find(&self, pod: &PodUid, addresses: &[IpAddr], folders: &[PathBuf]) -> Result<Found, Why> {
        if addresses.is_empty() {
            return Err(Why::NoAddress);
        }
        let mut seen = self.in_folders(pod, folders);
        if seen.candidates.is_empty() {
            seen = self.scanned().get(pod).cloned().unwrap_or_default();
        }
        if seen.candidates.is_empty() {
            return Err(if seen.denied { Why::Denied } else { Why::NoProcess });
        }
        // The oldest of each namespace, and the namespaces by the age of those.
        let mut oldest: BTreeMap<Id, Candidate> = BTreeMap::new();
        for candidate in seen.candidates.into_iter().filter(|candidate| !self.hosts.has(candidate.id)) {
            let known = oldest.entry(candidate.id).or_insert(candidate);
            if (candidate.started, candidate.pid) < (known.started, known.pid) {
                *known = candidate;
            }
        }
        if oldest.is_empty() {
            return Err(Why::HostNetwork);
        }
        let mut oldest: Vec<Candidate> = oldest.into_values().collect();
        oldest.sort_by_key(|candidate| (candidate.started, candidate.pid));
        self.first_that_fits(&oldest, addresses)
    }

    /// Looks whether `found` is still the namespace of its pod: cheap while the process that led to it lives.
    pub fn verify(&self, found: &mut Found, pod: &PodUid, addresses: &[IpAddr], folders: &[PathBuf]) -> Verdict {
        let Candidate { pid, started, id } = found.witness;
        if self.proc.netns(pid).is_ok_and(|now| now == id) && self.is_same(pid, started) {
            return Verdict::Same;
        }
        match self.find(pod, addresses, folders) {
            Ok(now) if now.netns == found.netns => {
                *found = now;
                Verdict::Same
            }
            Ok(now) => Verdict::Replaced(now),
            Err(why) => Verdict::Lost(why),
        }
    }

    fn first_that_fits(&self, candidates: &[Candidate], addresses: &[IpAddr]) -> Result<Found, Why> {
        let (mut others, mut failed) = (None::<Vec<IpAddr>>, None);
        for candidate in candidates.iter().take(NAMESPACES) {
            let netns = match Netns::open(self.proc.network(candidate.pid)) {
                Ok(netns) if netns.id() == candidate.id && self.is_same(candidate.pid, candidate.started) => netns,
                Ok(_) => continue,
                Err(error) if error.is_gone() => continue,
                Err(error) => {
                    failed.get_or_insert(Why::Namespace(error));
                    continue;
                }
            };
            match netns.addresses() {
                Ok(has) if has.iter().any(|address| is_one_of(*address, addresses)) => {
                    return Ok(Found { netns, addresses: has, witness: *candidate });
                }
                Ok(has) => others.get_or_insert_default().extend(has),
                // Not to be looked at is as good as not owned.
                Err(error) => {
                    failed.get_or_insert(Why::Addresses(error));
                }
            }
        }
        let mismatch = others.map(|found| Why::AddressMismatch { found });
        Err(mismatch.or(failed).unwrap_or(Why::Gone))
    }

    /// The processes in these groups that `/proc` says are the pod's, too.
    fn in_folders(&self, pod: &PodUid, folders: &[PathBuf]) -> Seen {
        let mut seen = Seen::default();
        if !self.proc.is_ours() {
            return seen;
        }
        // A folder may lie in another.
        let mut pids: Vec<u32> = folders.iter().flat_map(|folder| cgroup::processes(folder)).collect();
        pids.sort_unstable();
        pids.dedup();
        for pid in pids.into_iter().filter(|pid| *pid != 0) {
            // Where a control group namespace hides the path, the folder's word is enough.
            let belongs = self
                .proc
                .places(pid)
                .is_some_and(|places| places.is_empty() || places.iter().any(|place| place.pod == *pod));
            if belongs {
                seen.take(self.candidate(pid));
            }
        }
        seen
    }

    /// Every process of every pod.
    fn scanned(&self) -> Arc<Scan> {
        let mut kept = self.scan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, scan)) = &*kept
            && when.elapsed() < SCAN_AGE
        {
            return scan.clone();
        }
        let mut scan = Scan::new();
        for pid in self.proc.pids() {
            for place in self.proc.places(pid).unwrap_or_default() {
                scan.entry(place.pod).or_default().take(self.candidate(pid));
            }
        }
        let scan = Arc::new(scan);
        *kept = Some((Instant::now(), scan.clone()));
        scan
    }

    /// `None` when the process is gone or going.
    fn candidate(&self, pid: u32) -> io::Result<Option<Candidate>> {
        match self.proc.netns(pid) {
            Ok(id) => Ok(self.proc.stat(pid).map(|stat| Candidate { pid, started: stat.started, id })),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Numbers are given again.
    fn is_same(&self, pid: u32, started: u64) -> bool {
        self.proc.stat(pid).is_some_and(|stat| stat.started == started)
    }
}

/// The API writes IPv4 as IPv4; an interface may have it mapped into IPv6, and the other way round.
fn is_one_of(address: IpAddr, addresses: &[IpAddr]) -> bool {
    addresses.iter().any(|wanted| wanted.to_canonical() == address.to_canonical())
}
