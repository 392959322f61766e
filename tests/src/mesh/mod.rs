//! A mesh of a test's own beside its cluster, of real parts: istiod with its certificate authority, and in each member
//! Istio's redirect rules, its agent and Envoy, all of them under STRICT mTLS. It knows nothing of nodetap.
//!
//! ```ignore
//! let mesh = Mesh::shared()?;                                 // one for all tests of a binary
//! let web = mesh.member(&pod::manifest(&shop, "web", &[("app", 8080)]))?;    // a pod of the cluster, and in the mesh
//! web.pod().start("app", &server)?;                           // as with any bare pod
//! web.logged()?;                                              // what its Envoy has logged, one value a connection or request
//! mesh.dump(&web)?;                                           // what istiod gives it
//! let setup = Setup { nftables: true, ..Setup::default() };    // rules, and families of addresses, as an administrator chooses
//! mesh.member_as(setup, &manifest)?;
//! ```
//!
//! Envoy is the one that everybody can have, without Istio's own filters: istiod is told not to ask for those that this
//! takes away (peer metadata, and its ALPN, so that HTTP over mTLS on a port without a protocol is plain TCP here).

pub mod member;
mod plane;
pub mod served;

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use self::member::Member;
use self::plane::{DUAL_STACK, ISTIOD, Plane};
use crate::cluster::Cluster;
use crate::wait::{DEADLINE, eventually};
use crate::{http, installed};

/// Istio's own namespace, and its root namespace.
pub const ROOT: &str = "istio-system";
/// Where the machine has the programs: users that are not root cannot see into a cache of root's.
const PROGRAMS: &str = "/var/lib/istio-programs";

/// What a member is made with, of what an administrator chooses for a whole mesh: iptables and IPv4 where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setup {
    /// Its rules are nftables' own.
    pub nftables: bool,
    /// Its rules, its Envoy and its control plane know both families of addresses. Its pod has both always.
    pub dual_stack: bool,
}

/// A mesh.
#[derive(Debug)]
pub struct Mesh {
    cluster: &'static Cluster,
    dual_stack: OnceLock<Result<(), String>>,
}

impl Mesh {
    /// The one that all tests of this binary share, on the cluster that they share.
    ///
    /// # Errors
    /// When a part is not installed or does not come up, for each that asks.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Mesh, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Cluster::shared().and_then(Self::up).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    fn up(cluster: &'static Cluster) -> Result<Self> {
        let bin = installed::istio()?;
        let bin = bin.to_str().context("a path that is no text")?;
        cluster.host().script("mkdir -p \"$2\"; mount --bind \"$1\" \"$2\"", &[bin, PROGRAMS])?;
        cluster.kubectl(&["apply", "--server-side", "-f", &format!("{bin}/crds.yaml")])?;
        cluster.namespace_named(ROOT, &json!({}))?;
        let settings = json!({
            "rootNamespace": ROOT, "accessLogFile": member::ACCESS_LOG, "accessLogEncoding": "JSON",
            "defaultConfig": {"discoveryAddress": ISTIOD.authority()},
        });
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"},
            "data": {"mesh": settings.to_string(), "meshNetworks": "networks: {}"},
        });
        cluster.api("POST", &format!("/api/v1/namespaces/{ROOT}/configmaps"), Some(&map))?;
        let mesh = Self { cluster, dual_stack: OnceLock::new() };
        cluster.host().serve(ISTIOD.name, ISTIOD.command(cluster))?;
        // Nobody in it is called but with mTLS.
        let strict = json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "default"},
            "spec": {"mtls": {"mode": "STRICT"}},
        });
        let path = format!("/apis/security.istio.io/v1/namespaces/{ROOT}/peerauthentications");
        cluster.api("POST", &path, Some(&strict))?;
        mesh.until_ready(&ISTIOD)?;
        Ok(mesh)
    }

    fn until_ready(&self, plane: &Plane) -> Result<()> {
        let ready = eventually(DEADLINE * 2, plane.name, || self.ask(plane, "/ready").ok());
        ready.map(drop).with_context(|| self.cluster.host().log(plane.name))
    }

    /// The one of a member; the second one is brought up for the first who asks.
    fn plane(&self, setup: Setup) -> Result<&'static Plane> {
        if !setup.dual_stack {
            return Ok(&ISTIOD);
        }
        let up = || {
            self.cluster.host().serve(DUAL_STACK.name, DUAL_STACK.command(self.cluster))?;
            self.until_ready(&DUAL_STACK)
        };
        let up = self.dual_stack.get_or_init(|| up().map_err(|error| format!("{error:#}")));
        up.as_ref().map_err(|error| anyhow!("{error}"))?;
        Ok(&DUAL_STACK)
    }

    /// Its cluster.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Makes a pod of a manifest, with what injection would add, and waits until its Envoy is ready.
    ///
    /// # Errors
    /// With what its agent said, when it does not become ready.
    pub fn member(&self, manifest: &Value) -> Result<Member> {
        self.member_as(Setup::default(), manifest)
    }

    /// As [`Mesh::member`], with what is chosen for it.
    ///
    /// # Errors
    /// As [`Mesh::member`], and when its control plane does not come up.
    pub fn member_as(&self, setup: Setup, manifest: &Value) -> Result<Member> {
        Member::make(self.cluster, setup, self.plane(setup)?, manifest)
    }

    /// What istiod gives to a member.
    ///
    /// # Errors
    /// When it does not know it.
    pub fn dump(&self, member: &Member) -> Result<Value> {
        let answer = self.ask(member.plane(), &format!("/debug/config_dump?proxyID={}", member.full_name()))?;
        serde_json::from_slice(&answer).context("istiod's answer is no JSON")
    }

    /// `istioctl ARG…` as cluster-admin; returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn istioctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(installed::istio()?.join("istioctl"));
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig()).args(arguments);
        let done = self.cluster.host().enter_network(&command).output()?;
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        anyhow::ensure!(done.status.success(), "istioctl {}: {said}", arguments.join(" "));
        Ok(said)
    }

    fn ask(&self, plane: &Plane, path: &str) -> Result<Vec<u8>> {
        http::get_over(self.cluster.host().dial(plane.debug().parse()?)?, path)
    }
}
