//! `nodetap ca`: the certificate authority that opened TLS is signed with, and what other programs need to trust it.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use rustls::pki_types::CertificateDer;

use super::output::{Failure, report};
use crate::trust::ca::{self, CERTIFICATE, Ca, KEY, day, default_directory};
use crate::trust::certificate::{Facts, in_hex};
use crate::trust::{JAVA_PASSWORD, Roots, jks, pem, pkcs12};

/// As long as browsers' roots last at least, and no longer than anybody keeps a machine.
const DAYS: u32 = 3650;

/// Make, show or export the certificate authority that TLS is opened with
#[derive(Debug, Clone, Args)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make one
    Init(Init),
    /// Show whose it is, until when, and its fingerprints
    Show(Place),
    /// Write what programs need to trust it
    Export(Export),
}

#[derive(Debug, Clone, Args)]
struct Place {
    /// Folder of ca.crt and ca.key [default: $XDG_CONFIG_HOME/nodetap/ca]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct Init {
    #[command(flatten)]
    place: Place,
    /// Its common name [default: "nodetap CA on" this host]
    #[arg(long, value_name = "CN")]
    name: Option<String>,
    /// Days until it expires
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Replace one that is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Our certificate alone (a bundle of it alone would take a program's other roots away)
    Pem,
    /// This system's roots and ours, for SSL_CERT_FILE and its like
    Bundle,
    /// This system's roots and ours, for Java 8u301 and newer
    Pkcs12,
    /// This system's roots and ours, for any Java
    Jks,
}

#[derive(Debug, Clone, Args)]
struct Export {
    #[command(flatten)]
    place: Place,
    #[arg(long, value_name = "FORMAT", default_value = "pem")]
    format: Format,
    /// File to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Password of a Java trust store; six letters at least, or Java's tools will not open it
    #[arg(long, value_name = "P", default_value = JAVA_PASSWORD)]
    password: String,
}

impl Command {
    pub fn run(&self) -> ExitCode {
        report(match &self.action {
            Action::Init(init) => init.run(),
            Action::Show(place) => show(place),
            Action::Export(export) => export.run(),
        })
    }
}

impl Place {
    fn directory(&self) -> Result<PathBuf, Failure> {
        match &self.dir {
            Some(directory) => Ok(directory.clone()),
            None => Ok(default_directory()?),
        }
    }
}

impl Init {
    fn run(&self) -> Result<(), Failure> {
        let directory = self.place.directory()?;
        let name = self.name.clone().unwrap_or_else(|| format!("nodetap CA on {}", host()));
        let ca = Ca::generate(&name, self.days, SystemTime::now(), random()?)?;
        ca.save(&directory, self.force)?;
        let mut out = io::stdout().lock();
        describe(&mut out, &directory, &ca.chain)?;
        writeln!(out, "\nPrograms that are to trust it: `nodetap ca export --format bundle`, pkcs12 or jks")?;
        Ok(())
    }
}

fn show(place: &Place) -> Result<(), Failure> {
    let directory = place.directory()?;
    describe(&mut io::stdout().lock(), &directory, &Ca::certificates(&directory)?)?;
    // Shown first: whoever asks wants to see what is wrong with it.
    Ca::load(&directory, SystemTime::now())?;
    Ok(())
}

fn describe(out: &mut impl io::Write, directory: &Path, chain: &[CertificateDer<'static>]) -> Result<(), Failure> {
    for certificate in chain {
        let path = directory.join(CERTIFICATE);
        let facts = Facts::of(certificate).map_err(|source| ca::Error::NotACertificate { path, source })?;
        writeln!(out, "subject      {}", facts.subject)?;
        writeln!(out, "valid        {} to {}", day(facts.validity.0), day(facts.validity.1))?;
        writeln!(out, "SHA-256      {}", in_hex(&facts.fingerprint))?;
        writeln!(out, "SPKI pin     sha256//{}", facts.pin)?;
    }
    writeln!(out, "certificate  {}", directory.join(CERTIFICATE).display())?;
    writeln!(out, "key          {}", directory.join(KEY).display())?;
    Ok(())
}

impl Export {
    fn run(&self) -> Result<(), Failure> {
        let ours = Ca::certificates(&self.place.directory()?)?;
        let bytes = self.bytes(&ours)?;
        match self.to.as_ref().filter(|path| path.as_os_str() != "-") {
            Some(path) => std::fs::write(path, bytes)
                .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display()))),
            None if self.is_binary() && io::stdout().is_terminal() => {
                Err(Failure::bad_input("a Java trust store is no text: name a file with --to FILE"))
            }
            None => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                Ok(out.flush()?)
            }
        }
    }

    fn is_binary(&self) -> bool {
        matches!(self.format, Format::Pkcs12 | Format::Jks)
    }

    fn bytes(&self, ours: &[CertificateDer<'static>]) -> Result<Vec<u8>, Failure> {
        if self.format == Format::Pem {
            return Ok(pem::encode(ours).into_bytes());
        }
        let system = Roots::system();
        if system.is_empty() {
            let text = "this system has no root certificates (Debian: apt-get install ca-certificates): with ours alone a \
                        program would trust nothing else; --format pem writes it";
            return Err(Failure::new(text));
        }
        let cannot = |error: &dyn std::fmt::Display| Failure::new(format!("the store cannot be written: {error}"));
        match self.format {
            Format::Pem | Format::Bundle => Ok((pem::encode(system.iter()) + &pem::encode(ours)).into_bytes()),
            Format::Pkcs12 => pkcs12::encode(&system.aliased(ours), &self.password).map_err(|error| cannot(&error)),
            Format::Jks => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                jks::encode(&system.aliased(ours), &self.password, now).map_err(|error| cannot(&error))
            }
        }
    }
}

impl From<ca::Error> for Failure {
    fn from(error: ca::Error) -> Self {
        match error {
            ca::Error::File { .. } | ca::Error::Make(_) | ca::Error::Missing(_) => Self::new(error),
            _ => Self::bad_input(error),
        }
    }
}

/// 128 bits from the kernel.
fn random() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => Ok(u128::from_ne_bytes(bytes)),
        Err(error) => Err(Failure::new(format!("the kernel gives no random bytes: {error}"))),
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this host".to_owned() } else { name.trim().to_owned() }
}
