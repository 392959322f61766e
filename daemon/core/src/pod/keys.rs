//! Every annotation there is, in one table: what it is called, what it may say, what it means, whether we do it.
//!
//! Most are those of the published system, under its prefix and ours with the same meaning. Some of those ask for
//! something in a sidecar container, which we do not have: they are accepted, so that manifests work unchanged, and
//! said to do nothing. Some keys are ours alone.

use super::spelling::nearest;
use super::value::Kind;

/// The prefix of the published system.
pub const PUBLISHED: &str = "sidecar.speedscale.com/";
/// Our own.
pub const OWN: &str = "nodetap.io/";
/// What the controller found on the owning workload, written on the pod: see [`super::resolved`].
pub const RESOLVED: &str = "nodetap.io/resolved";
/// The label, and no annotation, by which a namespace asks for the roots that its pods are to trust.
pub const TRUST_BUNDLE: &str = "nodetap.io/trust-bundle";

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Without prefix.
    pub name: &'static str,
    pub kind: Kind,
    /// What holds when it is not set, in words; empty: nothing.
    pub default: &'static str,
    pub meaning: &'static str,
    pub handling: Handling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Done, under both prefixes.
    Honoured,
    /// Done, under our prefix.
    Own,
    /// Accepted and not done: why.
    Ignored(&'static str),
}

pub const PROXY_TYPES: [&str; 4] = ["transparent", "reverse", "forward", "dual"];
pub const PROXY_PROTOCOLS: [&str; 5] = ["tcp", "http", "socks", "tcp:http", "tcp:socks"];
pub const RESOLUTIONS: [&str; 3] = ["smart", "standard", "none"];

const NO_CONTAINER: &str = "no container is added to the pod";
const NO_CHANGE: &str = "the pod's containers are not changed";
const OWN_METRICS: &str = "the agent serves metrics for the whole node";

const fn does(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning, handling: Handling::Honoured }
}

const fn own(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning, handling: Handling::Own }
}

const fn ignores(name: &'static str, why: &'static str, meaning: &'static str) -> Key {
    Key { name, kind: Kind::Anything, default: "", meaning, handling: Handling::Ignored(why) }
}

/// All of them.
pub const KEYS: [Key; 44] = [
    does("inject", Kind::Flag, "false", "capture this pod"),
    does("capture-mode", Kind::Word(&["proxy"]), "proxy", "there is one"),
    does("proxy-type", Kind::Word(&PROXY_TYPES), "transparent", "how traffic reaches the listeners"),
    does("proxy-protocol", Kind::Word(&PROXY_PROTOCOLS), "what fits", "what clients of the listeners speak, in:out"),
    does("proxy-host", Kind::Here, "localhost", "where reverse and dual reach the application"),
    does("proxy-port", Kind::Ports, "what listens", "ports of the application, the first of them first"),
    does("proxy-in-port", Kind::Port, "4143", "listener of reverse and dual for the first port; others follow it"),
    does("proxy-out-port", Kind::Port, "4140", "listener of forward and dual"),
    does("tls-out", Kind::Flag, "false", "open the TLS of what the pod calls"),
    does("tls-in-secret", Kind::Secret, "", "open the TLS of what calls the pod, with the key pair in this Secret"),
    does("tls-in-private", Kind::File, "tls.key", "the private key in it"),
    does("tls-in-public", Kind::File, "tls.crt", "the certificate in it"),
    does("tls-mutual-secret", Kind::Secret, "", "key pair for servers that ask for a client's certificate"),
    does("tls-mutual-private", Kind::File, "tls.key", "the private key in it"),
    does("tls-mutual-public", Kind::File, "tls.crt", "the certificate in it"),
    does("ignore-src-ips", Kind::Networks, "", "clients that are not captured"),
    does("ignore-src-hosts", Kind::Hosts, "", "the same, by name"),
    does("ignore-inbound-ports", Kind::PortSet, "", "ports of the application that are not captured"),
    does("ignore-dst-ips", Kind::Networks, "", "servers that are not captured"),
    does("ignore-dst-hosts", Kind::Hosts, "", "the same, by name"),
    does("ignore-outbound-ports", Kind::PortSet, "", "ports of servers that are not captured"),
    does(
        "ignore-loopback",
        Kind::Flag,
        "false",
        "capture nothing that comes from inside the pod, kubectl port-forward too",
    ),
    does("track-loopback", Kind::Flag, "false", "capture what the pod calls in itself"),
    does("capture-node-traffic", Kind::Flag, "false", "capture what the node calls, the kubelet's probes too"),
    does("host-resolution", Kind::Word(&RESOLUTIONS), "smart", "name peers by their address; none: do not"),
    does("kube-api-support", Kind::Flag, "false", "capture calls to the Kubernetes API"),
    own(
        "reset-older-connections",
        Kind::Flag,
        "false",
        "close idle connections to the pod that are older than the capture",
    ),
    own(
        "record-labels",
        Kind::Labels,
        "",
        "labels of the pod that its records carry, beside app and app.kubernetes.io/name, component and instance",
    ),
    own("containers", Kind::Containers, "all but known proxies", "containers that are captured"),
    ignores("insert-init-first", NO_CONTAINER, "init container goes first"),
    ignores("tls-java-tool-options", NO_CHANGE, "add JAVA_TOOL_OPTIONS"),
    ignores("tls-java-tool-options-value", NO_CHANGE, "JAVA_TOOL_OPTIONS to add"),
    ignores("extra-container-env-vars", NO_CHANGE, "variables for the other containers"),
    ignores("mount-known-ca", NO_CHANGE, "mount the authority over well-known paths"),
    ignores("istio-cni", "it is not needed here", "Istio's CNI plugin is in use"),
    ignores("prometheus-port", OWN_METRICS, "port of the container's metrics"),
    ignores("prometheus-enable-scrape-annotations", OWN_METRICS, "add prometheus.io annotations"),
    ignores("cpu-limit", NO_CONTAINER, "resources of the container"),
    ignores("cpu-request", NO_CONTAINER, "resources of the container"),
    ignores("memory-limit", NO_CONTAINER, "resources of the container"),
    ignores("memory-request", NO_CONTAINER, "resources of the container"),
    ignores("ephemeral-storage-request", NO_CONTAINER, "resources of the container"),
    ignores("ephemeral-storage-limit", NO_CONTAINER, "resources of the container"),
    ignores("diagnostics", "`nodetap` shows the same without a restart", "verbose logs and packet files"),
];

/// The row of a name without prefix.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What an annotation's name is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Key(&'static Key),
    /// Ours, and written by ourselves.
    Resolved,
    /// Under one of our prefixes and not known; perhaps this whole name was meant.
    Unknown(Option<(&'static str, &'static str)>),
    /// Somebody else's.
    Foreign,
}

/// Looks a whole name up.
pub fn named(annotation: &str) -> Named {
    if annotation == RESOLVED {
        return Named::Resolved;
    }
    let (name, published) = match (annotation.strip_prefix(OWN), annotation.strip_prefix(PUBLISHED)) {
        (Some(name), _) => (name, false),
        (_, Some(name)) => (name, true),
        _ => return Named::Foreign,
    };
    match find(name) {
        // Elsewhere it means nothing, and whoever writes it must not believe that it does.
        Some(key) if published && key.handling == Handling::Own => Named::Unknown(Some((OWN, key.name))),
        Some(key) => Named::Key(key),
        None => {
            let meant = nearest(name, KEYS.iter().map(|key| key.name)).and_then(find);
            let prefix =
                if published && meant.is_some_and(|key| key.handling != Handling::Own) { PUBLISHED } else { OWN };
            Named::Unknown(meant.map(|key| (prefix, key.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_stands_in_the_table_once() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.iter().count());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }

    #[test]
    fn the_published_table_is_here_whole() {
        // 38 in its reference page and 3 documented elsewhere.
        assert_eq!(KEYS.iter().filter(|key| key.handling != Handling::Own).count(), 41);
    }

    #[test]
    fn a_default_that_is_a_value_is_accepted() {
        let words = ["what fits", "what listens", "all but known proxies", ""];
        for key in KEYS.iter().filter(|key| !words.contains(&key.default)) {
            assert!(key.kind.parse(key.default).is_ok(), "{}", key.name);
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_compared_with_those_that_are() {
        assert!(matches!(named("nodetap.io/inject"), Named::Key(key) if key.name == "inject"));
        assert_eq!(named("nodetap.io/resolved"), Named::Resolved);
        assert_eq!(named("sidecar.speedscale.com/proxyType"), Named::Unknown(Some((PUBLISHED, "proxy-type"))));
        assert_eq!(named("nodetap.io/injct"), Named::Unknown(Some((OWN, "inject"))));
        assert_eq!(named("sidecar.speedscale.com/record-labels"), Named::Unknown(Some((OWN, "record-labels"))));
        assert_eq!(named("nodetap.io/zzz"), Named::Unknown(None));
        assert_eq!(named("example.com/inject"), Named::Foreign);
        assert_eq!(named("inject"), Named::Foreign);
    }
}
