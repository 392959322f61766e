//! The certificates of the contest, made by openssl: an authority of its own, and one certificate for every server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Files, all PEM.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Key and certificate in one.
    pub(super) both: PathBuf,
}

impl Certificates {
    /// Makes them, for `localhost` and 127.0.0.1.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let file = |name: &str| folder.join(name);
        let authority_key = file("authority.key");
        let made = Self {
            authority: file("authority.pem"),
            certificate: file("server.pem"),
            key: file("server.key"),
            both: file("server-both.pem"),
        };
        process::output(request("bench authority", &authority_key, &made.authority)?.args([
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]))?;
        let mut server = request("localhost", &made.key, &made.certificate)?;
        server.arg("-CA").arg(&made.authority).arg("-CAkey").arg(&authority_key);
        process::output(server.args([
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]))?;
        let both = std::fs::read_to_string(&made.key)? + &std::fs::read_to_string(&made.certificate)?;
        std::fs::write(&made.both, both)?;
        Ok(made)
    }

    /// What a server block of nginx holds for TLS.
    pub(super) fn for_nginx(&self) -> String {
        format!(
            "ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            self.certificate.display(),
            self.key.display()
        )
    }
}

/// A certificate with a new key, valid for two days.
fn request(name: &str, key: &Path, certificate: &Path) -> Result<Command> {
    let mut command = Command::new(process::find("openssl").context("no openssl")?);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    // Its own settings, not the machine's: those may add extensions of their own.
    command.args(["-config", "/dev/null", "-subj", &format!("/CN={name}")]);
    command.arg("-keyout").arg(key).arg("-out").arg(certificate);
    Ok(command)
}
