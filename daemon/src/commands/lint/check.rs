//! From objects to what their pods would get.

use std::collections::{BTreeMap, BTreeSet};

use nodetap_core::pod::config::Config;
use nodetap_core::pod::decision::{Decision, captured};
use nodetap_core::pod::facts::{Container, Kind, Pod};
use nodetap_core::pod::observed::Listener;
use nodetap_core::pod::refusal::{Refusal, Remark, Source};
use nodetap_core::pod::resolved::{self, Owner};
use nodetap_core::pod::wish::Wish;
use nodetap_core::pod::{keys, ports, precedence};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::manifest::{
    ContainerSpec, CronJobSpec, Document, Object, Place, PodSpec, ServicePort, ServiceSpec, Template, WorkloadSpec,
};

/// Kinds whose pods stand in `spec.template`.
const WORKLOADS: [&str; 7] =
    ["DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "Rollout", "StatefulSet"];

/// What was found out about one object.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None`: there is no pod in it.
    pub(super) pod: Option<Gets>,
    pub(super) errors: Vec<Line>,
    pub(super) warnings: Vec<Line>,
    pub(super) notes: Vec<Line>,
}

/// What a pod would get.
#[derive(Debug)]
pub(super) struct Gets {
    pub(super) decision: Decision,
    pub(super) inbound: String,
    pub(super) outbound: String,
    pub(super) containers: Vec<String>,
}

/// One thing to say, and about which annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: Option<String>,
    pub(super) text: String,
}

impl Line {
    fn of(key: Option<&str>, text: String) -> Self {
        // The line begins with the key: it need not be said twice.
        let rest = key.and_then(|key| text.strip_prefix(key));
        let rest = rest.and_then(|rest| rest.strip_prefix(": ").or_else(|| rest.strip_prefix(' ')));
        Self { text: rest.map_or_else(|| text.clone(), str::to_owned), key: key.map(str::to_owned) }
    }
}

impl Finding {
    fn new(place: Place, object: Option<&Object>, namespace: &str) -> Self {
        let metadata = object.map(|object| &object.metadata);
        Self {
            place,
            kind: object.map(|object| object.kind.clone()).unwrap_or_default(),
            namespace: metadata.and_then(|one| one.namespace.clone()).unwrap_or_else(|| namespace.to_owned()),
            name: metadata.map(|one| one.name().to_owned()).unwrap_or_default(),
            pod: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn wrong(&mut self, key: Option<&str>, text: impl Into<String>) {
        self.errors.push(Line::of(key, text.into()));
    }

    fn refuse(&mut self, refusals: &[Refusal]) {
        refusals.iter().for_each(|refusal| self.wrong(refusal.key(), refusal.to_string()));
    }

    fn remark<'a>(&mut self, remarks: impl IntoIterator<Item = &'a Remark>) {
        for remark in remarks {
            let line = Line::of(remark.key(), remark.to_string());
            if remark.is_warning() { self.warnings.push(line) } else { self.notes.push(line) }
        }
    }

    /// Its annotations of ours; those that have no text as value are reported, since the API server would not take them.
    fn annotations(&mut self, metadata: &super::manifest::Metadata) -> BTreeMap<String, String> {
        let (mut texts, others) = metadata.annotations();
        texts.retain(|name, _| keys::named(name) != keys::Named::Foreign);
        for (name, what) in others.iter().filter(|(name, _)| keys::named(name) != keys::Named::Foreign) {
            self.wrong(Some(name), format!("{name}: its value is {what}, and must be text: write it in quotes"));
        }
        texts
    }
}

/// What is known of all objects together.
#[derive(Default)]
struct Around {
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// By namespace.
    services: Vec<(String, ServiceSpec)>,
}

/// Looks at all objects. `namespace`: of those that name none.
pub(super) fn check(documents: impl Iterator<Item = Document>, namespace: &str) -> Vec<Finding> {
    let mut around = Around::default();
    let mut findings = Vec::new();
    let mut objects = Vec::new();
    for (place, object) in documents {
        match object {
            Ok(object) => objects.push((Finding::new(place, Some(&object), namespace), object)),
            Err(why) => {
                let mut finding = Finding::new(place, None, namespace);
                finding.wrong(None, why);
                findings.push(finding);
            }
        }
    }
    for (finding, object) in &mut objects {
        match object.kind.as_str() {
            "Namespace" => of_namespace(finding, object, &mut around),
            "Service" => {
                if let Some(service) = spec::<ServiceSpec>(finding, object) {
                    around.services.push((finding.namespace.clone(), service));
                }
            }
            _ => {}
        }
    }
    for (mut finding, object) in objects {
        of_pods(&mut finding, &object, &around);
        findings.push(finding);
    }
    findings.sort_by(|a, b| (&a.place.file, a.place.document).cmp(&(&b.place.file, b.place.document)));
    findings
}

fn spec<T: DeserializeOwned + Default>(finding: &mut Finding, object: &Object) -> Option<T> {
    if object.spec.is_null() {
        return Some(T::default());
    }
    match T::deserialize(&object.spec) {
        Ok(spec) => Some(spec),
        Err(error) => {
            finding.wrong(None, format!("its spec is not that of a {}: {error}", object.kind));
            None
        }
    }
}

/// A namespace is wrong by itself, whatever its pods say.
fn of_namespace(finding: &mut Finding, object: &Object, around: &mut Around) {
    finding.namespace = String::new();
    let annotations = finding.annotations(&object.metadata);
    let merged = precedence::of_pod(&BTreeMap::new(), &finding.name, &annotations);
    let mut remarks = Vec::new();
    match Wish::of(&merged, &mut remarks) {
        Wish::Refused(refusals) => finding.refuse(&refusals),
        _ => finding.refuse(&merged.refusals),
    }
    finding.remark(merged.remarks.iter().chain(&remarks));
    around.namespaces.insert(finding.name.clone(), annotations);
}

fn of_pods(finding: &mut Finding, object: &Object, around: &Around) {
    match object.kind.as_str() {
        "Pod" => {
            if let Some(spec) = spec::<PodSpec>(finding, object) {
                let template = Template { metadata: object.metadata.clone(), spec };
                of_template(finding, &template, &[], around);
            }
        }
        "CronJob" => {
            if let Some(CronJobSpec { job_template }) = spec::<CronJobSpec>(finding, object) {
                let job = ("Job", finding.annotations(&job_template.metadata));
                let cron = ("CronJob", finding.annotations(&object.metadata));
                of_template(finding, &job_template.spec.template, &[job, cron], around);
            }
        }
        kind if WORKLOADS.contains(&kind) => {
            if let Some(WorkloadSpec { template }) = spec::<WorkloadSpec>(finding, object) {
                let owner = (kind, finding.annotations(&object.metadata));
                of_template(finding, &template, &[owner], around);
            }
        }
        _ => {}
    }
}

fn of_template(
    finding: &mut Finding,
    template: &Template,
    owners: &[(&str, BTreeMap<String, String>)],
    around: &Around,
) {
    let mut annotations = finding.annotations(&template.metadata);
    let name = finding.name.clone();
    let owners: Vec<Owner<'_>> =
        owners.iter().map(|(kind, annotations)| Owner { kind, name: &name, annotations }).collect();
    if annotations.remove(keys::RESOLVED).is_some() {
        finding.remark([&Remark::ResolvedElsewhere(Source::Pod)]);
    }
    match resolved::write(&owners) {
        Ok(text) => annotations.extend(text.map(|text| (keys::RESOLVED.to_owned(), text))),
        Err(error) => return finding.wrong(None, error.to_string()),
    }
    let pod = pod(finding, template, annotations, around);
    let nothing = BTreeMap::new();
    let of_namespace = around.namespaces.get(&finding.namespace).unwrap_or(&nothing);
    let decision = Decision::of(&pod, of_namespace);
    // What is wrong with a namespace is said of the namespace.
    let here = |on: Option<&Source>| !matches!(on, Some(Source::Namespace(_)));
    let merged = precedence::of_pod(&pod.annotations, &pod.namespace, of_namespace);
    let refusals = match &decision.wish {
        Wish::Refused(refusals) => refusals,
        // Nobody asks; but somebody made a mistake, and will not see it before somebody asks.
        _ => &merged.refusals,
    };
    let mine: Vec<Refusal> = refusals.iter().filter(|refusal| here(refusal.on())).cloned().collect();
    finding.refuse(&mine);
    finding.remark(decision.remarks.iter().filter(|remark| here(remark.on())));
    if decision.wish == Wish::NotAsked && !decision.said.is_empty() && !decision.said.contains_key("inject") {
        finding
            .warnings
            .push(Line::of(None, "it has annotations of nodetap's, and none asks for capture (inject)".into()));
    }
    let (mut inbound, mut outbound, mut containers) = (String::new(), String::new(), Vec::new());
    if let Wish::Capture(config) = &decision.wish {
        inbound = of_inbound(&pod, config);
        outbound = of_outbound(config);
        containers = captured(&pod, config).map(|one| one.name.clone()).collect();
        hints(finding, &pod, config, &template.spec);
    }
    finding.pod = Some(Gets { decision, inbound, outbound, containers });
}

/// The pod that the API server would make of it, as far as that is known here.
fn pod(finding: &Finding, template: &Template, annotations: BTreeMap<String, String>, around: &Around) -> Pod {
    let spec = &template.spec;
    let kinds = [
        (&spec.init_containers, Kind::Init),
        (&spec.containers, Kind::App),
        (&spec.ephemeral_containers, Kind::Ephemeral),
    ];
    let containers =
        kinds.into_iter().flat_map(|(specs, kind)| specs.iter().flatten().map(move |one| container(one, kind)));
    let labels = template.metadata.labels.clone().unwrap_or_default();
    let selects = |service: &ServiceSpec| {
        let selector = service.selector.iter().flatten();
        service.selector.as_ref().is_some_and(|one| !one.is_empty())
            && selector.clone().all(|(key, value)| labels.get(key) == Some(value))
    };
    let services = around.services.iter().filter(|(namespace, one)| *namespace == finding.namespace && selects(one));
    let ports = services.flat_map(|(_, service)| service.ports.iter().flatten());
    Pod {
        namespace: finding.namespace.clone(),
        name: finding.name.clone(),
        annotations,
        host_network: spec.host_network,
        runtime_class: spec.runtime_class_name.clone(),
        containers: containers.collect(),
        service_ports: ports.filter_map(|port| target(port, spec)).collect(),
        ..Pod::default()
    }
}

fn container(spec: &ContainerSpec, kind: Kind) -> Container {
    let stays = kind == Kind::Init && spec.restart_policy.as_deref() == Some("Always");
    let tcp = spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    Container {
        name: spec.name.clone(),
        kind: if stays { Kind::Sidecar } else { kind },
        image: spec.image.clone(),
        id: None,
        ports: tcp.map(|port| port.container_port).collect(),
    }
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// The port of the pod that a Service sends to.
fn target(port: &ServicePort, spec: &PodSpec) -> Option<u16> {
    if !is_tcp(port.protocol.as_deref()) {
        return None;
    }
    match &port.target_port {
        None => Some(port.port),
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Some(Value::String(name)) => {
            let ports = spec.containers.iter().flatten().flat_map(|one| one.ports.iter().flatten());
            ports.filter(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port).next()
        }
        Some(_) => None,
    }
}

/// Ports of the application, as far as the manifest tells.
fn application(pod: &Pod, config: &Config) -> Vec<u16> {
    let named = || captured(pod, config).flat_map(|one| &one.ports).chain(&pod.service_ports).copied();
    let ports = config.ports.clone().unwrap_or_else(|| named().collect::<BTreeSet<_>>().into_iter().collect());
    ports.into_iter().filter(|port| !config.inbound.ports.contains(port)).collect()
}

fn of_inbound(pod: &Pod, config: &Config) -> String {
    let kind = config.proxy_type;
    let ports = application(pod, config);
    let list = |ports: &[u16]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if kind.steers() {
        return match &config.ports {
            _ if config.inbound.all => "none".into(),
            Some(_) => list(&ports),
            None => "what listens".into(),
        };
    }
    if !kind.reverses() {
        return "none".into();
    }
    let listeners = ports::listeners(config, &ports, None, &BTreeSet::new()).unwrap_or_default();
    let pairs = listeners.iter().filter_map(|(listener, app)| match listener {
        Listener::Reverse { port } => app.map(|app| format!("{port}={app}")),
        _ => None,
    });
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { format!("{}=what listens", config.in_port.port) } else { pairs.join(",") }
}

fn of_outbound(config: &Config) -> String {
    let kind = config.proxy_type;
    match config.out_port.port {
        port if kind.forwards() => format!("127.0.0.1:{port}"),
        _ if kind.steers() && !config.outbound.all => "all".into(),
        _ => "none".into(),
    }
}

/// What goes wrong most often, though every annotation is right.
fn hints(finding: &mut Finding, pod: &Pod, config: &Config, spec: &PodSpec) {
    let out = config.out_port.port.to_string();
    let specs = || spec.containers.iter().chain(&spec.init_containers).flatten();
    let text = |value: &Value| match value {
        Value::String(text) => text.contains(&out),
        other => other.as_u64() == Some(config.out_port.port.into()),
    };
    let names_it = |one: &ContainerSpec| {
        let variables = || one.env.iter().flatten();
        one.command.iter().chain(&one.args).flatten().any(text)
            || variables().any(|variable| variable.value.as_ref().is_some_and(text) || variable.value_from.is_some())
            || one.env_from.iter().flatten().next().is_some()
    };
    if config.proxy_type.forwards() && !specs().any(names_it) {
        let text = format!(
            "nothing in its containers' environment or arguments names port {out}: what it calls stays unrecorded unless \
             its programs are told otherwise (HTTP_PROXY=http://localhost:{out})"
        );
        finding.warnings.push(Line::of(None, text));
    }
    if config.proxy_type.reverses() && pod.is_meshed() {
        let text = "a mesh's proxy stands before the application: under Istio the controller makes it call our port by a \
                    Sidecar, which ends connections older than 45 s; proxy-type transparent needs nothing of it";
        finding.warnings.push(Line::of(None, text.into()));
    }
    if config.proxy_type.reverses() && application(pod, config).is_empty() {
        let text = "neither proxy-port nor a containerPort names a port of the application: the first that it listens \
                    on is taken";
        finding.notes.push(Line::of(None, text.into()));
    }
}
