//! Just enough HTTP/1 to ask and to be asked: a test that is about HTTP writes its own bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::client;

/// Heads longer than this are none.
const MAX_HEAD: usize = 64 * 1024;

/// Reads a head, up to and with its empty line. Empty when the connection ended before it began, `None` when it ended
/// inside it.
pub fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) if head.len() < MAX_HEAD => head.push(byte[0]),
            Ok(0) if head.is_empty() => break,
            _ => return None,
        }
    }
    Some(head)
}

/// One GET on a connection of its own; returns the body.
///
/// # Errors
/// When the connection fails, or the answer is no `200`.
pub fn get(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let stream = client::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    get_over(stream, path)
}

/// As [`get`], over a connection that is there.
///
/// # Errors
/// As [`get`].
pub fn get_over(mut stream: TcpStream, path: &str) -> Result<Vec<u8>> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
    let head = read_head(&mut stream).context("the answer has no head")?;
    let text = String::from_utf8_lossy(&head).into_owned();
    anyhow::ensure!(text.starts_with("HTTP/1.1 200 ") || text.starts_with("HTTP/1.0 200 "), "answered {text:?}");
    let length =
        text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body).context("the body is short")?;
        }
        None => {
            stream.read_to_end(&mut body)?;
        }
    }
    let chunked = text.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    if chunked { dechunk(&body) } else { Ok(body) }
}

/// What is in a body that comes in chunks, without extensions and trailers.
fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size).context("a chunk is short")?);
        rest = rest.get(end + 2 + size + 2..).context("no chunk after the last")?;
    }
}
