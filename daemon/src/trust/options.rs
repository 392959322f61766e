//! What can be said about TLS on the command line, and what the data plane is told of it. Both commands that capture take
//! [`Options`]; only one that reverses takes [`InboundOptions`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use nodetap_core::filter::Glob;
use nodetap_proxy::tls::{self, Authority, Inbound, Outbound, Pair, Upstream};
use rustls::RootCertStore;
use rustls::pki_types::UnixTime;

use super::roots::{self, Roots};
use super::{Ca, ca, pem};

/// Why TLS cannot be opened or served as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Ca(#[from] ca::Error),
    #[error(transparent)]
    Roots(#[from] roots::Error),
    #[error("{}: holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoRoots(PathBuf),
    #[error("{certificate} and {key}: {source}", certificate = .certificate.display(), key = .key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: tls::Error },
    #[error("TLS cannot be opened: {0}")]
    Tls(#[from] tls::Error),
    #[error("Java's trust store cannot be written: {0}")]
    Java(#[from] super::pkcs12::Error),
}

/// TLS that the target speaks as a client.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Open the TLS of outbound connections and record what is said in it; what does not verify, or does not take our
    /// certificate, is passed on untouched
    #[arg(long = "tls", visible_alias = "tls-out")]
    pub open: bool,
    /// Folder of the certificate authority to open it with: ca.crt (may hold a chain) and ca.key
    #[arg(long, value_name = "DIR", requires = "open")]
    pub ca: Option<PathBuf>,
    /// Verify servers against the roots in this PEM file too; may be repeated
    #[arg(long, value_name = "FILE")]
    pub tls_roots: Vec<PathBuf>,
    /// Do not open the TLS of this host (`*` stands for anything); may be repeated
    #[arg(long, value_name = "HOST", value_parser = Glob::new)]
    pub ignore_tls_host: Vec<Glob>,
    /// Certificate, with its chain, for servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_client_key")]
    pub tls_client_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_client_cert")]
    pub tls_client_key: Option<PathBuf>,
}

impl Options {
    /// The authority that was named, checked.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn authority(&self, now: SystemTime) -> Result<Option<Ca>, Error> {
        Ok(self.ca.as_deref().map(|directory| Ca::load(directory, now)).transpose()?)
    }

    /// What the data plane opens TLS with: `ca`'s leaves, and servers verified against `roots` and those that were named.
    ///
    /// # Errors
    /// When a file cannot be read, or there is no root at all.
    pub fn outbound(&self, ca: &Ca, mut roots: Roots, now: SystemTime) -> Result<Arc<Outbound>, Error> {
        for path in &self.tls_roots {
            roots.extend(named_roots(path)?);
        }
        let key = ca.key.serialize_pem();
        let authority = Authority::from_pem(pem::encode(&ca.chain).as_bytes(), key.as_bytes(), unix(now))?;
        let outbound = Outbound::new(authority, store(roots), self.identity()?)?;
        Ok(Arc::new(outbound.leaving(self.ignore_tls_host.clone())))
    }

    /// As [`Options::outbound`], where there is no command whose environment could be made to trust us: with the
    /// authority that was named or else the user's own, and the roots that programs here have by their environment.
    /// `None`: it was not asked for.
    ///
    /// # Errors
    /// As [`Options::outbound`], and when there is no authority.
    pub fn standing_outbound(&self, now: SystemTime) -> Result<Option<Arc<Outbound>>, Error> {
        if !self.open {
            return Ok(None);
        }
        let ca = match self.authority(now)? {
            Some(ca) => ca,
            None => Ca::load(&ca::default_directory()?, now)?,
        };
        let mut roots = Roots::system();
        roots.extend(rustls_native_certs::load_native_certs().certs);
        self.outbound(&ca, roots, now).map(Some)
    }

    fn identity(&self) -> Result<Option<Pair>, Error> {
        let files = self.tls_client_cert.as_deref().zip(self.tls_client_key.as_deref());
        files.map(|(certificate, key)| pair(certificate, key)).transpose()
    }
}

/// How the application behind TLS that ends here is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Behind {
    /// Without TLS, HTTP/1.1 (HTTP/2 where a client offers nothing else)
    #[default]
    Plain,
    /// Without TLS, HTTP/2 too
    H2c,
    /// With TLS; verified only where --tls-roots names the roots
    Tls,
}

/// TLS that ends here, with the user's own certificate.
#[derive(Debug, Clone, Default, Args)]
pub struct InboundOptions {
    /// Serve TLS with this certificate (PEM, with its chain); read again when it changes
    #[arg(long, visible_alias = "tls-in", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How the application behind is spoken to
    #[arg(long, value_name = "HOW", default_value = "plain", requires = "tls_cert")]
    pub tls_upstream: Behind,
}

/// A certificate that is served, and the files that it comes from.
#[derive(Debug)]
pub struct Served {
    pub inbound: Arc<Inbound>,
    certificate: PathBuf,
    key: PathBuf,
    /// What the files held when they were last looked at.
    seen: (Vec<u8>, Vec<u8>),
}

impl InboundOptions {
    /// What the data plane ends TLS with. `None`: it was not asked for.
    ///
    /// # Errors
    /// When a file cannot be read, or certificate and key do not belong together.
    pub fn served(&self, outbound: &Options) -> Result<Option<Served>, Error> {
        let Some((certificate, key)) = self.tls_cert.as_deref().zip(self.tls_key.as_deref()) else { return Ok(None) };
        let upstream = match self.tls_upstream {
            Behind::Plain => Upstream::Plain,
            Behind::H2c => Upstream::PlainH2c,
            Behind::Tls => {
                let mut roots = Roots::default();
                for path in &outbound.tls_roots {
                    roots.extend(named_roots(path)?);
                }
                let roots = (!roots.is_empty()).then(|| store(roots));
                Upstream::Tls { roots, identity: outbound.identity()? }
            }
        };
        let inbound = Arc::new(Inbound::new(pair(certificate, key)?, upstream)?);
        let seen = (roots::bytes(certificate)?, roots::bytes(key)?);
        Ok(Some(Served { inbound, certificate: certificate.to_owned(), key: key.to_owned(), seen }))
    }
}

/// Looks every so often whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// The thread that looks; ends when dropped.
#[derive(Debug)]
pub struct Renewing {
    _until: mpsc::Sender<()>,
}

impl Served {
    /// Keeps what is served up to date from now on.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn keep_renewing(mut self) -> io::Result<Renewing> {
        let (until, ended) = mpsc::channel();
        std::thread::Builder::new().name("nodetap-renew".into()).spawn(move || {
            while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                match self.renew() {
                    Ok(true) => {
                        tracing::info!(certificate = %self.certificate.display(), "a renewed certificate is served")
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!("{error}; the old certificate is served on"),
                }
            }
        })?;
        Ok(Renewing { _until: until })
    }

    /// Looks at the files and serves what is new in them; true when there was something. To be called every few seconds.
    /// By their bytes and not by their times: a secret of Kubernetes is renewed by a symbolic link.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together, as in the middle of a renewal: the old pair is served on.
    /// Said once for the same content.
    pub fn renew(&mut self) -> Result<bool, Error> {
        let now = (roots::bytes(&self.certificate)?, roots::bytes(&self.key)?);
        if now == self.seen {
            return Ok(false);
        }
        let pair = Pair::from_pem(&now.0, &now.1);
        self.seen = now;
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        self.inbound.reload(pair.map_err(|source| Error::Pair { certificate, key, source })?);
        Ok(true)
    }
}

fn pair(certificate: &Path, key: &Path) -> Result<Pair, Error> {
    let read = Pair::from_pem(&roots::bytes(certificate)?, &roots::bytes(key)?);
    read.map_err(|source| Error::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source })
}

fn named_roots(path: &Path) -> Result<Roots, Error> {
    let roots = Roots::read(path)?;
    if roots.is_empty() { Err(Error::NoRoots(path.to_owned())) } else { Ok(roots) }
}

/// What rustls can use of them: a root with an odd extension is no reason to do without the others.
fn store(roots: Roots) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(roots);
    if ignored > 0 {
        tracing::debug!(ignored, "roots that cannot be used");
    }
    store
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
