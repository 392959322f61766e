//! Objects of the cluster as far as they are read here: most of each is never read from the answer.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;
use serde_json::Value;

/// A type that is read, and which resource it is.
macro_rules! resource {
    ($(#[$meta:meta])* $name:ident, $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ty,
     {$($field:ident: $type:ty),* $(,)?}) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        pub(super) struct $name {
            #[serde(default)]
            pub(super) metadata: ObjectMeta,
            $(#[serde(default)]
            pub(super) $field: $type,)*
        }

        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = if $group.is_empty() { $version } else { concat!($group, "/", $version) };
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }

        impl k8s_openapi::Metadata for $name {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(
    /// A pod.
    PodObject, "", "v1", "Pod", "pods", NamespaceResourceScope, {spec: PodSpec, status: PodStatus}
);
resource!(
    /// A node.
    NodeObject, "", "v1", "Node", "nodes", ClusterResourceScope, {status: NodeStatus}
);
resource!(
    /// A Sidecar of an Istio that knows `v1`.
    SidecarV1, "networking.istio.io", "v1", "Sidecar", "sidecars", NamespaceResourceScope, {spec: Value}
);
resource!(
    /// A Sidecar of an older Istio.
    SidecarV1Beta1, "networking.istio.io", "v1beta1", "Sidecar", "sidecars", NamespaceResourceScope,
    {spec: Value}
);

resource!(
    /// A VirtualService of an Istio that knows `v1`.
    VirtualServiceV1, "networking.istio.io", "v1", "VirtualService", "virtualservices", NamespaceResourceScope,
    {spec: Value}
);
resource!(
    /// A VirtualService of an older Istio.
    VirtualServiceV1Beta1, "networking.istio.io", "v1beta1", "VirtualService", "virtualservices",
    NamespaceResourceScope, {spec: Value}
);

/// Either of the two versions of a resource of Istio's.
pub(super) trait IstioObject:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + 'static
{
    fn parts(self) -> (ObjectMeta, Value);
}

macro_rules! of_istio {
    ($($name:ident),*) => {
        $(impl IstioObject for $name {
            fn parts(self) -> (ObjectMeta, Value) {
                (self.metadata, self.spec)
            }
        })*
    };
}

of_istio!(SidecarV1, SidecarV1Beta1, VirtualServiceV1, VirtualServiceV1Beta1);

/// A Sidecar, and what else this Istio has in that version.
pub(super) trait SidecarObject: IstioObject {
    type VirtualService: IstioObject;
}

impl SidecarObject for SidecarV1 {
    type VirtualService = VirtualServiceV1;
}

impl SidecarObject for SidecarV1Beta1 {
    type VirtualService = VirtualServiceV1Beta1;
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: String,
    pub(super) containers: Vec<ContainerSpec>,
    pub(super) init_containers: Vec<ContainerSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerSpec {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) restart_policy: Option<String>,
    pub(super) ports: Vec<PortSpec>,
    pub(super) security_context: Security,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortSpec {
    pub(super) name: String,
    pub(super) container_port: u16,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Security {
    pub(super) run_as_user: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Vec<PodIp>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodIp {
    pub(super) ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    pub(super) conditions: Vec<Condition>,
    #[serde(rename = "nodeInfo")]
    pub(super) node_info: NodeInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeInfo {
    #[serde(rename = "bootID")]
    pub(super) boot_id: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    pub(super) r#type: String,
    pub(super) status: String,
    pub(super) message: String,
}

/// Does one of them say so?
pub(super) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|one| one.r#type == kind && one.status == "True")
}

/// Those with these beginnings.
pub(super) fn beginning(all: Option<BTreeMap<String, String>>, with: &[&str]) -> BTreeMap<String, String> {
    let mut all = all.unwrap_or_default();
    all.retain(|key, _| with.iter().any(|prefix| key.starts_with(prefix)));
    all
}
