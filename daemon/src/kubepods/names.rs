//! What the names of control groups say of pods: kubelet's two drivers, the container runtimes' ways to write a
//! container, and what nesting (kind, k3d, containers in containers) and cgroup namespaces make of the path.

use std::borrow::Borrow;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// A pod as its control group is called: `metadata.uid`, or for a static pod its `kubernetes.io/config.hash`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Arc<str>);

/// A container, without the runtime's name before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Arc<str>);

/// What the kubelet writes on the mirror of a static pod; its control group carries this and not the mirror's UID.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";

impl PodUid {
    /// Reads one: a UUID with `-` or, as systemd wants it, `_`, or the hash of a static pod.
    pub fn parse(text: &str) -> Option<Self> {
        if is_hex(text, 32) {
            return Some(Self(text.into()));
        }
        let (mut lengths, separator) = ([8, 4, 4, 4, 12].into_iter(), if text.contains('_') { '_' } else { '-' });
        let uuid = text.split(separator).all(|part| lengths.next().is_some_and(|length| is_hex(part, length)));
        (uuid && lengths.next().is_none()).then(|| Self(text.replace('_', "-").into()))
    }

    /// How the pod with this `metadata.uid` and these annotations is called in control groups.
    pub fn of<'a>(uid: &str, mut annotation: impl FnMut(&str) -> Option<&'a str>) -> Option<Self> {
        annotation(CONFIG_HASH).and_then(Self::parse).or_else(|| Self::parse(uid))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContainerId {
    /// Reads one, with or without `containerd://` before it.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.rsplit_once("://").map_or(text, |(_, id)| id);
        // Every runtime's are 64 digits; whatever else lies in a pod's group is none.
        is_hex(id, 64).then(|| Self(id.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
as_text!(PodUid, ContainerId);

/// Where in a pod something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub pod: PodUid,
    /// `None`: in the pod's own group.
    pub container: Option<ContainerId>,
}

/// The pods on a path, the outermost first: a pod in which Kubernetes runs has pods inside.
pub(super) fn places(path: &str) -> Vec<Place> {
    let mut parts = path.split('/').peekable();
    let mut found = Vec::new();
    while let Some(part) = parts.next() {
        if let Some(place) = colons(part) {
            found.push(place);
        } else if let Some(pod) = pod(part) {
            let container = parts.peek().and_then(|next| container(next));
            found.push(Place { pod, container });
        }
    }
    found
}

/// The folder of a pod: `podUID`, `kubepods-burstable-podU_I_D.slice`.
pub(super) fn pod(name: &str) -> Option<PodUid> {
    match name.strip_suffix(".slice") {
        Some(unit) => unit.rsplit_once("-pod").and_then(|(_, uid)| PodUid::parse(uid)),
        None => name.strip_prefix("pod").and_then(PodUid::parse),
    }
}

/// The folder of a container in that of its pod: `ID`, `cri-containerd-ID.scope`.
pub(super) fn container(name: &str) -> Option<ContainerId> {
    let Some(unit) = name.strip_suffix(".scope") else { return ContainerId::parse(name) };
    let (runtime, id) = unit.rsplit_once('-').unwrap_or(("", unit));
    // CRI-O's watcher beside each container has the container's name.
    if runtime.ends_with("conmon") { None } else { ContainerId::parse(id) }
}

/// What containerd makes when the kubelet gives it systemd's names and it does not know systemd:
/// `kubepods-besteffort-podU_I_D.slice:cri-containerd:ID`, one folder.
pub(super) fn colons(name: &str) -> Option<Place> {
    let (slice, rest) = name.split_once(':')?;
    let (_, id) = rest.split_once(':')?;
    Some(Place { pod: pod(slice)?, container: Some(ContainerId::parse(id)?) })
}

/// The folder that all pods of a node are in; what stands before it is the kubelet's `--cgroup-root`.
pub(super) fn is_root(name: &str) -> bool {
    name.strip_suffix(".slice").unwrap_or(name).rsplit('-').next() == Some("kubepods") && !name.contains(':')
}

/// The folder of a class of service, in that of all pods.
pub(super) fn is_class(name: &str) -> bool {
    let class = name.strip_suffix(".slice").map_or(name, |unit| unit.rsplit('-').next().unwrap_or_default());
    matches!(class, "burstable" | "besteffort")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0d2c1f3a-8b7e-4c55-9a10-6f1e2d3c4b5a";
    const UNIT: &str = "0d2c1f3a_8b7e_4c55_9a10_6f1e2d3c4b5a";
    const ID: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const OTHER: &str = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";

    fn place(path: &str) -> Place {
        let found = places(&path.replace("UID", UID).replace("U_I_D", UNIT).replace("ID", ID).replace("OTHER", OTHER));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        found.into_iter().next().unwrap()
    }

    #[test]
    fn every_format_of_every_driver_and_runtime_is_read() {
        for path in [
            "/kubepods/burstable/podUID/ID",
            "/kubepods/podUID/ID",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-podU_I_D.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_I_D.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-podU_I_D.slice/crio-ID.scope/container",
            "/kubepods.slice/kubepods-podU_I_D.slice/cri-containerd-ID.scope/init.scope",
            "/kubepods-besteffort-podU_I_D.slice:cri-containerd:ID",
            "/system.slice/containerd.service/kubepods-besteffort-podU_I_D.slice:cri-containerd:ID",
            "/docker/OTHER/kubepods/besteffort/podUID/ID",
            "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_I_D.slice/cri-containerd-ID.scope",
            "/system.slice/docker-OTHER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
             kubelet-kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope",
            "/../../podUID/ID",
            "/../../../kubepods-burstable-podU_I_D.slice/crio-ID.scope",
            "/kubepods/podUID/ID/docker/OTHER",
        ] {
            let found = place(path);
            assert_eq!(
                (found.pod.as_str(), found.container.as_ref().map(ContainerId::as_str)),
                (UID, Some(ID)),
                "{path}"
            );
        }
    }

    #[test]
    fn a_static_pod_is_called_by_its_hash() {
        let hash = "0123456789abcdef0123456789abcdef";
        for path in [format!("/kubepods/burstable/pod{hash}"), format!("/kubepods-burstable-pod{hash}.slice")] {
            assert_eq!(places(&path), [Place { pod: PodUid::parse(hash).unwrap(), container: None }]);
        }
        let annotation = |key: &str| (key == CONFIG_HASH).then_some(hash);
        assert_eq!(PodUid::of(UID, annotation).unwrap().as_str(), hash);
        assert_eq!(PodUid::of(UID, |_| None).unwrap().as_str(), UID);
    }

    #[test]
    fn what_is_no_container_of_a_pod_is_not_taken_for_one() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/kubepods/pod{}/{ID}", &UID[1..]),
            format!("/kubepods/pod{UID}x/{ID}"),
            format!("/kubepods/pod{}/{ID}", UID.to_uppercase()),
            "/".to_owned(),
            String::new(),
        ] {
            assert_eq!(places(&path), [], "{path}");
        }
        for name in
            [format!("crio-conmon-{ID}.scope"), ID[1..].to_owned(), format!("..{}", &ID[2..]), "init.scope".into()]
        {
            assert_eq!(container(&name), None, "{name}");
        }
    }

    #[test]
    fn pods_within_pods_are_told_from_the_outermost() {
        let inner = UID.replace('0', "1");
        let path = format!("/kubepods/pod{UID}/{ID}/kubelet/kubepods/pod{inner}/{OTHER}");
        let found: Vec<String> = places(&path).into_iter().map(|place| place.pod.to_string()).collect();
        assert_eq!(found, [UID.to_owned(), inner]);
    }

    #[test]
    fn the_folders_above_pods_are_known_by_their_names() {
        for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice", "a-b-kubepods.slice"] {
            assert!(is_root(name), "{name}");
        }
        for name in ["kubepods-burstable.slice", "kubelet.slice", "pods", "kubepodsx"] {
            assert!(!is_root(name), "{name}");
        }
        for name in ["burstable", "besteffort", "kubepods-burstable.slice", "kubelet-kubepods-besteffort.slice"] {
            assert!(is_class(name), "{name}");
        }
        assert!(!is_class("guaranteed"));
    }

    #[test]
    fn an_id_of_the_api_is_read_with_the_name_of_its_runtime() {
        assert_eq!(ContainerId::parse(&format!("containerd://{ID}")).unwrap().as_str(), ID);
        assert_eq!(ContainerId::parse("containerd://"), None);
        assert_eq!(ContainerId::parse(&format!("{ID}/../..")), None);
    }
}
