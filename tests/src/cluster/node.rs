//! A real node on a cluster's machine: containerd and a kubelet. Pods of Deployments and DaemonSets run there, from images
//! that the test has imported.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nodetap_oci::Image;
use serde_json::{Value, json};

use super::host::{ADDRESS, ADDRESS6, Host};
use super::{Cluster, images};
use crate::installed;
use crate::wait::{DEADLINE, eventually};

/// Its name.
pub const NAME: &str = "n1";
/// The addresses of its pods.
const PODS: [&str; 2] = ["10.78.0.0/16", "fd77::2:0/112"];
/// How long a pod may take from its creation to being ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kubelet and the network plugins write what is the whole machine's: they get files of our own, with what they would
/// have written.
const KEPT: &str = r#"
mkdir -p /run/kept
for kept in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
    file=${kept%=*}
    place=/run/kept/$(echo "$file" | tr / _)
    printf '%s\n' "${kept#*=}" > "$place"
    mount --bind "$place" "/proc/sys/$file"
done
"#;
const CONTAINERD: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "PAUSE"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "SNAPSHOTTER"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "CNI"
"#;
/// Says how containers get their files: as an overlay where the kernel makes one, else as copies.
const SNAPSHOTTER: &str = r#"
cd /run
mkdir -p lower upper work merged
if mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged 2> /dev/null; then
    umount merged
    printf overlayfs
else
    printf native
fi
"#;

/// The node of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    cluster: &'a Cluster,
}

/// Starts containerd and the kubelet, and waits until pods can be made.
pub(super) fn start(cluster: &Cluster) -> Result<()> {
    let (host, folder) = (cluster.host(), cluster.host().folder());
    files(folder, &host.script(SNAPSHOTTER, &[])?)?;
    host.script(KEPT, &[])?;
    let mut containerd = Command::new("containerd");
    containerd.arg("-c").arg(folder.join("containerd.toml"));
    host.serve("containerd", containerd)?;
    let answers = || host.script("ctr version", &[]).ok();
    eventually(DEADLINE, "containerd", answers).with_context(|| host.log("containerd"))?;
    import(host, &images::pause()?)?;
    let mut kubelet = Command::new(installed::kubernetes()?.join("kubelet"));
    kubelet.arg("--config").arg(folder.join("kubelet.json")).arg("--kubeconfig").arg(cluster.kubeconfig());
    kubelet.args(["--hostname-override", NAME, "--root-dir=/var/lib/kubelet"]);
    kubelet.arg(format!("--node-ip={ADDRESS},{ADDRESS6}"));
    host.serve("kubelet", kubelet)?;
    let path = format!("/api/v1/nodes/{NAME}");
    let ready = || {
        let node = cluster.api("GET", &path, None).ok()?;
        let conditions = node["status"]["conditions"].as_array()?;
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True").then_some(())
    };
    eventually(PATIENCE, "a node that is ready", ready).with_context(|| host.log("kubelet"))?;
    // The controller that would take its taint away is off.
    cluster.api("PATCH", &path, Some(&json!({"spec": {"taints": null}}))).map(drop)
}

fn files(folder: &Path, snapshotter: &str) -> Result<()> {
    let cni = folder.join("cni");
    std::fs::create_dir_all(&cni)?;
    let ranges = PODS.map(|subnet| json!([{"subnet": subnet}]));
    let ipam = json!({"type": "host-local", "dataDir": "/run/cni-addresses", "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    // A cable for each pod and no bridge: what it sends passes the machine's rules.
    let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}]});
    std::fs::write(cni.join("10-pods.conflist"), network.to_string())?;
    let containerd = CONTAINERD
        .replace("PAUSE", images::PAUSE)
        .replace("SNAPSHOTTER", snapshotter)
        .replace("CNI", &cni.display().to_string());
    std::fs::write(folder.join("containerd.toml"), containerd)?;
    let none = "0%";
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": "::", "failCgroupV1": false, "failSwapOn": false, "cgroupDriver": "cgroupfs", "maxPods": 300,
        "makeIPTablesUtilChains": false, "localStorageCapacityIsolation": true, "oomScoreAdj": 0,
        "evictionHard": {"memory.available": none, "nodefs.available": none, "imagefs.available": none,
            "nodefs.inodesFree": none, "imagefs.inodesFree": none},
        "enforceNodeAllocatable": [], "imageGCHighThresholdPercent": 100,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock", "resolvConf": "",
        // Tests look at what happens next.
        "serializeImagePulls": false, "nodeStatusUpdateFrequency": "5s",
    });
    Ok(std::fs::write(folder.join("kubelet.json"), kubelet.to_string())?)
}

fn import(host: &Host, image: &Image) -> Result<()> {
    let name: String = image.name().chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
    let archive = host.folder().join(format!("{name}.tar"));
    image.write(&archive)?;
    import_archive(host, &archive)?;
    Ok(std::fs::remove_file(archive)?)
}

fn import_archive(host: &Host, archive: &Path) -> Result<()> {
    let archive = archive.canonicalize().with_context(|| format!("no {}", archive.display()))?.display().to_string();
    host.script("ctr -n k8s.io images import --no-unpack \"$1\"", &[&archive]).map(drop)
}

impl<'a> Node<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    /// Makes an image known to containerd. A pod that names it must not ask for `imagePullPolicy: Always`.
    ///
    /// # Errors
    /// When a file of the image cannot be read, or containerd does not take it.
    pub fn import(&self, image: &Image) -> Result<()> {
        import(self.cluster.host(), image)
    }

    /// As [`Node::import`], with an image archive that is there.
    ///
    /// # Errors
    /// When containerd does not take it.
    pub fn import_archive(&self, archive: &Path) -> Result<()> {
        import_archive(self.cluster.host(), archive)
    }

    /// Waits until a pod is ready, and returns it.
    ///
    /// # Errors
    /// When it is not within a minute: its status and the kubelet's last words stand in the error.
    pub fn ready(&self, namespace: &str, name: &str) -> Result<Value> {
        let pods = self.all_ready(namespace, &format!("name={name}"), |pod| pod["metadata"]["name"] == name, 1)?;
        pods.into_iter().next().context("one pod")
    }

    /// Waits until `count` pods with the label `app=APP` are ready and no other of them is left, and returns them.
    ///
    /// # Errors
    /// As [`Node::ready`].
    pub fn ready_of(&self, namespace: &str, app: &str, count: usize) -> Result<Vec<Value>> {
        self.all_ready(namespace, &format!("app={app}"), |pod| pod["metadata"]["labels"]["app"] == app, count)
    }

    fn all_ready(
        &self,
        namespace: &str,
        what: &str,
        which: impl Fn(&Value) -> bool,
        count: usize,
    ) -> Result<Vec<Value>> {
        let mut last = Vec::new();
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let found = eventually(PATIENCE, &format!("{count} ready pods with {what}"), || {
            let mut list = self.cluster.api("GET", &path, None).ok()?;
            last = list["items"].as_array_mut()?.drain(..).filter(&which).collect();
            (last.len() == count && last.iter().all(is_ready)).then(|| last.clone())
        });
        found.with_context(|| {
            let statuses: Vec<String> = last.iter().map(|pod| pod["status"].to_string()).collect();
            format!("{}; {}", statuses.join("\n"), self.cluster.host().log("kubelet"))
        })
    }

    /// The file that stands for the network namespace of a pod, as it is found outside.
    ///
    /// # Errors
    /// When there is none with the pod's address.
    pub fn netns(&self, pod: &Value) -> Result<PathBuf> {
        const FIND: &str = "for file in /run/netns/*; do \
            if nsenter --net=\"$file\" ip -o -4 addr | grep -q \" $1/\"; then echo \"$file\"; exit; fi; done; exit 1";
        let address = pod["status"]["podIP"].as_str().context("a pod without an address")?;
        Ok(self.cluster.host().path(self.cluster.host().script(FIND, &[address])?.trim()))
    }

    /// Connects from a pod.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable.
    pub fn dial_from(&self, pod: &Value, to: SocketAddr) -> Result<TcpStream> {
        super::host::dial(&self.netns(pod)?, to)
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    ready && pod["metadata"]["deletionTimestamp"].is_null()
}
