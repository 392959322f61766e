//! Set-up: which tools a job needs. Each is looked for first, and what is missing is named before it is installed. How a
//! tool is installed is known elsewhere.

use anyhow::Result;
use clap::ValueEnum;

use crate::packages::{
    self, CNI, CONTAINERD, CURL, DANTED, GCC, GIT, GO, H2LOAD, IP, IPTABLES, JAVAC, MICROSOCKS, NETCAT, NFTABLES,
    NGHTTP, NGHTTPD, NGHTTPX, NGINX, NODE, NPM, OPENSSL, PYTHON, Program, RUNC, SCRIPT, TESTSSL, WGET, WRK,
};
use crate::{istio, kubernetes, peers, toolchain};

/// What the tools are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// Building the kernel programs
    Ebpf,
    /// `cargo xtask test`
    Test,
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask demo --cluster`
    Cluster,
    /// `cargo xtask demo --mesh`
    Mesh,
    /// `cargo xtask bench`
    Bench,
    /// All of these
    All,
}

const FOR_TESTS: &[Program] =
    &[CURL, GCC, GIT, GO, IP, JAVAC, NETCAT, NFTABLES, NGHTTP, NODE, NPM, OPENSSL, PYTHON, SCRIPT, TESTSSL, WGET];
/// And what a cluster of theirs is made of.
const FOR_CLUSTERS: &[Program] = &[CNI, CONTAINERD, GO, IP, IPTABLES, NGINX, PYTHON, RUNC];
const FOR_DEMO: &[Program] = &[CURL, NGINX, NODE, NPM, PYTHON];
const FOR_BENCH: &[Program] = &[CURL, DANTED, H2LOAD, MICROSOCKS, NGHTTPD, NGHTTPX, NGINX, OPENSSL, PYTHON, WRK];

/// Finds or installs what `job` needs.
///
/// # Errors
/// Names what is missing and how to get it, when it cannot be installed from here.
pub(crate) fn run(job: Job) -> Result<()> {
    let wants = |this: Job| job == this || job == Job::All;
    if wants(Job::Test) {
        packages::ensure(FOR_TESTS)?;
        peers::ensure()?;
    }
    if wants(Job::Test) || wants(Job::Cluster) || wants(Job::Mesh) {
        packages::ensure(FOR_CLUSTERS)?;
        kubernetes::ensure()?;
    }
    if wants(Job::Test) || wants(Job::Mesh) {
        istio::ensure()?;
    }
    if wants(Job::Demo) {
        packages::ensure(FOR_DEMO)?;
        packages::har_validator()?;
    }
    if wants(Job::Bench) {
        packages::ensure(FOR_BENCH)?;
        packages::mitmdump()?;
    }
    if wants(Job::Ebpf) {
        toolchain::ensure()?;
    } else if wants(Job::Test)
        && let Err(why) = toolchain::ensure_pinned()
    {
        // The tests can do without: the object that is checked in is then compared by the hash of its sources.
        eprintln!("set-up: {why:#}");
    }
    eprintln!("set-up: everything is there");
    Ok(())
}
