//! What is compared and is neither Debian's nor on the `PATH`: found, or built, when the first row asks for it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{demo, packages, process, workspace};

/// The programs that were asked for.
#[derive(Debug, Default)]
pub(super) struct Programs {
    nodetap: OnceCell<PathBuf>,
    mitmdump: OnceCell<PathBuf>,
    tls_clients: OnceCell<PathBuf>,
}

impl Programs {
    /// The nodetap to measure: the one that `NODETAP_BIN` names, else this checkout's, built as users get it.
    pub(super) fn nodetap(&self) -> Result<&Path> {
        found(&self.nodetap, || match std::env::var_os("NODETAP_BIN").filter(|file| !file.is_empty()) {
            Some(file) => {
                let file = PathBuf::from(file);
                ensure!(file.is_file(), "NODETAP_BIN names {}, which is no file", file.display());
                eprintln!("measuring {}", file.display());
                Ok(file)
            }
            None => demo::release_build(),
        })
    }

    pub(super) fn mitmdump(&self) -> Result<&Path> {
        found(&self.mitmdump, packages::mitmdump)
    }

    /// Our own clients for new TLS connections.
    pub(super) fn tls_clients(&self) -> Result<&Path> {
        found(&self.tls_clients, || {
            let mut cargo = Command::new(workspace::cargo());
            cargo.args([
                "build",
                "--release",
                "--package",
                "xtask",
                "--features",
                "tls-clients",
                "--bin",
                "tls-clients",
            ]);
            println!("$ {}", process::line(&cargo));
            process::run(cargo.current_dir(workspace::root()?))?;
            Ok(workspace::target_dir()?.join("release/tls-clients"))
        })
    }
}

fn found(cell: &OnceCell<PathBuf>, find: impl FnOnce() -> Result<PathBuf>) -> Result<&Path> {
    if let Some(file) = cell.get() {
        return Ok(file);
    }
    let file = find()?;
    Ok(cell.get_or_init(|| file))
}
