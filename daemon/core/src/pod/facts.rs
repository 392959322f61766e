//! A pod as the API server tells it, cut down to what is decided by. Adapters fill it in, from a watch or a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Those of others may be left out.
    pub annotations: BTreeMap<String, String>,
    pub host_network: bool,
    pub runtime_class: Option<String>,
    /// Empty before it has any.
    pub addresses: BTreeSet<IpAddr>,
    /// All of its containers have ended for good (`Succeeded`, `Failed`).
    pub ended: bool,
    /// Something says that a mesh's proxy is in it, besides the containers (Istio's `sidecar.istio.io/status`).
    pub mesh: bool,
    /// The controller has told the mesh's proxy to call our listeners (`nodetap.io/sidecar`).
    pub redirected: bool,
    pub containers: Vec<Container>,
    /// Target ports of the Services that select it; nobody looks where they make no difference.
    pub service_ports: BTreeSet<u16>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    pub name: String,
    pub kind: Kind,
    /// Of its image, where it is known: some proxies are told by it.
    pub image: Option<String>,
    /// Without the runtime's prefix; none before it was made. Another one after each restart.
    pub id: Option<String>,
    /// TCP ports that the manifest names.
    pub ports: BTreeSet<u16>,
}

/// How a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    App,
    /// Runs before the others, and ends.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    Ephemeral,
}

/// A proxy that a mesh puts into pods, by the names that it gives to its containers and images. What it says to others is
/// what the application says, once more.
const PROXY_NAMES: [&str; 17] = [
    "consul-connect-envoy-sidecar",
    "consul-connect-inject-init",
    "consul-dataplane",
    "envoy",
    "envoy-sidecar",
    "istio-init",
    "istio-proxy",
    "istio-validation",
    "kuma-init",
    "kuma-sidecar",
    "kuma-validation",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "osm-init",
    "speedscale-goproxy",
    "speedscale-initproxy-iptables",
];
const PROXY_IMAGES: [&str; 5] = ["envoy", "envoy-distroless", "goproxy", "proxy-linkerd2", "proxyv2"];

impl Container {
    /// Is it a proxy of others, which is left alone unless somebody names it?
    pub fn is_proxy(&self) -> bool {
        let image = self.image.as_deref().unwrap_or_default();
        // Without its registry and folder, its digest, its tag.
        let image = image.rsplit('/').next().unwrap_or_default();
        let image = image.split(['@', ':']).next().unwrap_or_default();
        PROXY_NAMES.contains(&self.name.as_str()) || PROXY_IMAGES.contains(&image)
    }
}

impl Pod {
    /// Does a mesh's proxy stand before its ports?
    pub fn is_meshed(&self) -> bool {
        let stays = |container: &Container| matches!(container.kind, Kind::App | Kind::Sidecar);
        self.mesh || self.containers.iter().any(|container| stays(container) && container.is_proxy())
    }

    /// Does this name of a runtime class mean a sandbox with a network stack of its own? What its handler is stands in
    /// an object that is not asked for; the names are those that their makers' manuals use.
    pub fn sandbox(&self) -> Option<&str> {
        let class = self.runtime_class.as_deref()?;
        let mut words = class.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
        words.any(|word| word.starts_with("kata") || word == "gvisor" || word == "runsc").then_some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, image: &str) -> Container {
        let (name, image) = (name.to_owned(), Some(image.to_owned()));
        Container { name, kind: Kind::App, image, id: None, ports: BTreeSet::new() }
    }

    #[test]
    fn proxies_are_told_by_their_names_and_images() {
        for (name, image) in [
            ("istio-proxy", ""),
            ("linkerd-proxy", "x"),
            ("gateway", "docker.io/envoyproxy/envoy:v1.40.0"),
            ("sidecar", "registry:5000/istio/proxyv2@sha256:abc"),
        ] {
            assert!(container(name, image).is_proxy(), "{name} {image}");
        }
        for (name, image) in [("app", ""), ("envoy-docs", "nginx:1"), ("app", "envoy/app:1"), ("", "")] {
            assert!(!container(name, image).is_proxy(), "{name} {image}");
        }
    }

    #[test]
    fn sandboxes_are_told_by_their_class() {
        let class = |class: &str| Pod { runtime_class: Some(class.into()), ..Pod::default() }.sandbox().is_some();
        for sandboxed in ["kata", "kata-qemu", "kata-containers", "gvisor", "runsc", "my.gVisor"] {
            assert!(class(sandboxed), "{sandboxed}");
        }
        for plain in ["runc", "crun", "nvidia", "katalog-not"] {
            assert_eq!(class(plain), plain.starts_with("kata"), "{plain}");
        }
        assert!(Pod::default().sandbox().is_none());
    }
}
