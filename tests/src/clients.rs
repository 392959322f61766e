//! Real HTTP clients (`tests/peers/clients`): each makes the same requests in its own way and prints a line for each
//! answer. How they reach the server, with nodetap or without, is the test's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{installed, peers};

/// What each of them asks: method, path, bytes of body.
const STEPS: &[&str] = &[
    "GET /fixed?a=%2f&b=//..",
    "HEAD /fixed",
    "POST /echo 10",
    "POST /echo 0",
    "GET /chunked",
    "GET /gzip",
    "GET /empty",
    "GET /missing",
    "GET /redirect",
    "GET /random",
    "PUT /upload 1000000",
    "GET /events",
    "GET /trailers",
];

/// A program or library that makes HTTP requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Curl,
    /// HTTP/2 at once.
    CurlPriorKnowledge,
    /// HTTP/2 by upgrade.
    CurlUpgrade,
    Wget,
    Requests,
    Httpx,
    /// HTTP/2 at once.
    HttpxH2,
    Aiohttp,
    /// Node's own.
    Fetch,
    Undici,
    NodeHttp,
    GoNetHttp,
    JavaHttpClient,
    /// `HttpClient` as it is by itself: it asks for HTTP/2 by upgrade.
    JavaUpgrading,
    JavaUrlConnection,
    /// Smart HTTP.
    Git,
}

impl Client {
    /// The command that asks everything of `base` (`http://127.0.0.1:8080`) by way of `proxy` (a URL; `None`: directly).
    ///
    /// # Errors
    /// When what it needs is not installed, or does not compile.
    pub fn command(self, base: &str, proxy: Option<&str>) -> Result<Command> {
        let mut command = self.program()?;
        command.arg(base).arg(proxy.unwrap_or("-"));
        if self == Self::Git {
            command.arg("CLONE /repository.git")
        } else {
            command.args(STEPS)
        };
        Ok(command)
    }

    fn program(self) -> Result<Command> {
        Ok(match self {
            Self::Curl => python("with_curl.py", &["--"])?,
            Self::CurlPriorKnowledge => python("with_curl.py", &["--http2-prior-knowledge", "--"])?,
            Self::CurlUpgrade => python("with_curl.py", &["--http2", "--"])?,
            Self::Wget => python("with_wget.py", &[])?,
            Self::Requests => python("with_requests.py", &[])?,
            Self::Httpx => python("with_httpx.py", &[])?,
            Self::HttpxH2 => python("with_httpx.py", &["h2"])?,
            Self::Aiohttp => python("with_aiohttp.py", &[])?,
            Self::Git => python("with_git.py", &[])?,
            Self::Fetch => node("with_fetch.mjs")?,
            Self::Undici => node("with_undici.mjs")?,
            Self::NodeHttp => node("with_node_http.mjs")?,
            Self::GoNetHttp => Command::new(peers::go(&source("with_net_http.go"))?),
            Self::JavaHttpClient => java("httpclient")?,
            Self::JavaUpgrading => java("upgrading")?,
            Self::JavaUrlConnection => java("urlconnection")?,
        })
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/clients").join(name)
}

fn python(script: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(installed::python()?);
    // Compiled modules are not to stand in the checkout.
    command.arg("-B").arg(source(script)).args(arguments);
    Ok(command)
}

fn node(script: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command.env("NODETAP_NODE_MODULES", installed::node_modules()?).arg(source(script));
    Ok(command)
}

fn java(kind: &str) -> Result<Command> {
    let mut command = peers::java(&source("Client.java"), "Client")?;
    command.arg(kind);
    Ok(command)
}
