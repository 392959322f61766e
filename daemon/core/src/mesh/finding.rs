//! What stands between a pod and its capture beside Istio, in words for whoever runs the pod: what is so, and what to do.
//! Text of users is clipped and made safe here.

use super::snapshot::Endpoint;
use crate::text::{clip, one_line};

/// Characters of a user's text that are repeated to them.
const SHOWN: usize = 80;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// It is as its owner wrote it, and may be meant otherwise.
    Advice,
    /// Something is not captured, or not as it could be.
    Warning,
    /// No inbound traffic of the pod is sent to us.
    Withdrawn,
}

/// Something about one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Finding {
    #[error(
        "Sidecar {0} selects this pod{1}, and Istio takes one Sidecar for a pod and merges none: ours would replace it, or \
         be of no effect. `nodetap.io/proxy-type: transparent` captures beside it and needs no Sidecar"
    )]
    UserSidecar(String, &'static str),
    #[error(
        "the pod is in the ambient mesh, where no Envoy reads Sidecars: inbound traffic reaches the application past our \
         listener. `nodetap.io/proxy-type: forward` captures outbound"
    )]
    Ambient,
    #[error("the pod is a gateway, and Istio takes no Sidecar for gateways: capture the pods behind it")]
    Gateway,
    #[error(
        "sidecar.istio.io/interceptionMode is {}: inbound traffic comes another way than by REDIRECT, the only one that was \
         tried. `nodetap.io/proxy-type: transparent` needs no Sidecar", quoted(.0)
    )]
    Interception(String),
    #[error(
        "the pod has IPv6 addresses only, where Envoy calls our listener on ::1; that was not tried and is not done. \
         `nodetap.io/proxy-type: transparent` needs no Sidecar"
    )]
    Ipv6Only,
    #[error(
        "port {port} does not pass Istio's proxy ({key}: \"{}\"): callers reach the application past our listener. Let that \
         annotation let the port in, or use `nodetap.io/proxy-type: transparent`",
        quoted(said)
    )]
    PortExcluded { port: u16, key: &'static str, said: String },
    #[error("port {0} is one of Istio's own in the pod, and cannot be captured: let the application listen elsewhere")]
    PortReserved(u16),
    #[error(
        "Sidecar {sidecar} sends port {port} to {} already: our listener for port {port} would send it elsewhere. \
         `nodetap.io/proxy-type: transparent` captures the port that the application listens on",
        quoted(endpoint)
    )]
    BaseEndpoint { sidecar: String, port: u16, endpoint: String },
    #[error(
        "Sidecar {sidecar} lets Envoy itself listen on port {port} (captureMode NONE), and that is left as it is; \
         `nodetap.io/proxy-type: transparent` captures the port that the application listens on"
    )]
    BaseListens { sidecar: String, port: u16 },
    #[error("Sidecar {sidecar} cannot be read ({}), and ours must repeat it: correct it", quoted(why))]
    BaseUnreadable { sidecar: String, why: String },
    #[error(
        "Sidecar {0} has the name that ours would have, and not our label: it is left alone; rename it or delete it"
    )]
    NameTaken(String),
    #[error(
        "one Sidecar serves all pods of the workload, and this one answers on other ports than they do ({}): free those \
         ports in it, or let it end and be made anew", pairs(.0)
    )]
    PortsDiffer(Vec<(u16, Endpoint)>),
    #[error(
        "another Sidecar holds for this pod than for the others of its workload, which one of ours cannot repeat: give all \
         pods of the workload one revision of Istio"
    )]
    BaseDiffers,
    #[error("the workload receives traffic on more than {0} ports: name those that matter with nodetap.io/proxy-port")]
    TooManyPorts(usize),
    #[error(
        "what its agent said of it cannot be believed ({0}): Envoy is told to call the application itself until it can"
    )]
    AgentAway(String),
    #[error(
        "merbridge redirects connections in this cluster, and keeps one answer for all of our own: outbound connections of \
         this pod may miss its Envoy. Remove merbridge from the nodes of captured pods"
    )]
    Merbridge,
    #[error(
        "traffic.sidecar.istio.io/includeOutboundIPRanges (\"{}\") has loopback addresses in it: that was not tried; leave \
         them out", quoted(.0)
    )]
    LoopbackIncluded(String),
    #[error(
        "VirtualService {virtual_service} sends what comes through a gateway to Service {service}, and no VirtualService \
         has routes for calls from inside ({host}): those go past them. If they are to have them, add {add}"
    )]
    RoutesOutsideOnly { virtual_service: String, service: String, host: String, add: String },
    #[error("Istio's proxy runs as user {0} and not as 1337, as on OpenShift: nothing has to be done")]
    ProxyUser(u64),
    #[error("Istio's proxy is an init container that stays, and begins before the application: nothing has to be done")]
    NativeProxy,
}

impl Finding {
    /// One word for conditions, Events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UserSidecar(..) => "SidecarConflict",
            Self::Ambient => "AmbientMesh",
            Self::Gateway => "MeshGateway",
            Self::Interception(_) => "InterceptionMode",
            Self::Ipv6Only => "IPv6Only",
            Self::PortExcluded { .. } => "PortExcluded",
            Self::PortReserved(_) => "PortReserved",
            Self::BaseEndpoint { .. } => "SidecarEndpoint",
            Self::BaseListens { .. } => "SidecarListens",
            Self::BaseUnreadable { .. } => "SidecarUnreadable",
            Self::NameTaken(_) => "SidecarNameTaken",
            Self::PortsDiffer(_) => "PortsDiffer",
            Self::BaseDiffers => "SidecarsDiffer",
            Self::TooManyPorts(_) => "TooManyPorts",
            Self::AgentAway(_) => "AgentAway",
            Self::Merbridge => "Merbridge",
            Self::LoopbackIncluded(_) => "LoopbackIncluded",
            Self::RoutesOutsideOnly { .. } => "RoutesOutsideOnly",
            Self::ProxyUser(_) => "ProxyUser",
            Self::NativeProxy => "NativeProxy",
        }
    }

    pub fn weight(&self) -> Weight {
        match self {
            Self::UserSidecar(..)
            | Self::Ambient
            | Self::Gateway
            | Self::Interception(_)
            | Self::Ipv6Only
            | Self::BaseUnreadable { .. }
            | Self::NameTaken(_)
            | Self::PortsDiffer(_)
            | Self::BaseDiffers
            | Self::TooManyPorts(_)
            | Self::AgentAway(_) => Weight::Withdrawn,
            Self::PortExcluded { .. }
            | Self::PortReserved(_)
            | Self::BaseEndpoint { .. }
            | Self::BaseListens { .. }
            | Self::Merbridge
            | Self::LoopbackIncluded(_) => Weight::Warning,
            Self::RoutesOutsideOnly { .. } => Weight::Advice,
            Self::ProxyUser(_) | Self::NativeProxy => Weight::Note,
        }
    }
}

fn quoted(text: &str) -> String {
    clip(&one_line(text), SHOWN).into_owned()
}

fn pairs(pairs: &[(u16, Endpoint)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(app, endpoint)| format!("{} for {app}", endpoint.port)).collect();
    pairs.join(", ")
}
