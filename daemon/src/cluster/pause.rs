//! The cluster-wide switch: a ConfigMap of our own namespace that `nodetap pause` and `nodetap resume` write.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::follow::{Change, Subject, follow};
use super::health::{Call, Health};

/// The ConfigMap's name.
pub const NAME: &str = "nodetap-pause";
/// The key in it; `true` stops all capture.
pub const KEY: &str = "all";

/// Does it stop all capture?
pub fn stops(map: &ConfigMap) -> bool {
    map.data.as_ref().is_some_and(|data| data.get(KEY).is_some_and(|value| value == "true"))
}

/// Follows it: `true` when all capture is to stop. Ends when nobody listens.
pub async fn follow_switch(client: Client, namespace: &str, health: Health, mut tell: impl AsyncFnMut(bool) -> bool) {
    let fields = Some(format!("metadata.name={NAME}"));
    let subject =
        Subject { api: Api::<ConfigMap>::namespaced(client, namespace), call: Call::Pause, fields, labels: None };
    let keep = |map: ConfigMap| Some(stops(&map));
    let told = async move |change| {
        let paused = match change {
            Change::All(maps) => maps.contains(&true),
            Change::Applied(paused) => paused,
            Change::Gone(_) => false,
        };
        tell(paused).await
    };
    follow(subject, health, keep, told).await;
}
