//! The command lines of what stands in the middle of HTTPS.

use std::process::Command;

use anyhow::{Context, Result};

use super::Kind;
use super::certificates::Certificates;
use crate::bench::Ground;
use crate::started;

/// What a lane is built from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) ground: Ground<'a>,
    /// `HOST:PORT` that clients call, when it is not the site itself.
    pub(super) own: &'a str,
    /// `HOST:PORT` of the site.
    pub(super) upstream: &'a str,
    pub(super) certificates: &'a Certificates,
}

impl Parts<'_> {
    /// What stands in the middle; nothing on the direct path.
    pub(super) fn command(&self, kind: Kind) -> Result<Option<Command>> {
        Ok(Some(match kind {
            Kind::Direct => return Ok(None),
            Kind::Nginx => self.proxy_pass()?,
            Kind::Mitmdump => self.mitmdump()?,
            Kind::ProxyRecording => self.reverse()?,
            Kind::RunOutbound => self.run()?,
        }))
    }

    /// Connections to the site are kept: nginx at its best.
    fn proxy_pass(&self) -> Result<Command> {
        let servers = format!(
            "upstream site {{ server {}; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 300; }}\n\
             server {{ listen {} ssl; {} location / {{ proxy_pass https://site; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_max_temp_file_size 0; proxy_ssl_protocols TLSv1.3;\n\
             proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name localhost; }} }}",
            self.upstream,
            self.own,
            self.certificates.for_nginx(),
            self.certificates.authority.display(),
        );
        started::nginx(self.ground.folder, "proxy", &servers)
    }

    /// With the certificate that all have: its own would be RSA, which is slower.
    fn mitmdump(&self) -> Result<Command> {
        let folder = self.ground.folder;
        let (host, port) = self.own.split_once(':').context("an address without a port")?;
        let mut command = Command::new(self.ground.programs.mitmdump()?);
        command.args(["-q", "--mode", &format!("reverse:https://{}", self.upstream)]);
        command.args(["--listen-host", host, "--listen-port", port, "-w"]).arg(folder.join("mitmdump-flows"));
        command.args(["--certs", &format!("*={}", self.certificates.both.display())]);
        command.args(["--set", &format!("confdir={}", folder.join("mitmdump").display())]);
        let authority = self.certificates.authority.display();
        command.args(["--set", &format!("ssl_verify_upstream_trusted_ca={authority}")]);
        Ok(command)
    }

    fn reverse(&self) -> Result<Command> {
        let mut command = Command::new(self.ground.programs.nodetap()?);
        command.args(["proxy", "--workers", "1", "--quiet"]);
        command.args(["--reverse", &format!("{}={}", self.own, self.upstream), "--tls-upstream", "tls"]);
        command.arg("--tls-cert").arg(&self.certificates.certificate).arg("--tls-key").arg(&self.certificates.key);
        command.arg("--tls-roots").arg(&self.certificates.authority);
        command.arg("--out").arg(self.ground.records(Kind::ProxyRecording));
        Ok(command)
    }

    fn run(&self) -> Result<Command> {
        let mut command = Command::new(self.ground.programs.nodetap()?);
        command.args(["run", "--workers", "1", "--quiet", "--tls", "--tls-roots"]);
        command.arg(&self.certificates.authority).arg("--out");
        command.arg(self.ground.records(Kind::RunOutbound)).args(["--", "sh"]);
        Ok(command)
    }
}
