//! A certificate authority as two files, `ca.crt` (which may hold a chain) and `ca.key`: made, kept and checked here. It
//! refuses to know what is signed with it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{self, Facts};
use super::pem;

/// The file of the certificate, or of the chain: ours first, its issuer next.
pub const CERTIFICATE: &str = "ca.crt";
/// The file of the private key, PEM: PKCS #8, SEC 1 or PKCS #1.
pub const KEY: &str = "ca.key";
/// Valid from this long before it was made: clocks differ.
const BACKDATED: Duration = Duration::from_hours(24);
const DAY: Duration = Duration::from_hours(24);
/// Bytes that are read of either file.
const FILE_LIMIT: u64 = 1 << 20;

/// Why there is no authority. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither XDG_CONFIG_HOME nor HOME is set: say where the CA is with a directory")]
    NoHome,
    #[error("no CA in {at}: `nodetap ca init --dir {at}` makes one; or put your own there, as ca.crt and ca.key", at = .0.display())]
    Missing(PathBuf),
    #[error("there is a CA in {} already; --force replaces it, and whoever trusts the old one has to trust the new one", .0.display())]
    Exists(PathBuf),
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoCertificate(PathBuf),
    #[error("{path}: {source}", path = .path.display())]
    NotACertificate { path: PathBuf, source: certificate::Error },
    #[error("{}: holds no private key in PEM (PKCS #8, SEC 1 or PKCS #1, and not encrypted)", .0.display())]
    NoKey(PathBuf),
    #[error("{}: a key that cannot sign here; use P-256, P-384 or RSA of 2048 bits or more", .0.display())]
    UnknownKey(PathBuf),
    #[error("{}: ca.key is not the key of the first certificate in ca.crt", .0.display())]
    ForeignKey(PathBuf),
    #[error("{}: the first certificate is not a CA's (basic constraints CA:TRUE, key usage keyCertSign)", .0.display())]
    NotACa(PathBuf),
    #[error("{path}: the certificate {place} was issued by another one than the one after it", path = .path.display())]
    Chain { path: PathBuf, place: usize },
    #[error("{path}: expired on {on}; make a new one", path = .path.display())]
    Expired { path: PathBuf, on: String },
    #[error("{path}: not valid before {on}; is this machine's clock right?", path = .path.display())]
    NotYet { path: PathBuf, on: String },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// An authority: its certificate, the chain above it, and the key.
#[derive(Debug)]
pub struct Ca {
    /// Our certificate first, each followed by its issuer; the root need not be there.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Ca {
    /// A new one with a P-256 key, which signs leaves only (path length 0). `random` makes its serial number.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn generate(name: &str, days: u32, now: SystemTime, random: u128) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + DAY * days).into();
        // Positive, never zero, and always of the same length (RFC 5280 §4.1.2.2).
        let serial = random & (u128::MAX >> 2) | 1 << 126;
        params.serial_number = Some(serial.to_be_bytes().to_vec().into());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { chain: vec![certificate.der().clone()], key })
    }

    /// Reads the two files in `directory` and checks that they can be used: the key fits, the certificate is a CA's and
    /// valid at `now`, each certificate is followed by its issuer.
    ///
    /// # Errors
    /// When they cannot.
    pub fn load(directory: &Path, now: SystemTime) -> Result<Self, Error> {
        let (path, key_path) = (directory.join(CERTIFICATE), directory.join(KEY));
        let chain = Self::certificates(directory)?;
        let mut facts = Vec::new();
        for certificate in &chain {
            let read =
                Facts::of(certificate).map_err(|source| Error::NotACertificate { path: path.clone(), source })?;
            facts.push(read);
        }
        let first = facts.first().ok_or_else(|| Error::NoCertificate(path.clone()))?;
        if !first.may_sign {
            return Err(Error::NotACa(path));
        }
        let unlinked = facts.windows(2).position(|pair| match pair {
            [one, next] => one.issuer_der != next.subject_der,
            _ => false,
        });
        if let Some(place) = unlinked {
            return Err(Error::Chain { path, place: place + 1 });
        }
        for facts in &facts {
            check_validity(facts, &path, now)?;
        }
        let key = read_key(&key_path)?;
        if key.public_key_raw() != first.public_key {
            return Err(Error::ForeignKey(directory.to_owned()));
        }
        Ok(Self { chain, key })
    }

    /// The certificates alone, unchecked: whoever only shows or exports them needs no key.
    ///
    /// # Errors
    /// When the file is not there or holds none.
    pub fn certificates(directory: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
        let path = directory.join(CERTIFICATE);
        let text = match read(&path) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(directory.to_owned()));
            }
            read => read?,
        };
        let chain = pem::decode(&text);
        if chain.is_empty() { Err(Error::NoCertificate(path)) } else { Ok(chain) }
    }

    /// Writes the two files, the key for us alone; makes the directory if need be.
    ///
    /// # Errors
    /// When one of them is there already and is not to be replaced, or cannot be written.
    pub fn save(&self, directory: &Path, replace: bool) -> Result<(), Error> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        if !replace && (certificate.exists() || key.exists()) {
            return Err(Error::Exists(directory.to_owned()));
        }
        if !directory.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        }
        put(&key, &self.key.serialize_pem(), 0o600, replace)?;
        put(&certificate, &pem::encode(&self.chain), 0o644, replace)
    }
}

/// `$XDG_CONFIG_HOME/nodetap/ca`, else `~/.config/nodetap/ca`, by the two variables' values.
///
/// # Errors
/// When neither says anything.
pub fn directory(xdg_config_home: Option<&Path>, home: Option<&Path>) -> Result<PathBuf, Error> {
    let config = match (xdg_config_home.filter(|path| path.is_absolute()), home) {
        (Some(config), _) => config.to_owned(),
        (None, Some(home)) if !home.as_os_str().is_empty() => home.join(".config"),
        _ => return Err(Error::NoHome),
    };
    Ok(config.join("nodetap/ca"))
}

/// As [`directory`], from this process's environment.
///
/// # Errors
/// As [`directory`].
pub fn default_directory() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    directory(variable("XDG_CONFIG_HOME").as_deref(), variable("HOME").as_deref())
}

/// A moment as a day: `2027-01-31`.
pub fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d").to_string())
        .unwrap_or_else(|_| "a day that no calendar has".to_owned())
}

/// Reads a private key in PEM.
///
/// # Errors
/// When there is none, or it is of a kind that cannot sign here.
pub fn read_key(path: &Path) -> Result<KeyPair, Error> {
    let text = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| Error::NoKey(path.to_owned()))?;
    KeyPair::try_from(&key).map_err(|_| Error::UnknownKey(path.to_owned()))
}

fn check_validity(facts: &Facts, path: &Path, now: SystemTime) -> Result<(), Error> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let (from, until) = facts.validity;
    if now > until {
        return Err(Error::Expired { path: path.to_owned(), on: day(until) });
    }
    if now < from {
        return Err(Error::NotYet { path: path.to_owned(), on: day(from) });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_LIMIT), &mut text).map_err(at(path))?;
    Ok(text)
}

/// Whole or not at all: written beside, then given its name.
fn put(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), Error> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if replace {
            return fs::rename(&beside, path);
        }
        // Unlike a rename this fails where something is already.
        fs::hard_link(&beside, path)?;
        fs::remove_file(&beside)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        at(path)(error)
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}
