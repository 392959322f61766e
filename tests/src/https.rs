//! A server over TLS on loopback with an authority of its own, and the variables by which programs come to trust it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::folder::Folder;
use crate::peers;
use crate::process::Process;

/// All variables that say which roots a program trusts: what the machine's own environment says about it is no part of
/// a test.
pub const VARIABLES: [&str; 15] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "JAVA_TOOL_OPTIONS",
    "PIP_CERT",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

/// What a server asks of those who call it, or has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing out of the ordinary.
    Plain,
    /// A certificate of its own authority: its own would do.
    Mutual,
    /// TLS 1.1, and nothing newer.
    Old,
    /// A certificate that no authority has signed.
    SelfSigned,
}

/// A running server; its certificate is for localhost and 127.0.0.1.
#[derive(Debug)]
pub struct Https {
    _process: Process,
    folder: Folder,
    port: u16,
}

impl Https {
    /// Starts one that answers each request with its path.
    ///
    /// # Errors
    /// When there is no Python, or it does not start.
    pub fn start() -> Result<Self> {
        Self::of(Kind::Plain)
    }

    /// As [`Https::start`], of another kind.
    ///
    /// # Errors
    /// When there is no Python, or it does not start.
    pub fn of(kind: Kind) -> Result<Self> {
        let folder = Folder::new()?;
        if kind == Kind::SelfSigned {
            issue_by_nobody(&folder)?
        } else {
            issue(&folder)?
        }
        let word = match kind {
            Kind::Plain | Kind::SelfSigned => "plain",
            Kind::Mutual => "mutual",
            Kind::Old => "old",
        };
        let (certificate, key) = (folder.join("leaf.pem"), folder.join("leaf.key"));
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/https.py");
        let mut command = Command::new("/usr/bin/python3");
        let process = Process::start(command.arg(script).arg(&certificate).arg(&key).arg(word))?;
        let port = peers::port(&process)?;
        Ok(Self { _process: process, folder, port })
    }

    /// `https://localhost:PORT/PATH`.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A file with the root of the server's certificate.
    pub fn roots(&self) -> PathBuf {
        self.folder.join("roots.pem")
    }

    /// A file with the server's certificate; beside it `leaf.key`, and in `leaf.pub` its public key.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("leaf.pem")
    }
}

/// Writes a certificate for localhost and 127.0.0.1 into a folder: `leaf.pem`, `leaf.key`, `leaf.pub`, and in `roots.pem` the root of
/// an authority that is made for it.
///
/// # Errors
/// When it cannot be written.
pub fn issue(folder: &Path) -> Result<()> {
    issue_for(folder, &["localhost", "127.0.0.1"])
}

/// As [`issue`], for other names.
///
/// # Errors
/// As [`issue`].
pub fn issue_for(folder: &Path, names: &[&str]) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "somebody's own CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key)?;
    let leaf_key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, &key))?;
    write(folder, &root.pem(), &leaf.pem(), &leaf_key)
}

fn issue_by_nobody(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?.self_signed(&key)?.pem();
    write(folder, &leaf, &leaf, &key)
}

fn write(folder: &Path, root: &str, leaf: &str, key: &KeyPair) -> Result<()> {
    std::fs::write(folder.join("roots.pem"), root)?;
    std::fs::write(folder.join("leaf.pem"), leaf)?;
    std::fs::write(folder.join("leaf.key"), key.serialize_pem())?;
    Ok(std::fs::write(folder.join("leaf.pub"), key.public_key_pem())?)
}
