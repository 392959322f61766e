//! What `nodetap run --tls` prepares: an authority whose key no disk sees (or the one that was named), a folder of bundles
//! for the command, and what the data plane opens TLS with.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nodetap_core::ulid::Ulid;
use nodetap_proxy::tls::Outbound;

use super::{Failure, random};
use crate::child::Identity;
use crate::trust::environment::{self, Layout};
use crate::trust::folder::TrustFolder;
use crate::trust::{Ca, Options, options, roots};

/// A throw-away authority outlives every run.
const DAYS: u32 = 365;

/// Lives as long as the run.
#[derive(Debug)]
pub(super) struct Trusted {
    pub outbound: Arc<Outbound>,
    /// For the command.
    pub environment: Vec<(&'static str, OsString)>,
    _folder: TrustFolder,
}

impl Trusted {
    /// `None` when TLS is not to be opened.
    ///
    /// # Errors
    /// When the authority cannot be used, or the bundles cannot be written.
    pub(super) fn prepare(
        options: &Options,
        cgroup: &Path,
        identity: Option<&Identity>,
        id: Ulid,
    ) -> Result<Option<Self>, Failure> {
        if !options.open {
            return Ok(None);
        }
        let now = SystemTime::now();
        let ca = match options.authority(now)? {
            Some(ca) => ca,
            None => Ca::generate(&format!("nodetap run {id}"), DAYS, now, random()).map_err(options::Error::from)?,
        };
        let folder = TrustFolder::make(&parent(identity), id, cgroup)
            .map_err(|error| Failure::Output { path: error.path, source: error.source })?;
        let directories: Vec<PathBuf> = roots::system_directories().map(Path::to_owned).collect();
        let plan = environment::plan(&std::env::vars_os().collect(), &directories);
        let layout =
            environment::lay_out(plan, &ca.chain, folder.path(), environment::look).map_err(options::Error::from)?;
        let Layout { environment, files, roots, left_alone } = layout;
        folder.write(&files).map_err(|error| Failure::Output { path: error.path, source: error.source })?;
        for sentence in left_alone {
            let _ = writeln!(std::io::stderr(), "nodetap run: {sentence}");
        }
        let outbound = options.outbound(&ca, roots, now)?;
        Ok(Some(Self { outbound, environment, _folder: folder }))
    }
}

/// Where the folder is made: our own temporary folder may be closed to another user.
fn parent(identity: Option<&Identity>) -> PathBuf {
    if identity.is_some() { PathBuf::from("/tmp") } else { std::env::temp_dir() }
}
