//! Container images without a container engine: files of this machine, and what an image says about itself, written as
//! one archive that containerd (`ctr images import`), kind (`kind load image-archive`) and Docker (`docker load`) read. The
//! same files make the same archive, byte for byte. It knows neither what is in an image nor who runs it.

mod archive;
mod libraries;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use self::libraries::libraries;

/// An image of one layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    name: String,
    entry: Vec<String>,
    user: Option<String>,
    // Sorted: what stands where does not depend on the order in which it was added.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32 },
    File { source: Source, mode: u32 },
    Link(PathBuf),
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Image {
    /// An image with nothing in it; `name` is a whole reference (`docker.io/library/NAME:TAG`).
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Its reference.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is run when a container names no command.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entry = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Who runs it when a container names nobody: a number, or two with a colon. Root, when this is not called.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Adds a file of this machine. Its mode stays; its owner is root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(mut self, place: impl AsRef<Path>, source: &Path) -> Result<Self> {
        let meta = source.metadata().with_context(|| format!("cannot read {}", source.display()))?;
        let mode = meta.permissions().mode() & 0o7777;
        self.add(place.as_ref(), Entry::File { source: Source::File(source.to_path_buf()), mode });
        Ok(self)
    }

    /// Adds a file with these bytes.
    #[must_use]
    pub fn bytes(mut self, place: impl AsRef<Path>, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.add(place.as_ref(), Entry::File { source: Source::Bytes(bytes.into()), mode });
        self
    }

    /// Adds an empty folder.
    #[must_use]
    pub fn folder(mut self, place: impl AsRef<Path>, mode: u32) -> Self {
        self.add(place.as_ref(), Entry::Folder { mode });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, place: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.add(place.as_ref(), Entry::Link(target.as_ref().to_path_buf()));
        self
    }

    /// Adds a program of this machine, and every library that the dynamic linker would load for it, where it looks for
    /// them.
    ///
    /// # Errors
    /// When one cannot be read, or a library is missing.
    pub fn program(self, place: impl AsRef<Path>, source: &Path) -> Result<Self> {
        let mut image = self.file(place, source)?;
        for library in libraries(source)? {
            image = image.file(&library, &library)?;
        }
        Ok(image)
    }

    /// Adds a folder of this machine under its own path, with the libraries that are needed by the libraries in it.
    /// Whatever lies below a folder for which `skip` holds is left out.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn tree(mut self, folder: &Path, skip: &dyn Fn(&str) -> bool) -> Result<Self> {
        let inside = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in inside {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_symlink() {
                let target = std::fs::read_link(&path)?;
                self = self.link(&path, target);
            } else if kind.is_dir() {
                if !skip(&entry.file_name().to_string_lossy()) {
                    self = self.tree(&path, skip)?;
                }
            } else if path.extension().is_some_and(|extension| extension == "so") {
                self = self.program(&path, &path)?;
            } else {
                self = self.file(&path, &path)?;
            }
        }
        Ok(self)
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When a file cannot be read, or the archive not be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        archive::write(self, to)
    }

    fn add(&mut self, place: &Path, entry: Entry) {
        let place = place.strip_prefix("/").unwrap_or(place);
        // Who unpacks need not make folders that nobody has named.
        for folder in place.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            self.entries.entry(folder.to_path_buf()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(place.to_path_buf(), entry);
    }
}
