//! The clients, servers and test-suites that the tests need from Python's and npm's registries: one folder in the cache,
//! and a note beside the test binaries that says where it is. It knows no test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, packages, process, workspace};

/// HTTP, gRPC and WebSocket clients and servers; then what python-socks' own tests need.
pub(crate) const PYTHON: &str = "requests==2.34.2 PySocks==1.7.1 httpx[http2,socks]==0.28.1 aiohttp==3.14.5 \
    aiohttp-socks==0.12.0 websockets==17.4 grpcio==1.85.1 h2==4.4.1 python-socks==3.2.1 \
    pytest==9.2.0 pytest-asyncio==1.5.0 pytest-trio==0.8.0 trio==0.35.0 anyio==4.16.0 starlette==1.10.0 uvicorn==0.54.0 \
    yarl==1.25.1 trustme==1.2.1";
/// Of those that still run on the oldest Node that Debian has.
pub(crate) const NODE: &str = "undici@6.29.1 socks-proxy-agent@8.0.5";
/// Its sources hold its tests.
pub(crate) const PYTHON_SOCKS: &str = "python-socks==3.2.1";

/// Installs what is missing, and notes where it is in the folder that the tests are built in.
pub(crate) fn ensure() -> Result<()> {
    let folder = cache::folder()?.join("peers");
    python(&folder.join("python"))?;
    node(&folder.join("node"))?;
    python_socks(&folder)?;
    workspace::note("test-peers", &folder)
}

fn python(place: &Path) -> Result<()> {
    packages::environment(place, PYTHON)
}

fn node(place: &Path) -> Result<()> {
    unless_whole(place, NODE, || {
        eprintln!("set-up: npm install {NODE} in {}", place.display());
        std::fs::write(place.join("package.json"), "{\"private\":true}\n")?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]);
        process::output(npm.args(NODE.split(' ')).current_dir(place)).map(drop)
    })
}

fn python_socks(folder: &Path) -> Result<()> {
    let place = folder.join("python-socks");
    unless_whole(&place, PYTHON_SOCKS, || {
        eprintln!("set-up: pip download {PYTHON_SOCKS} (its tests) in {}", place.display());
        let mut pip = Command::new(folder.join("python/bin/pip"));
        pip.args(["download", "--quiet", "--no-binary", ":all:", "--no-deps", "--dest"]).arg(&place).arg(PYTHON_SOCKS);
        process::output(&mut pip)?;
        let archive = std::fs::read_dir(&place)?.next().context("pip has brought nothing")??.path();
        let mut tar = Command::new("tar");
        tar.arg("xzf").arg(archive).args(["--strip-components=1", "-C"]).arg(&place);
        process::output(&mut tar).map(drop)
    })
}

/// Runs `build` in an empty `place`, unless it carries the mark that it is whole.
fn unless_whole(place: &Path, versions: &str, build: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark: PathBuf = place.join("whole");
    if mark.exists() {
        return Ok(());
    }
    if place.exists() {
        std::fs::remove_dir_all(place).with_context(|| format!("cannot empty {}", place.display()))?;
    }
    std::fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    build()?;
    std::fs::write(mark, versions).context("cannot mark it as whole")
}
