//! A SOCKS5 client (RFC 1928) that asks for files over HTTP/1.1: no known load generator counts connections through such a
//! proxy. What stands in the middle is not known here.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::over_and_over::{self, Done};

/// How long any read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a read of a download.
const BUFFER: usize = 256 << 10;
/// The most that is read of an answer to a small request.
const SMALL: u64 = 64 << 10;

/// The way to a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// The SOCKS proxy; none on the direct path.
    pub(super) proxy: Option<SocketAddr>,
    pub(super) site: SocketAddrV4,
}

impl Route {
    fn open(self) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.proxy.unwrap_or(SocketAddr::V4(self.site)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if self.proxy.is_some() {
            negotiate(&mut stream, self.site)?;
        }
        Ok(stream)
    }

    /// Opens a connection and asks for a file on it; the answer ends with the connection.
    fn ask(self, path: &str) -> Result<TcpStream> {
        let mut stream = self.open()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.site);
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    }
}

/// Fetches `/large` of so many bytes, and returns mebibytes per second.
pub(super) fn download(route: Route, size: u64) -> Result<f64> {
    let start = Instant::now();
    let mut stream = route.ask("/large")?;
    let mut buffer = vec![0; BUFFER];
    let mut received: u64 = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        received += count as u64;
    }
    ensure!(received > size, "{received} bytes of a head and a body of {size}");
    Ok(received as f64 / f64::from(1 << 20) / start.elapsed().as_secs_f64())
}

/// Opens one connection after the other in so many threads, each for a request for `/1k`.
pub(super) fn connections(route: Route, seconds: u32, threads: usize) -> Result<Done> {
    over_and_over::repeat(threads, seconds, move || fetch(route))
}

fn fetch(route: Route) -> Result<()> {
    let mut answer = Vec::with_capacity(2048);
    route.ask("/1k")?.take(SMALL).read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > 1024,
        "an answer of {} bytes: {}",
        answer.len(),
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default()
    );
    Ok(())
}

/// Asks for a connection to `site`, without authentication (RFC 1928 §3 to §6), one step after the other as every proxy
/// allows.
fn negotiate(stream: &mut (impl Read + Write), site: SocketAddrV4) -> Result<()> {
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).context("no method")?;
    ensure!(method == [5, 0], "the proxy wants another method: {method:?}");
    let mut request = vec![5, 1, 0, 1];
    request.extend(site.ip().octets());
    request.extend(site.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).context("no reply")?;
    let [_, code, _, address] = reply;
    ensure!(code == 0, "the proxy replied {code}");
    let rest = match address {
        1 => 4,
        4 => 16,
        _ => bail!("the proxy bound an address of type {address}"),
    };
    stream.read_exact([0; 18].get_mut(..rest + 2).context("no room")?).context("half a reply")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proxy answers, and what it was told.
    struct Proxy {
        answers: &'static [u8],
        told: Vec<u8>,
    }

    impl Read for Proxy {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.answers.read(buffer)
        }
    }

    impl Write for Proxy {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.told.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn negotiated(answers: &'static [u8]) -> (Result<()>, Proxy) {
        let mut proxy = Proxy { answers, told: Vec::new() };
        let outcome = negotiate(&mut proxy, "10.2.3.4:8080".parse().unwrap());
        (outcome, proxy)
    }

    #[test]
    fn a_connection_is_asked_for_and_the_reply_is_read_to_its_last_byte() {
        for answers in [b"\x05\0\x05\0\0\x01abcdef!".as_slice(), b"\x05\0\x05\0\0\x04abcdefghijklmnopqr!"] {
            let (outcome, proxy) = negotiated(answers);
            outcome.unwrap();
            assert_eq!(proxy.told, b"\x05\x01\0\x05\x01\0\x01\x0a\x02\x03\x04\x1f\x90");
            assert_eq!(proxy.answers, b"!");
        }
    }

    #[test]
    fn a_refusal_is_an_error_that_names_it() {
        assert!(negotiated(b"\x05\xff").0.unwrap_err().to_string().contains("another method"));
        assert!(negotiated(b"\x05\0\x05\x05\0\x01abcdef").0.unwrap_err().to_string().contains("replied 5"));
        assert!(negotiated(b"\x05\0\x05").0.unwrap_err().to_string().contains("no reply"));
    }
}
