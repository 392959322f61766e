//! The control plane of a cluster, started on its machine: etcd, API server, controllers, scheduler, and kube-proxy for the
//! addresses of Services. What stands in them is not known here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rcgen::KeyPair;
use serde_json::json;

use super::api::Api;
use super::authority::Authority;
use super::host::{ADDRESS, ADDRESS6, Host};
use crate::installed;
use crate::wait::{DEADLINE, eventually};

/// Where the API server listens.
pub(super) const SERVER: &str = "10.77.0.1:6443";
/// The name of its log.
pub(super) const API_SERVER: &str = "kube-apiserver";
/// The API server as a Service.
const SERVICE: &str = "10.96.0.1";
/// Addresses of Services.
const SERVICES: &str = "10.96.0.0/16,fd96::/112";
/// Addresses of pods, bare ones and those of a kubelet.
const PODS: &str = "10.76.0.0/14,fd77::/64";
const ETCD: &str = "127.0.0.1:2379";
/// Where the scheduler says whether it is well.
const SCHEDULER: &str = "127.0.0.1:10259";

/// Every request of somebody who is not a part of the cluster itself, once it was answered.
const AUDIT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, users: [admin, "system:apiserver", "system:anonymous"]}
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata}
"#;

/// Starts everything, in an order in which nothing has to try again, and waits until it is of use.
pub(super) fn start(host: &Host, authority: &Authority, api: &Api) -> Result<()> {
    let bin = installed::kubernetes()?;
    let folder = host.folder();
    let mut etcd = Command::new(installed::etcd()?.join("etcd"));
    etcd.args(["--data-dir", "/run/etcd", "--unsafe-no-fsync", "--listen-peer-urls=http://127.0.0.1:2380"]);
    etcd.args(["listen-client-urls", "advertise-client-urls"].map(|name| format!("--{name}=http://{ETCD}")));
    host.serve("etcd", etcd)?;
    files(folder, authority)?;
    host.listening("etcd", ETCD)?;
    host.serve(API_SERVER, api_server(&bin, folder))?;
    ready(host, api)?;
    host.serve("kube-controller-manager", controllers(&bin, folder))?;
    let mut scheduler = Command::new(bin.join("kube-scheduler"));
    scheduler.arg("--kubeconfig").arg(folder.join("kubeconfig")).args(["--leader-elect=false", "--cert-dir=/run/cert"]);
    host.serve("kube-scheduler", scheduler)?;
    // kube-proxy asks for the addresses of its node first.
    api.call("POST", "/api/v1/nodes", Some(&super::bare_node()))?;
    let mut proxy = Command::new(bin.join("kube-proxy"));
    proxy.arg("--config").arg(folder.join("kube-proxy.yaml"));
    host.serve("kube-proxy", proxy)?;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    eventually(DEADLINE * 2, "a ServiceAccount", || api.call("GET", account, None).ok())
        .with_context(|| host.log("kube-controller-manager"))?;
    host.listening("kube-proxy", &format!("{SERVICE}:443"))?;
    // It has what it wanted. As long as no pod is on that node, no DaemonSet is to put one there.
    api.call("DELETE", &format!("/api/v1/nodes/{}", super::NODE), None)?;
    host.listening("kube-scheduler", SCHEDULER)
}

/// Waits until the API server is of use.
pub(super) fn ready(host: &Host, api: &Api) -> Result<()> {
    let answer = eventually(DEADLINE * 2, "the API server", || api.call("GET", "/readyz", None).ok());
    answer.map(drop).with_context(|| host.log(API_SERVER))
}

/// What the programs read.
fn files(folder: &Path, authority: &Authority) -> Result<()> {
    let names = [
        ADDRESS,
        ADDRESS6,
        SERVICE,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    authority.server(&names)?.write(folder, "server")?;
    // What the API server shows to aggregated APIs: an authority of its own, or any user's certificate would do there.
    let front = Authority::new()?;
    front.client("front-proxy", None)?.write(folder, "front")?;
    std::fs::write(folder.join("front-ca.crt"), front.root())?;
    std::fs::write(folder.join("ca.crt"), authority.root())?;
    let accounts = KeyPair::generate()?;
    std::fs::write(folder.join("accounts.key"), accounts.serialize_pem())?;
    std::fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
    std::fs::write(folder.join("audit.yaml"), AUDIT)?;
    let client = authority.client("admin", Some("system:masters"))?;
    std::fs::write(folder.join("kubeconfig"), authority.kubeconfig(&format!("https://{SERVER}"), &client))?;
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "iptables", "clusterCIDR": PODS, "hostnameOverride": super::NODE,
        "clientConnection": {"kubeconfig": folder.join("kubeconfig")},
        "iptables": {"minSyncPeriod": "0s"},
        // They are the kernel's, and so every machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    Ok(std::fs::write(folder.join("kube-proxy.yaml"), proxy.to_string())?)
}

fn api_server(bin: &Path, folder: &Path) -> Command {
    let mut server = Command::new(bin.join("kube-apiserver"));
    let file = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    server.args([
        format!("--etcd-servers=http://{ETCD}"),
        format!("--advertise-address={ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("client-ca-file", "ca.crt"),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        file("proxy-client-cert-file", "front.crt"),
        file("proxy-client-key-file", "front.key"),
        file("requestheader-client-ca-file", "front-ca.crt"),
        file("audit-policy-file", "audit.yaml"),
        file("audit-log-path", "audit.log"),
    ]);
    server.args([
        "--bind-address=::",
        "--secure-port=6443",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--enable-aggregator-routing",
        "--kubelet-preferred-address-types=InternalIP",
        // Nothing is to be lost of what was asked just before somebody looks.
        "--audit-log-mode=blocking",
    ]);
    server
}

fn controllers(bin: &Path, folder: &Path) -> Command {
    let mut controllers = Command::new(bin.join("kube-controller-manager"));
    let file = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    controllers.args([
        file("kubeconfig", "kubeconfig"),
        file("service-account-private-key-file", "accounts.key"),
        file("root-ca-file", "ca.crt"),
    ]);
    controllers.args([
        "--leader-elect=false",
        "--cert-dir=/run/cert",
        // Bare pods stand on a node that nobody answers for: the controllers that would collect them stay off.
        "--controllers=*,-pod-garbage-collector-controller,-node-lifecycle-controller,-taint-eviction-controller,\
         -node-ipam-controller",
    ]);
    controllers
}
