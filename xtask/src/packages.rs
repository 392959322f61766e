//! Programs that tests, the demo and the bench need as real peers: which Debian package brings which, and the few that
//! come from a language's own registry. It knows no job: a job names the programs it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, process};

/// har-validator, and the JSON Schema validator for the 2020-12 draft that the records' schema is written in.
pub(crate) const HAR_VALIDATOR: &str = "har-validator@5.1.5 ajv@8.17.1";
/// The proxy that the bench is compared with.
pub(crate) const MITMPROXY: &str = "mitmproxy==11.0.2";

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// The plugins that give pods their network: one stands for all.
pub(crate) const CNI: Program = program("/usr/lib/cni/ptp", "containernetworking-plugins");
pub(crate) const CONTAINERD: Program = program("containerd", "containerd");
pub(crate) const CURL: Program = program("curl", "curl");
pub(crate) const DANTED: Program = program("danted", "dante-server");
pub(crate) const GCC: Program = program("gcc", "gcc libc6-dev");
pub(crate) const GIT: Program = program("git", "git");
pub(crate) const GO: Program = program("go", "golang-go");
pub(crate) const GXX: Program = program("g++", "g++");
pub(crate) const H2LOAD: Program = program("h2load", "nghttp2-client");
pub(crate) const IP: Program = program("ip", "iproute2");
pub(crate) const IPTABLES: Program = program("iptables", "iptables");
pub(crate) const JAVAC: Program = program("javac", "default-jdk-headless");
pub(crate) const MICROSOCKS: Program = program("microsocks", "microsocks");
/// The BSD netcat by its own name: `nc` may be another one, without `-N`.
pub(crate) const NETCAT: Program = program("nc.openbsd", "netcat-openbsd");
pub(crate) const NFTABLES: Program = program("nft", "nftables");
pub(crate) const NGHTTPD: Program = program("nghttpd", "nghttp2-server");
pub(crate) const NGHTTPX: Program = program("nghttpx", "nghttp2-proxy");
pub(crate) const NGINX: Program = program("nginx", "nginx-light");
/// h2load comes with it.
pub(crate) const NGHTTP: Program = program("nghttp", "nghttp2-client");
pub(crate) const NODE: Program = program("node", "nodejs");
pub(crate) const NPM: Program = program("npm", "npm");
pub(crate) const OPENSSL: Program = program("openssl", "openssl");
/// The distribution's own: another one may stand in a folder that other users cannot read.
pub(crate) const PYTHON: Program = program("/usr/bin/python3", "python3");
pub(crate) const RUNC: Program = program("runc", "runc");
pub(crate) const SCRIPT: Program = program("script", "bsdutils");
/// It needs hexdump, which Debian's package of it does not ask for.
pub(crate) const TESTSSL: Program = program("testssl", "testssl.sh bsdextrautils");
pub(crate) const WGET: Program = program("wget", "wget");
pub(crate) const WRK: Program = program("wrk", "wrk");

/// Installs the packages of those `programs` that are not on this machine, after saying so.
pub(crate) fn ensure(programs: &[Program]) -> Result<()> {
    let missing: Vec<Program> =
        programs.iter().copied().filter(|program| process::find(program.name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|program| program.package.split(' ')).collect();
    apt_install(&packages, &format!("{} not found", names.join(", ")))
}

/// Installs Debian packages, after one `apt-get update`. `why` stands in what is said first.
pub(crate) fn apt_install(packages: &[&str], why: &str) -> Result<()> {
    let wanted = packages.join(" ");
    if process::find("apt-get").is_none() {
        bail!("{why}, and this is not a Debian: install what its packages {wanted} hold");
    }
    if !process::is_root() {
        bail!("{why}: run `sudo apt-get install {wanted}`, or this command as root");
    }
    eprintln!("set-up: {why}: apt-get update, apt-get install {wanted}");
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        // Services of what is installed must not start: tests run their own, on their own ports. The one is for init
        // scripts (invoke-rc.d), the other for systemd (systemctl).
        command.env("RUNLEVEL", "1").env("SYSTEMD_OFFLINE", "1");
        command
    };
    // A list that one of several sources cannot give is no reason to stop: the install below says what is missing.
    if let Err(error) = process::output(apt().arg("update")) {
        eprintln!("set-up: {error:#}");
    }
    process::output(apt().args(["install", "-y", "--no-install-recommends"]).args(packages)).map(drop)
}

/// The folder with har-validator and a JSON Schema validator (in `node_modules`), from npm.
pub(crate) fn har_validator() -> Result<PathBuf> {
    cache::ensure("har-validator", |dir| {
        eprintln!("set-up: npm install {HAR_VALIDATOR} in {}", dir.display());
        std::fs::write(dir.join("package.json"), "{\"private\":true}\n")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]);
        process::output(npm.args(HAR_VALIDATOR.split(' ')).current_dir(dir)).map(drop)
    })
}

/// The `mitmdump` of a Python environment of our own.
pub(crate) fn mitmdump() -> Result<PathBuf> {
    let place = cache::folder()?.join("mitmproxy");
    environment(&place, MITMPROXY)?;
    Ok(place.join("bin/mitmdump"))
}

/// A Python environment at `place` with these packages, from PyPI.
pub(crate) fn environment(place: &Path, wanted: &str) -> Result<()> {
    // The environment's scripts name their own path: built in place, it carries a mark when it is whole.
    let mark = place.join("whole");
    if mark.exists() {
        return Ok(());
    }
    if process::output(Command::new(PYTHON.name).args(["-c", "import ensurepip"])).is_err() {
        apt_install(&["python3-venv"], "this Python cannot make environments")?;
    }
    eprintln!("set-up: pip install {wanted} in {}", place.display());
    process::output(Command::new(PYTHON.name).args(["-m", "venv", "--clear"]).arg(place))?;
    let mut pip = Command::new(place.join("bin/pip"));
    process::output(pip.args(["install", "--quiet"]).args(wanted.split_whitespace()))?;
    std::fs::write(&mark, wanted).context("cannot mark the environment as whole")
}
