//! Sets of root certificates, and where they are found: the platform's own places, a file or directory of the user's, a
//! Java trust store. It does not listen to SSL_CERT_FILE and its like: those are the target's environment, which
//! [`super::environment`] reads, and not a statement about this machine.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::{certificate, jks, pem, pkcs12};

/// Where distributions keep all roots in one file; the first that is there counts (the list that Go's crypto/x509 has).
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where they keep them one by one.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// A JDK's own roots, below its folder: what it looks for, in its order; last the place in a JDK 8.
const JAVA_STORES: [&str; 3] = ["lib/security/jssecacerts", "lib/security/cacerts", "jre/lib/security/cacerts"];
/// Bytes that are read of one file of roots.
const FILE_LIMIT: u64 = 16 << 20;

/// Why roots cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: larger than {FILE_LIMIT} bytes", path = .0.display())]
    Large(PathBuf),
    #[error("{path}: {source}", path = .path.display())]
    Jks { path: PathBuf, source: jks::Error },
    #[error("{path}: {source}", path = .path.display())]
    Pkcs12 { path: PathBuf, source: pkcs12::Error },
    #[error("{}: neither JKS nor PKCS #12", .0.display())]
    UnknownStore(PathBuf),
}

/// Root certificates, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Those of this platform. Nothing, if it has none.
    pub fn system() -> Self {
        let file = FILES.iter().map(Path::new).find(|path| path.exists());
        let mut roots = Self::default();
        for path in file.into_iter().chain(system_directories()) {
            match Self::read(path) {
                Ok(found) => roots.extend(found),
                Err(error) => tracing::debug!(%error, "some of this system's roots are left out"),
            }
        }
        roots
    }

    /// Those of a PEM file, or of all PEM files in a directory (that is not searched any deeper).
    ///
    /// # Errors
    /// When it cannot be read. What is in it and is no certificate is passed over, as all programs do.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return Ok(pem::decode(&bytes(path)?).into_iter().collect());
        }
        // Its own failure first: below a file may come and go.
        std::fs::read_dir(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let found = rustls_native_certs::load_certs_from_paths(None, Some(path));
        for error in &found.errors {
            tracing::debug!(%error, "a file of roots is left out");
        }
        Ok(found.certs.into_iter().collect())
    }

    /// Those of a Java trust store, JKS or PKCS #12.
    ///
    /// # Errors
    /// When it cannot be read, or not with this password.
    pub fn java(path: &Path, password: &str) -> Result<Self, Error> {
        /// A SEQUENCE, with which every PKCS #12 file begins.
        const SEQUENCE: u8 = 0x30;
        let bytes = bytes(path)?;
        let found = if bytes.starts_with(&jks::MAGIC) {
            jks::decode(&bytes).map_err(|source| Error::Jks { path: path.to_owned(), source })?
        } else if bytes.first() == Some(&SEQUENCE) {
            pkcs12::decode(&bytes, password).map_err(|source| Error::Pkcs12 { path: path.to_owned(), source })?
        } else {
            return Err(Error::UnknownStore(path.to_owned()));
        };
        Ok(found.into_iter().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and ours, each with an alias: ours by our name, the others by their subject's hash and their place.
    pub fn aliased(&self, ours: &[CertificateDer<'static>]) -> Vec<(String, CertificateDer<'static>)> {
        let own = ours.iter().enumerate().map(|(place, certificate)| match place {
            0 => ("nodetap".to_owned(), certificate.clone()),
            _ => (format!("nodetap-{place}"), certificate.clone()),
        });
        let others = self.iter().filter(|certificate| !ours.contains(certificate)).enumerate();
        let others = others.filter_map(|(place, certificate)| {
            let hash = certificate::Facts::of(certificate).ok()?.openssl_hash;
            Some((format!("{hash}-{place}"), certificate.clone()))
        });
        own.chain(others).collect()
    }
}

impl Extend<CertificateDer<'static>> for Roots {
    fn extend<T: IntoIterator<Item = CertificateDer<'static>>>(&mut self, certificates: T) {
        self.0.extend(certificates);
        self.0.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        self.0.dedup();
    }
}

impl FromIterator<CertificateDer<'static>> for Roots {
    fn from_iter<T: IntoIterator<Item = CertificateDer<'static>>>(certificates: T) -> Self {
        let mut roots = Self::default();
        roots.extend(certificates);
        roots
    }
}

impl IntoIterator for Roots {
    type Item = CertificateDer<'static>;
    type IntoIter = std::vec::IntoIter<CertificateDer<'static>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// This platform's directories of single certificates.
pub fn system_directories() -> impl Iterator<Item = &'static Path> {
    DIRECTORIES.iter().map(Path::new).filter(|path| path.is_dir())
}

/// The store that a JDK below this folder uses when nobody names another.
pub fn java_store(home: &Path) -> Option<PathBuf> {
    JAVA_STORES.iter().map(|name| home.join(name)).find(|path| path.is_file())
}

/// The bytes of a file of roots.
///
/// # Errors
/// When it cannot be read, or is larger than any such file.
pub fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes: Vec<u8> = read().map_err(|source| Error::File { path: path.to_owned(), source })?;
    if bytes.len() as u64 > FILE_LIMIT { Err(Error::Large(path.to_owned())) } else { Ok(bytes) }
}
