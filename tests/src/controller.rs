//! `nodetap controller` in a cluster: installed as `deploy/` has it but for the Deployment, whose replicas are bare pods
//! here, with the rights of the ServiceAccount that it would have.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::inside::Inside;
use crate::cluster::pod::BarePod;
use crate::cluster::{Cluster, Reach};
use crate::nodetap;
use crate::process::Stream;
use crate::wait::{DEADLINE, eventually};

/// The namespace of nodetap itself.
pub const NAMESPACE: &str = "nodetap";
/// What the controller is to the API server.
pub const USER: &str = "system:serviceaccount:nodetap:nodetap-controller";
/// The port that it serves the API server at.
pub const PORT: u16 = 8443;
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base/controller");
/// What `deploy/` has, without the Deployment.
const INSTALLED: [&str; 5] = ["serviceaccount", "rbac", "readers", "service", "apiservice"];

/// Installs what the controller needs, once a cluster.
///
/// # Errors
/// When a manifest is refused.
pub fn install(cluster: &Cluster) -> Result<()> {
    cluster.namespace_named(NAMESPACE, &json!({}))?;
    for name in INSTALLED {
        let file = Path::new(MANIFESTS).join(name).with_extension("yaml");
        let file = file.to_str().context("a path that is no text")?.to_owned();
        cluster.kubectl(&["-n", NAMESPACE, "apply", "-f", &file])?;
    }
    Ok(())
}

/// A running controller.
#[derive(Debug)]
pub struct Replica<'a> {
    pod: BarePod<'a>,
    process: Inside,
}

impl<'a> Replica<'a> {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &'a Cluster, name: &str) -> Result<Self> {
        Self::start_with(cluster, name, &[])
    }

    /// Starts one with more options.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(cluster: &'a Cluster, name: &str, options: &[&str]) -> Result<Self> {
        let pod = cluster.bare_pod(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "nodetap-controller"},
            },
            "spec": {"containers": [{"name": "controller", "ports": [{"name": "api", "containerPort": PORT}]}]},
        }))?;
        let kubeconfig = cluster.kubeconfig_for(USER, Some("system:serviceaccounts"), Reach::Inside)?;
        let kubeconfig = kubeconfig.to_str().context("a path that is no text")?.to_owned();
        let mut command = nodetap::command(&["controller", "--namespace", NAMESPACE, "--kubeconfig", &kubeconfig]);
        command.args(["--identity", name]).args(options).env("NODETAP_LOG", "info,nodetap=debug");
        let process = pod.start("controller", &command)?;
        Ok(Self { pod, process })
    }

    /// Its pod's address.
    pub fn address(&self) -> String {
        self.pod.address()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.so_far(Stream::Err)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// It is gone from one moment to the next, and its pod with it.
    ///
    /// # Errors
    /// When the API server keeps the pod.
    pub fn kill(self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.pod.delete()
    }
}

/// Waits until the API server passes the group on.
///
/// # Errors
/// With what the APIService says, when it does not.
pub fn until_available(cluster: &Cluster) -> Result<()> {
    let mut last = Value::Null;
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.capture.nodetap.io";
    let found = eventually(DEADLINE, "the API", || {
        last = cluster.api("GET", path, None).ok()?["status"]["conditions"].clone();
        let conditions = last.as_array()?;
        conditions.iter().any(|one| one["type"] == "Available" && one["status"] == "True").then_some(())
    });
    found.with_context(|| last.to_string())
}

/// Who holds the Lease.
///
/// # Errors
/// When there is none.
pub fn leader(cluster: &Cluster) -> Result<String> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/nodetap-controller");
    let lease = cluster.api("GET", &path, None)?;
    let holder = lease["spec"]["holderIdentity"].as_str().context("nobody")?;
    // Behind the name stands something random.
    Ok(holder.rsplit_once('_').map_or(holder, |(name, _)| name).to_owned())
}
