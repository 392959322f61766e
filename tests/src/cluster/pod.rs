//! Pods without a kubelet: the Pod object with the status that a kubelet would write, and programs in the network
//! namespace and control group that belong to it. Whatever else the manifest says (probes, volumes, images) is not done.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::host::{ADDRESS, ADDRESS6, dial, prefixed};
use super::inside::Inside;
use super::sandbox::{self, Sandbox};
use super::{Cluster, NODE};

/// A manifest with containers and the port of each (0 for none).
pub fn manifest(namespace: &str, name: &str, containers: &[(&str, u16)]) -> Value {
    let container = |(name, port): &(&str, u16)| match port {
        0 => json!({"name": name}),
        port => json!({"name": name, "ports": [{"containerPort": port}]}),
    };
    let containers: Vec<Value> = containers.iter().map(container).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": containers},
    })
}

/// A pod that the test stands in for the kubelet of. It ends with the value.
#[derive(Debug)]
pub struct BarePod<'a> {
    cluster: &'a Cluster,
    path: String,
    uid: String,
    since: String,
    sandbox: Sandbox,
    containers: Vec<Container>,
    generation: u32,
    /// It has no IPv4 address.
    only_ipv6: bool,
    gone: bool,
}

/// A container: in which list of the pod it stands, and what becomes of it.
#[derive(Debug)]
struct Container {
    list: &'static str,
    name: String,
    id: String,
    restarts: u32,
    runs: bool,
}

impl<'a> BarePod<'a> {
    /// Makes them all, each with its number.
    pub(super) fn make(cluster: &'a Cluster, manifests: &[(u32, &Value)]) -> Result<Vec<Self>> {
        cluster.bare_node()?;
        let root = cluster.host.cgroups()?;
        let mut pods = Vec::new();
        for (number, manifest) in manifests {
            pods.push(Self::post(cluster, *number, manifest, &root)?);
        }
        let sandboxes: Vec<_> = pods.iter().map(Self::place).collect();
        sandbox::make(&cluster.host, &sandboxes)?;
        for pod in &pods {
            pod.report()?;
        }
        Ok(pods)
    }

    /// Makes the object.
    fn post(cluster: &'a Cluster, number: u32, manifest: &Value, root: &Path) -> Result<Self> {
        let mut object = manifest.clone();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let spec = &mut object["spec"];
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = json!("none");
                }
            }
        }
        if spec["nodeName"].is_null() {
            spec["nodeName"] = json!(NODE);
        }
        let made = cluster.api("POST", &format!("/api/v1/namespaces/{namespace}/pods"), Some(&object))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("in {made}"));
        let uid = text(&made["metadata"]["uid"])?;
        let quality = match made["status"]["qosClass"].as_str() {
            Some("Guaranteed") => "kubepods",
            Some("Burstable") => "kubepods/burstable",
            _ => "kubepods/besteffort",
        };
        let shared = made["spec"]["hostNetwork"] == true;
        let sandbox = Sandbox {
            number,
            cgroup: root.join(quality).join(format!("pod{uid}")),
            netns: if shared { "-".to_owned() } else { format!("cni-{uid}") },
            users: made["spec"]["hostUsers"] == false,
            id: sandbox::id(&uid, "", 0),
        };
        Ok(Self {
            cluster,
            path: format!("/api/v1/namespaces/{namespace}/pods/{}", text(&made["metadata"]["name"])?),
            since: text(&made["metadata"]["creationTimestamp"])?,
            containers: containers(&made["spec"], &uid),
            uid,
            sandbox,
            generation: 0,
            only_ipv6: false,
            gone: false,
        })
    }

    fn place(&self) -> (Sandbox, Vec<String>) {
        let running = self.containers.iter().filter(|container| container.runs);
        (self.sandbox.clone(), running.map(|container| container.id.clone()).collect())
    }

    /// Writes the status as it is.
    fn report(&self) -> Result<()> {
        let is_true = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": self.since});
        let conditions =
            ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(is_true);
        let (address, address6) = self.addresses();
        let addresses = if self.only_ipv6 { vec![address6] } else { vec![address, address6] };
        let all: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let mut status = json!({
            "phase": "Running", "startTime": self.since, "conditions": conditions,
            "hostIP": ADDRESS, "hostIPs": [{"ip": ADDRESS}, {"ip": ADDRESS6}],
            "podIP": addresses.first(), "podIPs": all,
        });
        for (list, statuses) in [
            ("containers", "containerStatuses"),
            ("initContainers", "initContainerStatuses"),
            ("ephemeralContainers", "ephemeralContainerStatuses"),
        ] {
            let of_list = self.containers.iter().filter(|container| container.list == list);
            let all: Vec<Value> = of_list.map(|container| container.status(&self.since)).collect();
            if !all.is_empty() {
                status[statuses] = json!(all);
            }
        }
        let patch = json!({"status": status});
        self.cluster.api("PATCH", &format!("{}/status", self.path), Some(&patch)).map(drop)
    }

    fn addresses(&self) -> (String, String) {
        if self.sandbox.networked() {
            (self.sandbox.address(), self.sandbox.address6())
        } else {
            (ADDRESS.to_owned(), ADDRESS6.to_owned())
        }
    }

    /// Its IPv4 address.
    pub fn address(&self) -> String {
        self.addresses().0
    }

    /// Its IPv6 address.
    pub fn address6(&self) -> String {
        self.addresses().1
    }

    /// Takes its IPv4 address away: it is as in a cluster that has IPv6 only.
    ///
    /// # Errors
    /// When that fails, or the API server refuses.
    pub fn take_ipv4_away(&mut self) -> Result<()> {
        self.cluster.host.script("ip -n \"$1\" -4 addr flush dev eth0", &[&self.sandbox.netns])?;
        self.only_ipv6 = true;
        self.report()
    }

    /// Its number, for [`Cluster::bare_pod_as`] after its end.
    pub fn number(&self) -> u32 {
        self.sandbox.number
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Where the API server has it: `/api/v1/namespaces/…/pods/…`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The object as it is now.
    ///
    /// # Errors
    /// When the API server does not have it.
    pub fn object(&self) -> Result<Value> {
        self.cluster.api("GET", &self.path, None)
    }

    /// Our condition of it.
    pub fn condition(&self) -> Option<Value> {
        capturing(&self.object().ok()?).cloned()
    }

    /// Sets annotations (`null` takes one away).
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn annotate(&self, annotations: &Value) -> Result<()> {
        let patch = json!({"metadata": {"annotations": annotations}});
        self.cluster.api("PATCH", &self.path, Some(&patch)).map(drop)
    }

    /// The file that stands for its network namespace, as it is found outside.
    pub fn netns(&self) -> PathBuf {
        if self.sandbox.networked() {
            self.cluster.host.path(format!("/run/netns/{}", self.sandbox.netns))
        } else {
            self.cluster.host.netns()
        }
    }

    /// The control group of a container (of the pod, for an empty name), as it is found outside.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn cgroup(&self, container: &str) -> Result<PathBuf> {
        let inside = if container.is_empty() { self.sandbox.cgroup.clone() } else { self.cgroup_inside(container)? };
        let host = &self.cluster.host;
        Ok(host.cgroups_from_outside()?.join(inside.strip_prefix(host.cgroups()?)?))
    }

    fn cgroup_inside(&self, container: &str) -> Result<PathBuf> {
        Ok(self.sandbox.cgroup.join(&self.container(container)?.id))
    }

    fn container(&self, name: &str) -> Result<&Container> {
        let found = self.containers.iter().find(|container| container.name == name);
        found.with_context(|| format!("no container {name} in {}", self.path))
    }

    /// Starts a program in a container: in its control group and the pod's network namespace (and user namespace).
    ///
    /// # Errors
    /// When it cannot be started, or there is no such container.
    pub fn start(&self, container: &str, command: &Command) -> Result<Inside> {
        const JOIN: &str = r#"echo 0 > "$1/cgroup.procs"; shift; exec "$@""#;
        let cgroup = self.cgroup_inside(container)?.display().to_string();
        let mut words: Vec<String> = ["sh", "-euc", JOIN, "sh", &cgroup].map(str::to_owned).to_vec();
        words.extend(self.entering());
        self.cluster.start(&prefixed(&words, command))
    }

    /// As [`BarePod::start`], in a container of each of many pods: in a fraction of the time. What they print, one process
    /// prints, which lasts as long as any of them.
    ///
    /// # Errors
    /// As [`BarePod::start`].
    pub fn start_in_all(pods: &[Self], container: &str, command: &Command) -> Result<Inside> {
        const EACH: &str = r#"
            places=$1; shift
            while read -r cgroup entering; do
                (echo 0 > "$cgroup/cgroup.procs"; exec $entering "$@") &
            done <<A
$places
A
            wait"#;
        let place =
            |pod: &Self| Ok(format!("{} {}", pod.cgroup_inside(container)?.display(), pod.entering().join(" ")));
        let places = pods.iter().map(place).collect::<Result<Vec<_>>>()?.join("\n");
        let words: Vec<String> = ["sh", "-euc", EACH, "sh", &places].map(str::to_owned).to_vec();
        pods.first().context("no pods")?.cluster.start(&prefixed(&words, command))
    }

    /// What leads a command into its namespaces.
    fn entering(&self) -> Vec<String> {
        if !self.sandbox.networked() {
            return Vec::new();
        }
        let netns = format!("/run/netns/{}", self.sandbox.netns);
        let mut words = vec!["nsenter".to_owned(), format!("--net={netns}")];
        if self.sandbox.users {
            words.extend([format!("--user={netns}.user"), "-S0".to_owned(), "-G0".to_owned()]);
        }
        words.push("--".to_owned());
        words
    }

    /// Connects from the pod.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable.
    pub fn dial(&self, to: SocketAddr) -> Result<TcpStream> {
        dial(&self.netns(), to)
    }

    /// Restarts a container: everything in it ends, its control group is another one, the status says so.
    ///
    /// # Errors
    /// When there is no such container, or the API server refuses.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        self.generation += 1;
        let new = sandbox::id(&self.uid, name, self.generation);
        let old = self.container(name)?.id.clone();
        sandbox::replace(&self.cluster.host, &self.sandbox, &old, &new)?;
        for container in self.containers.iter_mut().filter(|container| container.name == name) {
            container.id.clone_from(&new);
            container.restarts += 1;
        }
        self.report()
    }

    /// Adds an ephemeral container, as `kubectl debug` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn debug(&mut self, name: &str) -> Result<()> {
        let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": name, "image": "none"}]}});
        self.cluster.api("PATCH", &format!("{}/ephemeralcontainers", self.path), Some(&ephemeral))?;
        let id = sandbox::id(&self.uid, name, self.generation);
        sandbox::add(&self.cluster.host, &self.sandbox, &id)?;
        let list = "ephemeralContainers";
        self.containers.push(Container { list, name: name.to_owned(), id, restarts: 0, runs: true });
        self.report()
    }

    /// Ends everything and makes the sandbox anew: another network namespace with the same addresses, other control groups.
    ///
    /// # Errors
    /// When it cannot be made, or the API server refuses.
    pub fn renew_sandbox(&mut self) -> Result<()> {
        sandbox::remove(&self.cluster.host, [&self.sandbox])?;
        self.generation += 1;
        self.sandbox.id = sandbox::id(&self.uid, "", self.generation);
        if self.sandbox.networked() {
            self.sandbox.netns = format!("cni-{}-{}", self.uid, self.generation);
        }
        for container in &mut self.containers {
            container.id = sandbox::id(&self.uid, &container.name, self.generation);
            container.restarts += 1;
        }
        sandbox::make(&self.cluster.host, &[self.place()])?;
        self.report()
    }

    /// Ends everything in it while nobody can be told of that: the object stays as it is.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn end_unseen(&mut self) -> Result<()> {
        sandbox::remove(&self.cluster.host, [&self.sandbox])
    }

    /// Ends everything in it, and then the object.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn delete(mut self) -> Result<()> {
        self.remove()
    }

    /// As [`BarePod::delete`], for many of one cluster: in a fraction of the time.
    ///
    /// # Errors
    /// As [`BarePod::delete`].
    pub fn delete_all(mut pods: Vec<Self>) -> Result<()> {
        let Some(cluster) = pods.first().map(|pod| pod.cluster) else { return Ok(()) };
        pods.iter_mut().for_each(|pod| pod.gone = true);
        let places = sandbox::remove(&cluster.host, pods.iter().map(|pod| &pod.sandbox));
        let objects = pods.iter().try_for_each(Self::forget);
        objects.and(places)
    }

    fn remove(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.gone, true) {
            return Ok(());
        }
        let place = sandbox::remove(&self.cluster.host, [&self.sandbox]);
        self.forget().and(place)
    }

    /// Ends the object.
    fn forget(&self) -> Result<()> {
        let at_once = json!({"gracePeriodSeconds": 0});
        self.cluster.api("DELETE", &self.path, Some(&at_once)).map(drop)
    }
}

impl Drop for BarePod<'_> {
    fn drop(&mut self) {
        // A test that deletes it by other means is none of this value's business.
        drop(self.remove());
    }
}

impl Container {
    fn status(&self, since: &str) -> Value {
        let id = format!("containerd://{}", self.id);
        let state = if self.runs {
            json!({"running": {"startedAt": since}})
        } else {
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "containerID": id,
                "startedAt": since, "finishedAt": since}})
        };
        json!({
            "name": self.name, "image": "none", "imageID": "none", "containerID": id, "restartCount": self.restarts,
            "ready": true, "started": self.runs, "state": state,
        })
    }
}

/// The containers of a pod that has just started: init containers have ended, unless they are sidecars.
fn containers(spec: &Value, uid: &str) -> Vec<Container> {
    let mut all = Vec::new();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let id = sandbox::id(uid, &name, 0);
            let runs = list == "containers" || container["restartPolicy"] == "Always";
            all.push(Container { list, name, id, restarts: 0, runs });
        }
    }
    all
}

/// Our condition of a pod.
pub fn capturing(pod: &Value) -> Option<&Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "nodetap.io/Capturing")
}
