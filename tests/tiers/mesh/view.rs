//! What an Envoy is told before a Sidecar of ours is there, while it is, and after: by istiod's account and by Envoy's own.
//! With it nothing outbound is another, and inbound nothing but where captured ports lead and what Istio names after the
//! Sidecar. Afterwards nothing is.

use std::collections::{BTreeMap, BTreeSet};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::controller::{NAMESPACE, Replica};
use nodetap_tests::mesh::Mesh;
use nodetap_tests::mesh::served::Served;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::sidecars::{OURS, dual, installed, until_calls_us};

/// What stands still for so many looks has arrived.
const STILL: usize = 25;

/// What one Envoy is told, without what changes from push to push.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// Clusters, listeners and routes, each as a text.
    pub(crate) outbound: BTreeSet<String>,
    /// The same of what comes in, by kind and name.
    inbound: BTreeMap<String, Value>,
}

impl View {
    /// Of a dump as Envoy writes it, and istiod, too.
    pub(crate) fn of(dump: &Value) -> Self {
        let dump = spelled(dump);
        let mut view = Self::default();
        for part in dump["configs"].as_array().unwrap() {
            let of = |list: &str| part[list].as_array().cloned().unwrap_or_default().into_iter();
            let clusters = of("dynamic_active_clusters").map(|one| ("cluster", one["cluster"].clone()));
            let routes = of("dynamic_route_configs").map(|one| ("route", one["route_config"].clone()));
            let listeners = of("dynamic_listeners").map(|one| ("listener", one["active_state"]["listener"].clone()));
            for (kind, one) in clusters.chain(routes).chain(listeners) {
                let name = one["name"].as_str().unwrap_or_default();
                if name.starts_with("inbound") || one["traffic_direction"] == "INBOUND" {
                    view.inbound.insert(format!("{kind} {name}"), one);
                } else {
                    view.outbound.insert(format!("{kind} {one}"));
                }
            }
        }
        let (outbound, inbound) = (view.outbound.len(), view.inbound.len());
        assert!(outbound > 4 && inbound > 1, "a dump of {outbound} outbound and {inbound} inbound things");
        view
    }

    /// Where it differs inbound from what was before: the place, and the two values.
    fn differs_from(&self, before: &Self) -> Vec<(String, Value, Value)> {
        let keys: BTreeSet<&String> = self.inbound.keys().chain(before.inbound.keys()).collect();
        let mut found = Vec::new();
        for key in keys {
            let of = |view: &Self| view.inbound.get(key).cloned().unwrap_or_default();
            differences(key, &of(before), &of(self), &mut found);
        }
        found
    }
}

/// With the names of fields as Envoy spells them: istiod writes `typedConfig`.
fn spelled(value: &Value) -> Value {
    let name = |name: &str| {
        let letter = |letter: char| {
            let before = letter.is_ascii_uppercase().then_some('_');
            before.into_iter().chain([letter.to_ascii_lowercase()])
        };
        name.chars().flat_map(letter).collect::<String>()
    };
    match value {
        Value::Object(all) => all.iter().map(|(key, value)| (name(key), spelled(value))).collect(),
        Value::Array(all) => all.iter().map(spelled).collect(),
        other => other.clone(),
    }
}

fn differences(place: &str, before: &Value, now: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (before, now) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            keys.into_iter().for_each(|key| differences(&format!("{place}/{key}"), &before[key], &now[key], found));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let both = one.iter().zip(other).enumerate();
            both.for_each(|(at, (one, other))| differences(&format!("{place}/{at}"), one, other, found));
        }
        _ if before == now => {}
        _ => found.push((place.to_owned(), before.clone(), now.clone())),
    }
}

/// By istiod's account, and by Envoy's own.
fn views(mesh: &Mesh, of: &Served) -> [View; 2] {
    let own = serde_json::from_str(&of.member.admin("/config_dump").unwrap()).unwrap();
    [View::of(&mesh.dump(&of.member).unwrap()), View::of(&own)]
}

/// Both, once they stand still.
fn settled(mesh: &Mesh, of: &Served) -> [View; 2] {
    let (mut last, mut looks) = (views(mesh, of), 0);
    let still = eventually(DEADLINE, "views that stand still", || {
        let now = views(mesh, of);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        (looks == STILL).then_some(())
    });
    still.unwrap();
    last
}

/// Is it a captured port that leads to us, or a name that Istio makes of the Sidecar in the place of the Service?
fn is_meant((place, before, now): &(String, Value, Value), sidecar: &str, address: &str) -> bool {
    if let Some(part) = place.strip_prefix("cluster inbound|8080||/") {
        let part = part.split('/').next().unwrap();
        return ["type", "lb_policy", "cleanup_interval", "load_assignment", "upstream_bind_config"].contains(&part);
    }
    if !place.starts_with("listener virtualInbound/filter_chains/") {
        return false;
    }
    // What a trace tells, which object a chain is of, and names with the port and the address: the pod's own ones.
    let ends = |ends: &str| place.ends_with(ends);
    let [said, before] = [now, before].map(|said| said.as_str().unwrap_or_default());
    ends("/decorator/operation") && said.starts_with(sidecar)
        || ends("/metadata") && now.to_string().contains(sidecar)
        || ends("/virtual_hosts/0/name") && said.starts_with("inbound|http|")
        || (ends("/name") || ends("/stat_prefix")) && said == before.replace("0.0.0.0_", &format!("{address}_"))
}

/// Where the cluster of the captured port leads.
fn leads_to(view: &View) -> Vec<String> {
    let cluster = view.inbound.get("cluster inbound|8080||");
    let cluster = cluster.unwrap_or_else(|| panic!("there is only {:?}", view.inbound.keys()));
    let localities = cluster["load_assignment"]["endpoints"].as_array().into_iter().flatten();
    let endpoints = localities.flat_map(|locality| locality["lb_endpoints"].as_array().unwrap());
    let address = |one: &Value| {
        let socket = &one["endpoint"]["address"]["socket_address"];
        format!("{}:{}", socket["address"].as_str().unwrap(), socket["port_value"])
    };
    endpoints.map(address).collect()
}

#[test]
fn with_our_sidecar_nothing_outbound_is_another_and_inbound_only_where_captured_ports_lead_and_after_it_nothing_is() {
    let mesh = installed();
    let cluster = mesh.cluster();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap().of(NAMESPACE));
    let web = Served::new(mesh, &shop, "web", &json!({})).unwrap();
    let peer = Served::new(mesh, &shop, "peer", &json!({})).unwrap();
    let ports = "[{name: http-more, port: 81, targetPort: 8081}, {name: tcp, port: 9000}, {name: grpc, port: 9090}, \
                  {name: any, port: 9091}]";
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: more, namespace: {shop}}}, \
             spec: {{selector: {{app: web}}, ports: {ports}}}}}\n---\n\
             {{apiVersion: v1, kind: Service, metadata: {{name: headless, namespace: {shop}}}, \
             spec: {{clusterIP: None, selector: {{app: web}}, ports: [{{name: http, port: 8080}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: web, namespace: {shop}}}, \
             spec: {{host: web, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 99}}}}}}}}}}"
        ))
        .unwrap();
    peer.reaches(&web).unwrap();
    let agent = Agent::ready(cluster, &node, 6, &[]).unwrap();
    let replica = Replica::start(cluster, "seen").unwrap();

    let bases = [
        None,
        Some("{egress: [{hosts: [./*]}]}"),
        Some(
            "{egress: [{hosts: [./*, istio-system/*]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}, \
             inboundConnectionPool: {tcp: {maxConnections: 77}, http: {http1MaxPendingRequests: 7}}}",
        ),
    ];
    let mut last: Option<[View; 2]> = None;
    for base in bases {
        if let Some(spec) = base {
            let base = format!("metadata: {{name: default, namespace: {shop}}}, spec: {spec}");
            cluster.apply(&format!("{{apiVersion: networking.istio.io/v1, kind: Sidecar, {base}}}")).unwrap();
            let is_other = |last: &[View; 2]| views(mesh, &web).iter().zip(last).all(|(now, then)| now != then);
            eventually(DEADLINE, "another base", || is_other(last.as_ref()?).then_some(())).unwrap();
        }
        let before = settled(mesh, &web);
        web.member.pod().annotate(&dual()).unwrap();
        until_calls_us(&web, &replica, true);
        let with = settled(mesh, &web);
        for (whose, (with, before)) in ["istiod's", "Envoy's"].into_iter().zip(with.iter().zip(&before)) {
            let gone: Vec<_> = before.outbound.difference(&with.outbound).collect();
            let new: Vec<_> = with.outbound.difference(&before.outbound).collect();
            assert!(gone.is_empty() && new.is_empty(), "{whose} account: {gone:#?} became {new:#?}");
            assert_eq!(leads_to(with), [OURS]);
            let found = with.differs_from(before);
            let address = web.member.pod().address();
            let other: Vec<_> = found.iter().filter(|one| !is_meant(one, "nodetap-pod-web", &address)).collect();
            assert!(other.is_empty(), "{whose} account: {other:#?}");
            println!(
                "{base:?}, {whose} account: {} outbound things are the same, of {} inbound {} places differ",
                with.outbound.len(),
                with.inbound.len(),
                found.len()
            );
        }
        web.member.pod().annotate(&json!({"sidecar.speedscale.com/inject": null})).unwrap();
        until_calls_us(&web, &replica, false);
        let after = settled(mesh, &web);
        for (after, before) in after.iter().zip(&before) {
            assert_eq!(after.outbound, before.outbound);
            assert_eq!(after.differs_from(before), []);
        }
        last = Some(after);
    }
    agent.end().unwrap();
}
