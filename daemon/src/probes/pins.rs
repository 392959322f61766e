//! The names of fallbacks on a BPF file system: a folder a pod and generation, `UID@NUMBER`. An agent makes a new one
//! before it takes away what another left, so that the pod always has one. It refuses to know which pods are there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use rustix::fs::statfs;

use super::fallback::{BYPASS, Bypassed, PINS, read};
use super::{Error, wire};

/// BPF_FS_MAGIC of linux/magic.h.
const BPF_FS: u64 = 0xcafe_4a11;

/// The folder of all of ours.
#[derive(Debug, Clone)]
pub struct Pins {
    folder: PathBuf,
}

/// The pins of one fallback.
#[derive(Debug)]
pub struct Generation {
    folder: PathBuf,
}

impl Pins {
    /// The folder, made if it is not there.
    ///
    /// # Errors
    /// When it lies on no BPF file system, or cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let here = if folder.exists() { Some(folder) } else { folder.parent() };
        let on = here.map(statfs).transpose()?;
        if on.is_none_or(|on| on.f_type.cast_unsigned() & 0xffff_ffff != BPF_FS) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no BPF file system is mounted there"));
        }
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A place for a new fallback of this pod.
    pub fn next(&self, uid: &str) -> Generation {
        let last = self.of(uid).filter_map(|(_, number)| number).max().unwrap_or(0);
        Generation { folder: self.folder.join(format!("{uid}@{}", last.wrapping_add(1))) }
    }

    /// Takes away every fallback of the pod but for this one; what went past us there.
    pub fn replace(&self, uid: &str, by: Option<&Generation>) -> Vec<Bypassed> {
        let others = self.of(uid).map(|(folder, _)| folder).filter(|folder| by.is_none_or(|by| by.folder != *folder));
        let others: Vec<PathBuf> = others.collect();
        others.into_iter().filter_map(|folder| Generation { folder }.take()).collect()
    }

    /// The pods that have a fallback.
    pub fn pods(&self) -> BTreeSet<String> {
        self.all().filter_map(|folder| Some(parts(&folder)?.0.to_owned())).collect()
    }

    fn of(&self, uid: &str) -> impl Iterator<Item = (PathBuf, Option<u64>)> {
        self.all().filter_map(move |folder| {
            let number = parts(&folder).filter(|(of, _)| *of == uid)?.1.parse().ok();
            Some((folder, number))
        })
    }

    fn all(&self) -> impl Iterator<Item = PathBuf> + use<> {
        fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

fn parts(folder: &Path) -> Option<(&str, &str)> {
    folder.file_name()?.to_str()?.split_once('@')
}

impl Generation {
    /// All of them or none.
    pub(super) fn pin(&self, objects: &[(&str, BorrowedFd<'_>)]) -> Result<(), Error> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Pin { path, source }
        };
        fs::create_dir(&self.folder).map_err(error(&self.folder))?;
        for (name, object) in objects {
            let path = self.folder.join(name);
            if let Err(source) = wire::pin(object, &path) {
                let _ = self.remove();
                return Err(error(&path)(source));
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        let gone = |removed: io::Result<()>, path: &Path| match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| Error::Pin { path: path.to_owned(), source }),
        };
        for name in PINS {
            let path = self.folder.join(name);
            if name != BYPASS {
                // One whose place is gone hangs on nothing.
                let _ = wire::detach(&path);
            }
            gone(fs::remove_file(&path), &path)?;
        }
        gone(fs::remove_dir(&self.folder), &self.folder)
    }

    /// Takes away what an agent before us left.
    fn take(&self) -> Option<Bypassed> {
        // One whose pins are not all there was not ready, and has counted nothing.
        let map = MapData::from_pin(self.folder.join(BYPASS)).and_then(Map::from_map_data);
        let counted: Option<Array<MapData, u64>> = map.ok().and_then(|map| map.try_into().ok());
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a fallback stays that is nobody's");
        }
        // Read when nothing more can come.
        counted.as_ref().map(read)
    }
}
