//! A Kubernetes cluster of a test's own, of real parts and without images or a registry: etcd, API server, controller
//! manager, scheduler and kube-proxy, on a machine (namespaces: [`host`]) that ends with the value. Several stand side by
//! side. It knows nothing of nodetap: the agent is a program like any other here.
//!
//! ```ignore
//! let cluster = Cluster::shared()?;                        // one for all tests of a binary; Cluster::up()? is a test's own
//! let shop = cluster.namespace()?;                         // a namespace with a name that no other test has
//! cluster.kubectl(&["-n", &shop, "get", "pods"])?;         // what a user does
//! cluster.apply("apiVersion: v1 …")?;                      // kubectl apply -f -
//! cluster.api("GET", "/api/v1/namespaces/shop/pods", None)?;    // the same in a millisecond: JSON in, JSON out
//!
//! let pod = cluster.bare_pod(&pod::manifest(&shop, "web", &[("app", 8080)]))?;     // any Pod manifest will do
//! let server = pod.start("app", &Command::new("/usr/bin/python3"))?;              // a program in the container's cgroup and the pod's netns
//! pod.dial("10.96.0.1:443".parse()?)?;                     // a connection from the pod, held by the test
//! pod.restart("app")?; pod.renew_sandbox()?; pod.delete()?;
//!
//! let agent = cluster.start(&nodetap)?;                    // a program on the node: agent.pid() is the program's own
//! cluster.kubeconfig();                                    // for programs on the machine: cluster-admin
//! cluster.kubeconfig_for("alice", None, Reach::Outside)?;  // a laptop, with what RBAC gives to alice
//! cluster.api_server_away()?; cluster.api_server_back()?;  // a test's own cluster; host().signal("kube-apiserver", STOP) hangs it
//! cluster.audit()?;                                        // every request that was made by somebody outside the control plane
//!
//! let node = cluster.node()?;                              // containerd and kubelet: another node on the same machine
//! node.import(&images::nginx()?)?;                         // docker.io/local/nginx:1
//! let pod = node.ready(&shop, "web")?;                     // the object, once it is ready
//! ```
//!
//! Bare pods stand on the node [`NODE`], which is cordoned and made with the first of them; the kubelet's is
//! [`node::NAME`]. A DaemonSet that tolerates everything puts a pod on both: let it select `kubernetes.io/os: linux`. A
//! bare pod is a Pod object with a status as a kubelet writes it, a network namespace (`/run/netns/…`), and on the
//! machine's cgroup v2 mount `kubepods/[QOS/]pod<uid>/<container id>`, with a process that holds the sandbox.
//! Paths: the file system is the test's but for `/run`, `/var/lib`, `/var/log` and the cgroup mounts; [`Host::path`]
//! says where those of the machine are found from outside. Process ids given by this module are those outside.

mod api;
mod authority;
mod control;
pub mod host;
pub mod images;
pub mod inside;
pub mod load;
pub mod node;
pub mod pod;
pub mod python;
mod relay;
mod sandbox;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::api::Api;
use self::authority::Authority;
use self::host::{ADDRESS, ADDRESS6, Host};
use self::inside::Inside;
use self::node::Node;
use self::pod::BarePod;
use self::relay::Relay;
use crate::installed;
use crate::wait::{DEADLINE, eventually};

/// The node of bare pods.
pub const NODE: &str = "bare";

/// Where a kubeconfig is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the machine's network.
    Inside,
    /// On the machine that the test runs on.
    Outside,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    authority: Authority,
    api: Api,
    relay: Mutex<Option<Relay>>,
    count: AtomicU32,
    node: OnceLock<Result<(), String>>,
    bare: Mutex<bool>,
    // The last: what runs on it may need the rest.
    host: Host,
}

impl Cluster {
    /// Brings one up.
    ///
    /// # Errors
    /// When a part is not installed or does not come up; its last words stand in the error.
    pub fn up() -> Result<Self> {
        let host = Host::new()?;
        let authority = Authority::new()?;
        let admin = authority.client("admin", Some("system:masters"))?;
        let server: SocketAddr = control::SERVER.parse()?;
        let api = Api::new(authority.config(&admin)?, host.netns(), server);
        control::start(&host, &authority, &api)?;
        Ok(Self {
            authority,
            api,
            relay: Mutex::new(None),
            count: AtomicU32::new(1),
            node: OnceLock::new(),
            bare: Mutex::new(false),
            host,
        })
    }

    /// The one that all tests of this binary share. It ends with the binary.
    ///
    /// # Errors
    /// As [`Cluster::up`], for each that asks.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::up().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// Its real node; brought up for the first who asks.
    ///
    /// # Errors
    /// When it does not come up, for each that asks; its last words stand in the error.
    pub fn node(&self) -> Result<Node<'_>> {
        let started = self.node.get_or_init(|| node::start(self).map_err(|error| format!("{error:#}")));
        started.as_ref().map_err(|error| anyhow!("{error}"))?;
        Ok(Node::of(self))
    }

    /// The machine that it stands on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts a program on the machine, as on a node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: &Command) -> Result<Inside> {
        self.host.start(command)
    }

    /// `kubectl ARG…` as cluster-admin; returns what it printed.
    ///
    /// # Errors
    /// When it fails: what it printed stands in the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        host::output(&mut self.kubectl_command(arguments)?)
    }

    /// The command of [`Cluster::kubectl`], for tests that want its exit code or its output while it runs.
    ///
    /// # Errors
    /// When kubectl is not installed.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut kubectl = Command::new(installed::kubernetes()?.join("kubectl"));
        kubectl
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.host.folder().join("discovered"));
        kubectl.args(arguments);
        Ok(self.host.enter_network(&kubectl))
    }

    /// `kubectl apply -f -`.
    ///
    /// # Errors
    /// When it fails: what it printed stands in the error.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command(&["apply", "-f", "-"])?;
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(manifests.as_bytes())?;
        let done = child.wait_with_output()?;
        ensure!(done.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// One call to the API server as cluster-admin. PATCH is a merge patch.
    ///
    /// # Errors
    /// When the answer's code is not below 300: the answer stands in the error.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.api.call(method, path, body)
    }

    /// A kubeconfig with all rights, for programs in the machine's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.host.folder().join("kubeconfig")
    }

    /// A kubeconfig for a user, who may be a member of a group, and who may do what RBAC says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>, reach: Reach) -> Result<PathBuf> {
        let server = match reach {
            Reach::Inside => control::SERVER.to_owned(),
            Reach::Outside => self.relayed()?.to_string(),
        };
        let text = self.authority.kubeconfig(&format!("https://{server}"), &self.authority.client(user, group)?);
        let place = self.host.folder().join(format!("kubeconfig-{}", self.number()));
        std::fs::write(&place, text)?;
        Ok(place)
    }

    fn relayed(&self) -> Result<SocketAddr> {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        if relay.is_none() {
            *relay = Some(Relay::start(self.host.netns(), control::SERVER.parse()?)?);
        }
        Ok(relay.as_ref().context("a relay")?.address())
    }

    /// Makes a namespace with a name of its own, in which pods can be made at once.
    ///
    /// # Errors
    /// When the API server refuses, or the controllers do not give it a ServiceAccount.
    pub fn namespace(&self) -> Result<String> {
        let name = format!("test-{}", self.number());
        self.namespace_named(&name, &json!({}))?;
        Ok(name)
    }

    /// As [`Cluster::namespace`], with a name and `metadata` (annotations, labels).
    ///
    /// # Errors
    /// As [`Cluster::namespace`].
    pub fn namespace_named(&self, name: &str, metadata: &Value) -> Result<()> {
        let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        object["metadata"]["name"] = json!(name);
        self.api("POST", "/api/v1/namespaces", Some(&object))?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        eventually(DEADLINE, "the namespace's ServiceAccount", || self.api("GET", &account, None).ok()).map(drop)
    }

    /// Makes a pod of a manifest, without a kubelet.
    ///
    /// # Errors
    /// When the API server refuses, or its namespace cannot be made.
    pub fn bare_pod(&self, manifest: &Value) -> Result<BarePod<'_>> {
        self.bare_pod_as(self.number(), manifest)
    }

    /// As [`Cluster::bare_pod`], with the addresses of the pod that had this number before.
    ///
    /// # Errors
    /// As [`Cluster::bare_pod`].
    pub fn bare_pod_as(&self, number: u32, manifest: &Value) -> Result<BarePod<'_>> {
        BarePod::make(self, &[(number, manifest)])?.pop().context("one pod")
    }

    /// As [`Cluster::bare_pod`], for many: in a fraction of the time.
    ///
    /// # Errors
    /// As [`Cluster::bare_pod`].
    pub fn bare_pods(&self, manifests: &[Value]) -> Result<Vec<BarePod<'_>>> {
        let numbered: Vec<(u32, &Value)> = manifests.iter().map(|manifest| (self.number(), manifest)).collect();
        BarePod::make(self, &numbered)
    }

    /// As [`Cluster::bare_pods`], with the addresses of the pods that had these numbers before.
    ///
    /// # Errors
    /// As [`Cluster::bare_pod`].
    pub fn bare_pods_as(&self, numbers: &[u32], manifests: &[Value]) -> Result<Vec<BarePod<'_>>> {
        let numbered: Vec<(u32, &Value)> = numbers.iter().copied().zip(manifests).collect();
        BarePod::make(self, &numbered)
    }

    /// Kills the API server: connections to it are refused from then on. For a test's own cluster only.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn api_server_away(&self) -> Result<()> {
        self.host.signal(control::API_SERVER, Signal::KILL)
    }

    /// Starts the API server again, and waits for it. Who watched before starts anew.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn api_server_back(&self) -> Result<()> {
        self.host.serve_again(control::API_SERVER)?;
        control::ready(&self.host, &self.api)
    }

    /// The audit log: every request that was answered to anybody but the control plane itself and cluster-admin.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.host.folder().join("audit.log")).unwrap_or_default();
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Makes the node of bare pods, unless it is there: for programs that want it before there is a pod.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn bare_node(&self) -> Result<()> {
        let mut bare = self.bare.lock().unwrap_or_else(PoisonError::into_inner);
        if !*bare {
            self.api("POST", "/api/v1/nodes", Some(&bare_node()))?;
            *bare = true;
        }
        Ok(())
    }

    /// A number that nothing else of this cluster has.
    fn number(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

/// The Node of bare pods: without one, the controllers take no notice of them.
fn bare_node() -> Value {
    let addresses = json!([{"type": "InternalIP", "address": ADDRESS}, {"type": "InternalIP", "address": ADDRESS6}]);
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "spec": {"unschedulable": true}, "status": {"addresses": addresses},
    })
}
