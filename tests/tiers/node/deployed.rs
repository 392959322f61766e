//! nodetap installed from `deploy/` under a kubelet, on a cluster of a test's own: unchanged but for the image, which is the
//! one that was built here, and for what a test says that it changes.

use std::path::PathBuf;

use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::capturing;
use nodetap_tests::nodetap;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::Value;

pub(crate) const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base");
pub(crate) const UNINSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/uninstall");
const IMAGE: &str = concat!("docker.io/library/nodetap:", env!("CARGO_PKG_VERSION"));

/// The objects of `deploy/base`, with the image of this build.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Value> {
    objects_of(cluster, BASE)
}

/// The same of another folder.
pub(crate) fn objects_of(cluster: &Cluster, folder: &str) -> Vec<Value> {
    let text = cluster.kubectl(&["kustomize", folder]).unwrap();
    let parse = |document: &str| {
        let mut object: Value = serde_saphyr::from_str(document).unwrap();
        let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(|container| container["image"] = IMAGE.into());
        object
    };
    text.split("\n---\n").map(parse).collect()
}

/// A cluster with nodetap in it.
pub(crate) struct Deployed {
    pub cluster: Cluster,
}

impl Deployed {
    /// Brings it up; agent and controller are ready. `change` sees the objects before they are applied.
    pub(crate) fn up(change: impl FnOnce(&mut Vec<Value>)) -> Self {
        Self::up_beside(|_| {}, change)
    }

    /// The same in a cluster in which there is something already.
    pub(crate) fn up_beside(before: impl FnOnce(&Cluster), change: impl FnOnce(&mut Vec<Value>)) -> Self {
        let deployed = Self { cluster: Cluster::up().unwrap() };
        before(&deployed.cluster);
        let archive = nodetap::image().unwrap_or_else(|| panic!("no image: run `cargo xtask image`"));
        deployed.cluster.node().unwrap().import_archive(&archive).unwrap();
        let mut objects = objects(&deployed.cluster);
        change(&mut objects);
        deployed.apply(&objects);
        deployed.rolled_out("daemonset/nodetap-agent");
        deployed.rolled_out("deployment/nodetap-controller");
        deployed
    }

    pub(crate) fn apply(&self, objects: &[Value]) {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cluster.apply(&list.to_string()).unwrap();
    }

    /// Waits until what was changed of it runs.
    pub(crate) fn rolled_out(&self, which: &str) {
        let done = self.cluster.kubectl(&["-n", "nodetap", "rollout", "status", which, "--timeout=90s"]);
        done.unwrap_or_else(|error| panic!("{error:#}: {}", self.log(which)));
    }

    /// What it has logged, with what Kubernetes says of it.
    pub(crate) fn log(&self, which: &str) -> String {
        let asked: [&[&str]; 2] = [&["-n", "nodetap", "logs", "--tail=40", which], &["-n", "nodetap", "get", "pods"]];
        asked.map(|asked| self.cluster.kubectl(asked).unwrap_or_default()).join("\n")
    }

    /// Where the agent writes.
    pub(crate) fn records(&self) -> PathBuf {
        self.cluster.host().path("/var/lib/nodetap")
    }

    /// Waits until the only pod of a Deployment that is left is ready and captured, and returns it.
    pub(crate) fn captured(&self, namespace: &str, app: &str) -> Value {
        let node = self.cluster.node().unwrap();
        let found = eventually(DEADLINE * 2, "capture", || {
            let pod = node.ready_of(namespace, app, 1).ok()?.remove(0);
            capturing(&pod).is_some_and(|condition| condition["status"] == "True").then_some(pod)
        });
        found.unwrap_or_else(|error| panic!("{error:#}: {}", self.log("daemonset/nodetap-agent")))
    }
}
