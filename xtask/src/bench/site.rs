//! The server at the end of all paths, but for those that `nodetap run` starts itself: an nginx with a few files.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use crate::started::{self, Started};

/// A running site.
#[derive(Debug)]
pub(super) struct Site {
    _server: Started,
    /// `HOST:PORT`.
    pub(super) address: String,
    /// The folder that it serves: `1k`, `proof`, and `large` of so many mebibytes.
    pub(super) root: String,
}

impl Site {
    /// Starts it; `tls` is what its server block holds besides, when it speaks TLS.
    pub(super) fn start(folder: &Path, mebibytes: u64, tls: Option<&str>) -> Result<Self> {
        let root = files(folder, mebibytes)?;
        let address = format!("127.0.0.1:{}", started::free_port()?);
        let servers = match tls {
            None => serving(&address, &root),
            Some(tls) => format!("server {{ listen {address} ssl; {tls} root {root}; }}"),
        };
        let server = Started::new(&mut started::nginx(folder, "server", &servers)?)?;
        started::listening(&address)?;
        Ok(Self { _server: server, address, root })
    }
}

/// Makes the folder with the files, and returns its name.
pub(super) fn files(folder: &Path, mebibytes: u64) -> Result<String> {
    let root = folder.join("site");
    std::fs::create_dir_all(&root)?;
    for name in ["1k", "proof"] {
        std::fs::write(root.join(name), vec![b'x'; 1024])?;
    }
    // A file with a hole: what is read is zeros, and no disk is asked.
    File::create(root.join("large"))?.set_len(mebibytes << 20)?;
    Ok(root.display().to_string())
}

/// A server block for static files.
pub(super) fn serving(address: &str, root: &str) -> String {
    format!("server {{ listen {address}; root {root}; }}")
}
