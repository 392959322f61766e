//! The control planes of a mesh: istiod, with one family of addresses as it is by default, and beside it, for members that
//! have both, one that was told of both. They share configuration, certificate authority and root certificate. It knows no
//! member.

use std::process::Command;

use super::{PROGRAMS, ROOT};
use crate::cluster::Cluster;
use crate::cluster::host::ADDRESS;

/// A control plane.
#[derive(Debug)]
pub(super) struct Plane {
    /// Of its log, too.
    pub(super) name: &'static str,
    /// Before the ports that it listens on.
    ports: u16,
    dual_stack: bool,
}

/// As it comes.
pub(super) const ISTIOD: Plane = Plane { name: "istiod", ports: 15_000, dual_stack: false };
/// Istio knows of a second family only where all of its parts are told.
pub(super) const DUAL_STACK: Plane = Plane { name: "istiod-dual-stack", ports: 16_000, dual_stack: true };

impl Plane {
    /// Where it answers questions about itself.
    pub(super) fn debug(&self) -> String {
        format!("127.0.0.1:{}", self.ports + 7)
    }

    /// Where it answers members.
    pub(super) fn authority(&self) -> String {
        format!("{ADDRESS}:{}", self.ports + 12)
    }

    /// Its program.
    pub(super) fn command(&self, cluster: &Cluster) -> Command {
        let on = |offset: u16| format!(":{}", self.ports + offset);
        let mut command = Command::new(format!("{PROGRAMS}/pilot-discovery"));
        command.args(["discovery", "--kubeconfig"]).arg(cluster.kubeconfig());
        command.args(["--httpAddr", &self.debug(), "--monitoringAddr", &format!("127.0.0.1{}", on(14))]);
        command.args(["--grpcAddr", &on(10), "--secureGRPCAddr", &on(12), "--httpsAddr", &on(17), "--ctrlz_port", "0"]);
        command.env("POD_NAMESPACE", ROOT).env("POD_NAME", format!("{}-0", self.name));
        command.env("PILOT_CERT_PROVIDER", "istiod").env("ISTIO_DUAL_STACK", self.dual_stack.to_string());
        // What Envoy lacks here.
        command.env("PILOT_ENABLE_METADATA_EXCHANGE", "false").env("PILOT_ENABLE_ALPN_FILTER", "false");
        // Nobody would bring it the certificates for webhooks.
        command.env("INJECTION_WEBHOOK_CONFIG_NAME", "").env("VALIDATION_WEBHOOK_CONFIG_NAME", "");
        command
    }
}
