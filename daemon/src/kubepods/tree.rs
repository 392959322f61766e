//! The control groups of all pods, watched: a container is known some milliseconds after its group was made, which is
//! before its first program runs. What the watching might have missed a look at the whole tree brings.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::container::{Container, identifier};
use super::mounts::mounted;
use super::names::{self, PodUid};
use super::watches::{Notice, Watches};

/// Why the pods' control groups cannot be watched.
#[derive(Debug, Error)]
pub enum Error {
    #[error("no cgroup v2 hierarchy is mounted; mount one: `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoHierarchy,
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot watch {path}: {source}")]
    Watch { path: PathBuf, source: io::Error },
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Appeared(Arc<Container>),
    Gone(Arc<Container>),
}

/// How much is watched at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Folders of pods.
    pub pods: usize,
    pub containers: usize,
    /// Watches of the kernel; each is about 1 KiB of it. What finds none is seen by looking only.
    pub watches: usize,
}

impl Default for Limits {
    /// The kubelet's own limit is 110 pods, unless told otherwise; clusters with 500 on a node exist.
    fn default() -> Self {
        Self { pods: 2048, containers: 8192, watches: 4096 }
    }
}

/// What fell over the limits, and how often the kernel's queue did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub pods_refused: u64,
    pub containers_refused: u64,
    pub watches_refused: u64,
    pub overflows: u64,
}

/// How deep the folder of all pods is looked for: `/system.slice/docker-ID.scope/kubelet.slice/kubelet-kubepods.slice`
/// and one more.
const DEPTH: u32 = 5;
/// Above pods, only the uppermost folders are watched; what appears deeper is found by looking.
const WATCHED_DEPTH: u32 = 1;
/// Folders that are looked into on the way.
const FOLDERS_ABOVE: usize = 4096;

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Somewhere beneath it, all pods.
    Above(u32),
    /// Pods, and folders of their classes of service.
    Pods,
    /// The containers of a pod.
    Pod(PodUid),
}

/// The watched tree.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    limits: Limits,
    counts: Counts,
    watches: Watches<Kind>,
    /// Where all pods of a node were found.
    roots: BTreeSet<PathBuf>,
    pods: HashMap<PodUid, BTreeSet<PathBuf>>,
    containers: HashMap<PathBuf, Arc<Container>>,
    /// What was found and is not told yet.
    untold: Vec<Event>,
}

/// What one look at the whole tree saw.
#[derive(Debug, Default)]
struct Look {
    folders: HashSet<PathBuf>,
    containers: HashSet<PathBuf>,
    above: usize,
}

impl Tree {
    /// Watches the tree that is mounted here, and looks at what there is. Everything found is told as having appeared.
    ///
    /// # Errors
    /// Without cgroup v2, or without a watch.
    pub fn mounted(limits: Limits) -> Result<Self, Error> {
        const TABLE: &str = "/proc/self/mountinfo";
        let table = fs::read_to_string(TABLE).map_err(|source| Error::Read { path: TABLE.into(), source })?;
        let points = mounted(&table);
        let mut best = None;
        for point in &points {
            match Self::watch(point, limits) {
                Ok(tree) if !tree.roots.is_empty() => return Ok(tree),
                Ok(tree) => best = best.filter(Result::is_ok).or(Some(Ok(tree))),
                Err(error) => best = best.or(Some(Err(error))),
            }
        }
        best.unwrap_or(Err(Error::NoHierarchy))
    }

    /// The same for a tree at this place.
    ///
    /// # Errors
    /// When there is none, or no watch to be had.
    pub fn watch(root: &Path, limits: Limits) -> Result<Self, Error> {
        let cannot = |source| Error::Watch { path: root.to_owned(), source };
        let mut watches = Watches::new(limits.watches).map_err(cannot)?;
        watches.add(root, Kind::Above(0)).map_err(cannot)?;
        let mut tree = Self {
            root: root.to_owned(),
            limits,
            counts: Counts::default(),
            watches,
            roots: BTreeSet::new(),
            pods: HashMap::new(),
            containers: HashMap::new(),
            untold: Vec::new(),
        };
        tree.look();
        Ok(tree)
    }

    /// What happened since it was asked last, without waiting.
    pub fn events(&mut self) -> Vec<Event> {
        loop {
            let notices = self.watches.read();
            if notices.is_empty() {
                return std::mem::take(&mut self.untold);
            }
            for notice in notices {
                self.step(notice);
            }
        }
    }

    /// Waits until something happens, or for the time to be over.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
        !self.untold.is_empty()
            || matches!(poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()), Ok(ready) if ready > 0)
    }

    /// Looks at the whole tree; [`Tree::events`] tells what was missed.
    pub fn look(&mut self) {
        let mut look = Look::default();
        let root = self.root.clone();
        for known in std::mem::take(&mut self.roots) {
            if known.is_dir() {
                self.enter(&known, Kind::Pods, Some(&mut look));
                self.roots.insert(known);
            }
        }
        self.enter(&root, Kind::Above(0), Some(&mut look));
        let missing: Vec<PathBuf> =
            self.containers.keys().filter(|path| !look.containers.contains(*path)).cloned().collect();
        missing.iter().for_each(|path| self.lose(path));
        self.watches.retain(|path| look.folders.contains(path));
        self.pods.retain(|_, folders| {
            folders.retain(|path| look.folders.contains(path));
            !folders.is_empty()
        });
    }

    /// The control groups of a pod: usually one.
    pub fn folders(&self, pod: &PodUid) -> Vec<PathBuf> {
        self.pods.get(pod).into_iter().flatten().cloned().collect()
    }

    /// The containers of a pod that have a control group now.
    pub fn containers<'a>(&'a self, pod: &'a PodUid) -> impl Iterator<Item = &'a Arc<Container>> {
        self.containers.values().filter(move |container| container.pod == *pod)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.watches.len()
    }

    fn step(&mut self, notice: Notice<Kind>) {
        match notice {
            Notice::Made { folder, kind, name } => self.meet(&folder, &kind, &name, None),
            Notice::Removed { path } => self.remove(&path),
            Notice::Overflow => {
                self.counts.overflows += 1;
                self.look();
            }
        }
    }

    /// Watches a folder, and only then looks into it: what is made meanwhile is seen twice rather than not at all.
    fn enter(&mut self, path: &Path, kind: Kind, mut look: Option<&mut Look>) {
        if look.as_mut().is_some_and(|look| !look.folders.insert(path.to_owned())) {
            return;
        }
        if !matches!(kind, Kind::Above(depth) if depth > WATCHED_DEPTH) {
            match self.watches.add(path, kind.clone()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => {
                    self.counts.watches_refused += 1;
                    tracing::debug!(path = %path.display(), %error, "a control group is not watched");
                }
            }
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(name) = entry.file_name().to_str()
            {
                self.meet(path, &kind, name, look.as_deref_mut());
            }
        }
    }

    /// A folder of this name is in a folder of this kind.
    fn meet(&mut self, folder: &Path, kind: &Kind, name: &str, look: Option<&mut Look>) {
        let path = folder.join(name);
        match kind {
            Kind::Above(_) if names::is_root(name) => {
                self.roots.insert(path.clone());
                self.enter(&path, Kind::Pods, look);
            }
            Kind::Above(depth) => {
                if let Some(names::Place { pod, container: Some(id) }) = names::colons(name) {
                    // The folder is a container and stands for its pod as well.
                    if self.note_pod(&pod, &path) {
                        self.note(&path, pod, id, look);
                    }
                } else if let Some(look) = look
                    && *depth < if self.roots.is_empty() { DEPTH } else { WATCHED_DEPTH }
                    && look.above < FOLDERS_ABOVE
                {
                    look.above += 1;
                    self.enter(&path, Kind::Above(depth + 1), Some(look));
                } else if *depth < WATCHED_DEPTH {
                    self.enter(&path, Kind::Above(depth + 1), None);
                }
            }
            Kind::Pods if names::is_class(name) => self.enter(&path, Kind::Pods, look),
            Kind::Pods => {
                if let Some(pod) = names::pod(name)
                    && self.note_pod(&pod, &path)
                {
                    self.enter(&path, Kind::Pod(pod), look);
                }
            }
            Kind::Pod(pod) => {
                if let Some(id) = names::container(name) {
                    self.note(&path, pod.clone(), id, look);
                }
            }
        }
    }

    fn note_pod(&mut self, pod: &PodUid, path: &Path) -> bool {
        if !self.pods.contains_key(pod) && self.pods.len() >= self.limits.pods {
            self.counts.pods_refused += 1;
            return false;
        }
        self.pods.entry(pod.clone()).or_default().insert(path.to_owned());
        true
    }

    fn note(&mut self, path: &Path, pod: PodUid, id: names::ContainerId, look: Option<&mut Look>) {
        // Gone again already, and nobody needs to know.
        let Some(cgroup) = identifier(path) else { return };
        if let Some(look) = look {
            look.containers.insert(path.to_owned());
            look.folders.insert(path.to_owned());
        }
        match self.containers.get(path) {
            Some(known) if known.cgroup == cgroup => return,
            // Another of the same name.
            Some(_) => self.lose(path),
            None => {}
        }
        if self.containers.len() >= self.limits.containers {
            self.counts.containers_refused += 1;
            return;
        }
        let container = Arc::new(Container { pod, id, path: path.to_owned(), cgroup });
        self.containers.insert(path.to_owned(), container.clone());
        self.untold.push(Event::Appeared(container));
    }

    /// A folder is gone, and what was in it.
    fn remove(&mut self, path: &Path) {
        if self.containers.contains_key(path) {
            self.lose(path);
        } else {
            let within: Vec<PathBuf> =
                self.containers.keys().filter(|inner| inner.starts_with(path)).cloned().collect();
            within.iter().for_each(|path| self.lose(path));
        }
        self.pods.retain(|_, folders| {
            folders.remove(path);
            !folders.is_empty()
        });
    }

    fn lose(&mut self, path: &Path) {
        if let Some(container) = self.containers.remove(path) {
            self.untold.push(Event::Gone(container));
        }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watches.as_fd()
    }
}
