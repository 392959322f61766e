//! A client that greases ECH, as browsers do (RFC 9849 §6.2): `greasing ROOTS URL` prints the body. It knows nothing of what
//! it is used to test.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The most that is read of an answer.
const MOST: u64 = 64 << 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [roots, url] = arguments.as_slice() else { bail!("usage: greasing ROOTS URL") };
    let (address, path) = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')).context("no such URL")?;
    let (host, _) = address.split_once(':').context("a URL without a port")?;
    let session = ClientConnection::new(Arc::new(config(roots)?), ServerName::try_from(host.to_owned())?)?;
    let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.take(MOST).read_to_end(&mut answer) {
        Ok(_) => {}
        // The answer says itself how long it is.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error.into()),
    }
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("answered {head}");
    }
    print!("{body}");
    Ok(())
}

fn config(roots: &str) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).with_context(|| format!("cannot read {roots}"))? {
        // A system's bundle may hold one that this library does not take.
        let _ = store.add(certificate?);
    }
    let suite = aws_lc_rs::hpke::ALL_SUPPORTED_SUITES.first().context("no suite for ECH")?;
    let (key, _) = suite.generate_key_pair()?;
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Grease(EchGreaseConfig::new(*suite, key)))?
        .with_root_certificates(store)
        .with_no_client_auth())
}
