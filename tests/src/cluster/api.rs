//! Calls to the API server from the test's own process, where starting kubectl for each would take most of the time: a
//! verb, a path, JSON. What users do, tests do by kubectl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use super::host::dial;

/// Connections that are kept for the next call at most.
const KEPT: usize = 8;
/// No answer is longer.
const LONGEST: usize = 64 << 20;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client of the API server.
#[derive(Debug)]
pub(super) struct Api {
    config: Arc<ClientConfig>,
    netns: PathBuf,
    address: SocketAddr,
    idle: Mutex<Vec<Stream>>,
}

impl Api {
    /// A client that connects from a network namespace.
    pub(super) fn new(config: Arc<ClientConfig>, netns: PathBuf, address: SocketAddr) -> Self {
        Self { config, netns, address, idle: Mutex::new(Vec::new()) }
    }

    /// Calls, and returns what was answered with a code below 300.
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (code, answer) = self.exchange(method, path, body).with_context(|| format!("{method} {path}"))?;
        ensure!(code < 300, "{method} {path}: {code} {}", String::from_utf8_lossy(&answer).trim());
        // Some of its answers are a word.
        Ok(serde_json::from_slice(&answer).unwrap_or_else(|_| String::from_utf8_lossy(&answer).into_owned().into()))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Vec<u8>)> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(stream) = kept
            && let Ok(answer) = self.over(stream, request.as_bytes())
        {
            return Ok(answer);
        }
        // A kept one may have been closed meanwhile.
        self.over(self.connect()?, request.as_bytes())
    }

    fn connect(&self) -> Result<Stream> {
        let name = ServerName::from(self.address.ip());
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name)?, dial(&self.netns, self.address)?))
    }

    fn over(&self, mut stream: Stream, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        stream.write_all(request)?;
        let head = until(&mut stream, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut body = Vec::new();
        if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()) {
            append(&mut stream, &mut body, length)?;
        } else if head.contains("transfer-encoding: chunked") {
            loop {
                let line = until(&mut stream, b"\r\n")?;
                let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16)?;
                append(&mut stream, &mut body, length)?;
                until(&mut stream, b"\r\n")?;
                if length == 0 {
                    break;
                }
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(stream);
        }
        Ok((code, body))
    }
}

fn append(stream: &mut Stream, body: &mut Vec<u8>, length: usize) -> Result<()> {
    let before = body.len();
    ensure!(before + length < LONGEST, "an answer of more than {LONGEST} bytes");
    body.resize(before + length, 0);
    Ok(stream.read_exact(&mut body[before..])?)
}

fn until(stream: &mut Stream, end: &[u8]) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        if read.len() > LONGEST {
            bail!("no end");
        }
        stream.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(read)
}
