//! What a page says, by what is known of a pod; nobody is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::mesh::desired::Desired;
use crate::mesh::sidecar::{Selector, Sidecar, Spec};
use crate::mesh::snapshot::{self, Capture, Endpoint, Mesh, PodKey, Snapshot, Workload};
use crate::pod::decision::Decision;
use crate::pod::facts::{self, Container, Kind};

/// A pod with these annotations of ours.
fn pod(annotations: &[(&str, &str)]) -> facts::Pod {
    let annotations =
        annotations.iter().map(|(key, value)| (format!("nodetap.io/{key}"), (*value).to_owned())).collect();
    let app = Container { name: "app".into(), kind: Kind::App, image: None, id: None, ports: BTreeSet::from([8080]) };
    facts::Pod {
        namespace: "shop".into(),
        name: "web".into(),
        annotations,
        containers: vec![app],
        ..facts::Pod::default()
    }
}

fn told(status: bool, reason: &str, message: &str) -> Told {
    Told { status, reason: reason.into(), message: message.into() }
}

struct Case {
    pod: facts::Pod,
    told: Option<Told>,
    agent: Agent,
    paused: bool,
    bundle: Option<bool>,
}

impl Case {
    fn of(annotations: &[(&str, &str)], told: Option<Told>) -> Self {
        Self { pod: pod(annotations), told, agent: Agent::Lives, paused: false, bundle: Some(false) }
    }

    fn page(&self, mesh: Option<&Meshed<'_>>) -> Page {
        let decision = Decision::of(&self.pod, &BTreeMap::new());
        let facts = Facts {
            pod: &self.pod,
            decision: &decision,
            told: self.told.as_ref(),
            node: Some("n1"),
            agent: &self.agent,
            paused: self.paused,
            bundle: self.bundle,
            hidden: &[],
        };
        Page::of(&facts, mesh)
    }
}

fn says(page: &Page, topic: Topic, verdict: Verdict, text: &str) -> bool {
    page.lines.iter().any(|line| line.topic == topic && line.verdict == verdict && line.text.contains(text))
}

const CAPTURING: &str = r#"{"mode":"dual","listeners":[{"for":"inbound","port":4143,"application":8080},
    {"for":"outbound","port":4140}],"ports":[8080],"containers":["app"]}"#;

#[test]
fn a_pod_that_nobody_asks_for_is_not_wrong_and_how_to_ask_is_said() {
    let page = Case::of(&[], None).page(None);
    assert_eq!((page.wrong(), page.asked, page.lines.len()), (0, Some(false), 1));
    let mend = page.lines[0].mend.as_deref().unwrap();
    assert_eq!(mend, "kubectl annotate pod web -n shop --overwrite nodetap.io/inject=true");
    let no = Case::of(&[("inject", "false")], None).page(None);
    assert!(says(&no, Topic::OptIn, Verdict::Note, "the pod says nodetap.io/inject: false"), "{no:?}");
}

#[test]
fn a_pod_that_is_captured_as_it_asks_has_nothing_wrong() {
    let page =
        Case::of(&[("inject", "true"), ("proxy-type", "dual")], Some(told(true, "Capturing", CAPTURING))).page(None);
    assert_eq!(page.wrong(), 0, "{page:?}");
    assert!(says(
        &page,
        Topic::Capture,
        Verdict::Good,
        "captured, dual; containers app; inbound on 8080; 4143 answers for 8080"
    ));
    assert!(says(&page, Topic::Switching, Verdict::Note, "proxy settings"));
}

#[test]
fn what_keeps_a_pod_from_capture_is_wrong_and_said_once() {
    let refused = told(false, "InvalidAnnotation", r#"{"why":["nodetap.io/proxy-type: \"daul\" is not accepted"]}"#);
    let page = Case::of(&[("inject", "true"), ("proxy-type", "daul")], Some(refused)).page(None);
    assert_eq!(page.wrong(), 1, "{page:?}");
    assert!(says(&page, Topic::OptIn, Verdict::Wrong, "did you mean \"dual\"?"));

    let mut away = Case::of(&[("inject", "true")], None);
    away.agent = Agent::Away("node n1 has no agent".into());
    let page = away.page(None);
    assert!(says(&page, Topic::Agent, Verdict::Wrong, "node n1 has no agent: traffic flows"), "{page:?}");
    assert!(says(&page, Topic::Capture, Verdict::Wrong, "no agent has said anything"));

    let mut paused =
        Case::of(&[("inject", "true")], Some(told(false, "Paused", r#"{"why":["all capture is paused"]}"#)));
    paused.paused = true;
    assert!(says(&paused.page(None), Topic::OptIn, Verdict::Wrong, "paused"));
    assert_eq!(paused.page(None).wrong(), 1);

    let degraded = told(true, "Degraded", r#"{"mode":"transparent","why":["port 8080 is not listened on"]}"#);
    let page = Case::of(&[("inject", "true")], Some(degraded)).page(None);
    assert!(says(&page, Topic::Capture, Verdict::Wrong, "port 8080 is not listened on"));
    let broken = Case::of(&[("inject", "true")], Some(told(true, "Capturing", "not JSON"))).page(None);
    assert!(says(&broken, Topic::Capture, Verdict::Wrong, "cannot be read (Capturing)"));
}

#[test]
fn a_namespace_that_does_not_ask_for_the_roots_is_told_how() {
    let mut case = Case::of(&[("inject", "true"), ("tls-out", "true")], None);
    case.bundle = Some(false);
    let page = case.page(None);
    let line = page.lines.iter().find(|line| line.topic == Topic::Trust).unwrap();
    assert_eq!(line.mend.as_deref(), Some("kubectl label namespace shop nodetap.io/trust-bundle=true"));
    case.bundle = Some(true);
    assert!(says(&case.page(None), Topic::Trust, Verdict::Good, "asks for the roots"));
}

#[test]
fn what_may_not_be_read_is_not_taken_for_nothing() {
    let mut case = Case::of(&[], None);
    case.bundle = None;
    let page = case.page(None);
    assert_eq!((page.asked, page.wrong()), (None, 0));
    assert!(says(&page, Topic::OptIn, Verdict::Note, "what its namespace says may not be read"), "{page:?}");
}

#[test]
fn a_pod_that_has_ended_has_nothing_wrong_and_a_dead_agents_word_is_no_good_news() {
    let mut ended = Case::of(&[("inject", "true")], Some(told(false, "Ended", r#"{"why":["the pod has ended"]}"#)));
    (ended.pod.ended, ended.agent) = (true, Agent::Away("node n1 has no agent".into()));
    assert_eq!(ended.page(None).wrong(), 0, "{:?}", ended.page(None));
    let mut dead = Case::of(&[("inject", "true")], Some(told(true, "Capturing", CAPTURING)));
    dead.agent = Agent::Away("node n1 has no agent".into());
    let page = dead.page(None);
    assert!(says(&page, Topic::Capture, Verdict::Note, "its condition still says: captured"), "{page:?}");
    assert_eq!(page.wrong(), 1);
}

fn meshed() -> snapshot::Pod {
    snapshot::Pod {
        key: PodKey { namespace: "shop".into(), name: "web".into(), uid: "u".into() },
        workload: Workload { kind: "Deployment".into(), name: "web".into() },
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        mesh: Mesh::Sidecar { native: false },
        ready: true,
        capture: Capture::Verified(BTreeMap::from([(8080, Endpoint { port: 4143, v4: true, v6: false })])),
        ..snapshot::Pod::default()
    }
}

fn beside(snapshot: &Snapshot, proxy_type: &str) -> Page {
    let case = Case::of(&[("inject", "true"), ("proxy-type", proxy_type)], Some(told(true, "Capturing", CAPTURING)));
    let desired = Desired::of(snapshot);
    case.page(Some(&Meshed { pod: &snapshot.pods[0], snapshot, desired: &desired }))
}

#[test]
fn what_the_controller_has_yet_to_write_is_wrong_until_it_stands() {
    let mut snapshot = Snapshot { pods: vec![meshed()], ..Snapshot::default() };
    let page = beside(&snapshot, "dual");
    assert!(says(&page, Topic::Sidecar, Verdict::Wrong, "2 steps to go"), "{page:?}");
    let desired = Desired::of(&snapshot);
    let ours = desired.sidecars.into_values().next().unwrap();
    snapshot.pods[0].labels.extend(ours.spec.workload_selector.clone().unwrap().labels);
    snapshot.sidecars.push(Sidecar {
        namespace: ours.namespace,
        name: ours.name,
        labels: ours.labels,
        annotations: ours.annotations,
        spec: Spec::read(&ours.spec.json()).unwrap(),
        ..Sidecar::default()
    });
    let page = beside(&snapshot, "dual");
    assert_eq!(page.wrong(), 0, "{page:?}");
    assert!(says(
        &page,
        Topic::Sidecar,
        Verdict::Good,
        "in force is shop/nodetap-deployment-web (ours); without it: none"
    ));
    assert!(says(&page, Topic::Switching, Verdict::Note, "45 s later"));
}

#[test]
fn a_sidecar_of_the_users_is_named_and_transparent_capture_does_not_mind_it() {
    let selector = Selector { labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]) };
    let spec = Spec { workload_selector: Some(selector), ..Spec::default() };
    let theirs = Sidecar { namespace: "shop".into(), name: "theirs".into(), spec, ..Sidecar::default() };
    let snapshot = Snapshot { pods: vec![meshed()], sidecars: vec![theirs], ..Snapshot::default() };
    let page = beside(&snapshot, "dual");
    assert!(says(&page, Topic::Sidecar, Verdict::Wrong, "Sidecar shop/theirs selects this pod"), "{page:?}");
    assert!(says(&page, Topic::Sidecar, Verdict::Good, "in force is shop/theirs, which selects the pod"));
    let page = beside(&snapshot, "transparent");
    assert_eq!(page.wrong(), 0, "{page:?}");
}
