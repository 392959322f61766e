//! New TLS connections, over and over: `tls-clients HOST:PORT PATH ROOTS SECONDS THREADS`. Each verifies the server, makes a
//! full handshake of TLS 1.3 over X25519, and asks for a file of 1 KiB. A session is never resumed: wrk does so with those
//! that offer it and not with the others. Written in Rust because `openssl s_time` uses more processor time for a
//! connection than what is to be measured.
//!
//! It prints `COUNT connections in SECONDS seconds`.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../bench/over_and_over.rs"]
mod over_and_over;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// The name that every server of the bench has a certificate for.
const NAME: &str = "localhost";
/// How long any read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that is read of an answer.
const MOST: u64 = 64 << 10;
/// The size of the file that is asked for.
const SIZE: usize = 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, roots, seconds, threads] = arguments.as_slice() else {
        bail!("usage: tls-clients HOST:PORT PATH ROOTS SECONDS THREADS");
    };
    let address: SocketAddr = address.parse().context("no address")?;
    let config = Arc::new(config(roots)?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let fetch = move || fetch(address, &config, &request);
    let done = over_and_over::repeat(threads.parse()?, seconds.parse()?, fetch)?;
    println!("{} connections in {:.3} seconds", done.count, done.seconds);
    Ok(())
}

fn config(roots: &str) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).with_context(|| format!("cannot read {roots}"))? {
        // A system's bundle may hold one that this library does not take.
        let _ = store.add(certificate?);
    }
    let mut provider = aws_lc_rs::default_provider();
    // The one group that all servers of the bench have.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn fetch(address: SocketAddr, config: &Arc<ClientConfig>, request: &str) -> Result<()> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let mut session = ClientConnection::new(Arc::clone(config), ServerName::try_from(NAME)?)?;
    let mut stream = Stream::new(&mut session, &mut tcp);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::with_capacity(2048);
    match stream.take(MOST).read_to_end(&mut answer) {
        Ok(_) => {}
        // Not every server says that it closes; the answer's length is looked at below.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error.into()),
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > SIZE, "an answer of {} bytes", answer.len());
    Ok(())
}
