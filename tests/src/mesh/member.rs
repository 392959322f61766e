//! A bare pod with what Istio puts into pods: rules, agent and Envoy, these two in a container of their own and as the user
//! that the rules exempt.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::plane::Plane;
use super::{PROGRAMS, Setup};
use crate::cluster::Cluster;
use crate::cluster::host::ADDRESS;
use crate::cluster::inside::Inside;
use crate::cluster::pod::BarePod;
use crate::folder::Folder;
use crate::http;
use crate::process::Stream;
use crate::wait::{DEADLINE, eventually};

/// The container of Istio's agent and Envoy.
pub const PROXY: &str = "istio-proxy";
/// Who they run as.
const USER: &str = "1337";
/// In the folder of a member.
pub(super) const ACCESS_LOG: &str = "access.log";
/// Where Envoy says whether it is ready, and where it can be asked about itself.
const READY: &str = "127.0.0.1:15021";
const ADMIN: &str = "127.0.0.1:15000";

/// A member of the mesh. It ends with the value.
#[derive(Debug)]
pub struct Member {
    // The first: what runs in the pod ends before the pod does.
    agent: Inside,
    pod: BarePod<'static>,
    plane: &'static Plane,
    name: String,
    namespace: String,
    folder: Folder,
}

impl Member {
    pub(super) fn make(
        cluster: &'static Cluster,
        setup: Setup,
        plane: &'static Plane,
        manifest: &Value,
    ) -> Result<Self> {
        let manifest = injected(manifest);
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a manifest without a name");
        let (name, namespace) = (text(&manifest["metadata"]["name"])?, text(&manifest["metadata"]["namespace"])?);
        let pod = cluster.bare_pod(&manifest)?;
        let folder = Folder::new()?;
        let account = manifest["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        files(cluster, &folder, &namespace, account, &manifest["metadata"]["labels"])?;
        rules(&pod, setup)?;
        let command = agent(&folder, &pod, (&namespace, account, &name), &plane.authority(), setup);
        let agent = pod.start(PROXY, &command)?;
        let member = Self { agent, pod, plane, name, namespace, folder };
        let ready = || http::get_over(member.pod.dial(READY.parse().ok()?).ok()?, "/healthz/ready").ok();
        let ready = eventually(DEADLINE * 2, "a ready Envoy", ready);
        ready.map(drop).with_context(|| format!("its agent said: {}", member.said()))?;
        Ok(member)
    }

    /// The pod.
    pub fn pod(&self) -> &BarePod<'static> {
        &self.pod
    }

    /// `web.shop`
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// The control plane that it has its configuration from.
    pub(super) fn plane(&self) -> &'static Plane {
        self.plane
    }

    /// The kernel's tables in its pod, families and names, in which Istio's rules for what leaves it stand.
    ///
    /// # Errors
    /// When they are not told.
    pub fn tables(&self) -> Result<Vec<String>> {
        let mut command = Command::new("nft");
        let done = self.pod.start(PROXY, command.args(["-j", "list", "chains"]))?.finish()?;
        anyhow::ensure!(done.code() == 0, "no chains: {}{}", done.text(), done.err);
        let told: Value = serde_json::from_str(&done.text())?;
        let chains = told["nftables"].as_array().into_iter().flatten().map(|one| &one["chain"]);
        let text = |chain: &Value, key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        let istios = chains.filter(|chain| ["ISTIO_OUTPUT", "istio-output"].contains(&&*text(chain, "name")));
        Ok(istios.map(|chain| format!("{} {}", text(chain, "family"), text(chain, "table"))).collect())
    }

    /// Everything that its Envoy has logged: a value for each request, or each connection that is none of HTTP.
    ///
    /// # Errors
    /// When a line cannot be read.
    pub fn logged(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.folder.join(ACCESS_LOG)).unwrap_or_default();
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// A page of its Envoy's admin server.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8(http::get_over(self.pod.dial(ADMIN.parse()?)?, path)?)?)
    }

    fn said(&self) -> String {
        let said = format!("{}{}", self.agent.so_far(Stream::Out), self.agent.so_far(Stream::Err));
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// What injection adds, as far as anybody looks at it.
fn injected(manifest: &Value) -> Value {
    let mut manifest = manifest.clone();
    let proxy = json!({
        "name": PROXY, "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337},
    });
    if let Some(containers) = manifest["spec"]["containers"].as_array_mut() {
        containers.push(proxy);
    }
    manifest["metadata"]["labels"]["security.istio.io/tlsMode"] = json!("istio");
    let status = json!({"containers": [PROXY], "revision": "default"}).to_string();
    manifest["metadata"]["annotations"]["sidecar.istio.io/status"] = json!(status);
    manifest
}

/// Everything that a kubelet would mount into the container.
fn files(cluster: &Cluster, folder: &Path, namespace: &str, account: &str, labels: &Value) -> Result<()> {
    let [secrets, tokens, info, config] =
        ["var/run/secrets/istio", "var/run/secrets/tokens", "etc/istio/pod", "proxy"].map(|name| folder.join(name));
    for place in [&secrets, &tokens, &info, &config] {
        std::fs::create_dir_all(place)?;
    }
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let token = cluster.api("POST", &path, Some(&json!({"spec": {"audiences": ["istio-ca"]}})))?;
    std::fs::write(tokens.join("istio-token"), token["status"]["token"].as_str().context("no token")?)?;
    // istiod puts it into each namespace.
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    let map = eventually(DEADLINE, "the mesh's root certificate", || cluster.api("GET", &path, None).ok())?;
    std::fs::write(secrets.join("root-cert.pem"), map["data"]["root-cert.pem"].as_str().context("no root")?)?;
    let labels = labels.as_object().into_iter().flatten();
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}\n")).collect();
    std::fs::write(info.join("labels"), labels.concat())?;
    let owner = Some(USER.parse()?);
    for place in [vec![folder.to_path_buf()], places(folder)?].concat() {
        std::os::unix::fs::chown(place, owner, owner)?;
    }
    Ok(())
}

/// Everything in a folder and below.
fn places(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(places(&path)?);
        }
        found.push(path);
    }
    Ok(found)
}

/// Istio's own, by Istio's own program.
fn rules(pod: &BarePod<'_>, setup: Setup) -> Result<()> {
    let mut command = Command::new(format!("{PROGRAMS}/pilot-agent"));
    command.args(["istio-iptables", "-p", "15001", "-z", "15006", "-u", USER, "-m", "REDIRECT", "-i", "*", "-x", ""]);
    command.args(["-b", "*", "-d", "15090,15020,15021"]).env("INSTANCE_IP", pod.address());
    command.args(setup.nftables.then_some("--native-nftables")).args(setup.dual_stack.then_some("--dual-stack"));
    let done = pod.start(PROXY, &command)?.finish()?;
    anyhow::ensure!(done.code() == 0, "no rules: {}{}", done.text(), done.err);
    Ok(())
}

fn agent(
    folder: &Path,
    pod: &BarePod<'_>,
    (namespace, account, name): (&str, &str, &str),
    authority: &str,
    setup: Setup,
) -> Command {
    let config = json!({
        "discoveryAddress": authority, "binaryPath": format!("{PROGRAMS}/envoy"), "configPath": folder.join("proxy"),
        "statusPort": 15020, "concurrency": 1,
    });
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "env", "-i", "-C"]).arg(folder);
    command.args(["PATH=/usr/bin:/bin", "HOME=/tmp", "PILOT_CERT_PROVIDER=istiod", "JWT_POLICY=third-party-jwt"]);
    command.args(["TRUST_DOMAIN=cluster.local", "ISTIO_META_CLUSTER_ID=Kubernetes"]);
    command.args(["ISTIO_META_INTERCEPTION_MODE=REDIRECT", "ISTIO_META_APP_CONTAINERS=app"]);
    let variables = [
        ("POD_NAME", name),
        ("POD_NAMESPACE", namespace),
        ("INSTANCE_IP", &pod.address()),
        ("HOST_IP", ADDRESS),
        ("SERVICE_ACCOUNT", account),
        ("CA_ADDR", authority),
        ("PROXY_CONFIG", &config.to_string()),
        ("ISTIO_DUAL_STACK", if setup.dual_stack { "true" } else { "false" }),
    ];
    command.args(variables.map(|(name, value)| format!("{name}={value}")));
    command.arg(format!("{PROGRAMS}/pilot-agent")).args(["proxy", "sidecar", "--proxyLogLevel=warning"]);
    command.arg("--domain").arg(format!("{namespace}.svc.cluster.local"));
    command.arg("--templateFile").arg(format!("{PROGRAMS}/envoy_bootstrap.json"));
    command
}
