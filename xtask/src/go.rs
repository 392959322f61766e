//! Programs that are built from Go modules, which anybody's module proxy has, where releases may be out of reach. A module
//! of ours pins what is built; what was built is kept in a folder of the cache of its own, because it takes long and
//! nothing else of this project decides what it is. What the programs are for is not known here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, process, workspace};

/// A Go module of ours that pins others, and which of their programs are built.
pub(crate) struct Build {
    /// Of its folder in `tests/modules`, of that in the cache, and of the note that says where it is.
    pub(crate) name: &'static str,
    pub(crate) packages: &'static [&'static str],
    /// The program's name, when the package's is another.
    pub(crate) program: Option<&'static str>,
    pub(crate) takes: &'static str,
}

impl Build {
    /// Builds what is missing, and notes where it is in the folder that the tests are built in. `more` puts what else
    /// belongs there beside the programs, and `decides` names its versions.
    ///
    /// # Errors
    /// When Go is missing or fails, or `more` does.
    pub(crate) fn ensure(&self, flags: &str, decides: &str, more: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let modules = self.modules()?;
        let [manifest, sums] = ["go.mod", "go.sum"].map(|name| std::fs::read_to_string(modules.join(name)));
        let (manifest, sums, packages) =
            (manifest.context("no go.mod")?, sums.context("no go.sum")?, self.packages.join(" "));
        let mut all = vec![flags, &manifest, &sums, &packages];
        all.extend(Some(decides).filter(|decides| !decides.is_empty()));
        let place = cache::folder_of(self.name, &all)?.join("bin");
        cache::ensure_at(&place, |folder| {
            self.build(flags, folder)?;
            more(folder)
        })?;
        workspace::note(&format!("test-{}", self.name), &place)
    }

    /// Where the sources of a module lie that ours pins.
    ///
    /// # Errors
    /// When Go does not know it.
    pub(crate) fn sources(&self, module: &str) -> Result<PathBuf> {
        let mut go = self.go()?;
        let folder = process::output(go.args(["list", "-m", "-f", "{{.Dir}}", module]))?;
        Ok(PathBuf::from(folder.trim()))
    }

    fn build(&self, flags: &str, folder: &Path) -> Result<()> {
        eprintln!("set-up: go build of {} in {} ({}, once)", self.name, folder.display(), self.takes);
        let mut go = self.go()?;
        go.args(["build", "-trimpath", "-ldflags", flags]);
        go.arg("-o").arg(self.program.map_or_else(|| folder.to_path_buf(), |program| folder.join(program)));
        process::output(go.args(self.packages)).map(drop)
    }

    fn modules(&self) -> Result<PathBuf> {
        Ok(workspace::root()?.join("tests/modules").join(self.name))
    }

    fn go(&self) -> Result<Command> {
        let mut go = Command::new("go");
        // Flags of whoever runs this would make it another build.
        go.current_dir(self.modules()?).env("GOFLAGS", "-buildvcs=false");
        Ok(go)
    }
}
