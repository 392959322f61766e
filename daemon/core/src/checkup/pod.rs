//! What can be said without a mesh: who asks for capture, who would do it, what is captured now, and whom programs trust.

use serde::Deserialize;

use super::{Line, Topic, Verdict};
use crate::pod::config::{Config, ProxyType};
use crate::pod::decision::Decision;
use crate::pod::facts::Pod;
use crate::pod::keys::TRUST_BUNDLE;
use crate::pod::wish::Wish;

/// Everything that is known of a pod.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub pod: &'a Pod,
    pub decision: &'a Decision,
    /// Its condition, if it has one.
    pub told: Option<&'a Told>,
    /// Before it is placed it has none.
    pub node: Option<&'a str>,
    pub agent: &'a Agent,
    /// All capture is stopped.
    pub paused: bool,
    /// Does its namespace ask for the roots that pods are to trust? `None`: nobody may tell.
    pub bundle: Option<bool>,
    /// What could not be read, and so is not judged.
    pub hidden: &'a [String],
}

/// What the condition of a pod says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub status: bool,
    pub reason: String,
    /// A [`crate::pod::condition::Message`] as JSON.
    pub message: String,
}

/// The agent of a pod's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    Lives,
    /// Why it does not.
    Away(String),
    /// Nobody may tell.
    Unknown,
}

/// The message of a condition, as far as it is repeated.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    mode: Option<String>,
    listeners: Vec<Listens>,
    ports: Vec<u16>,
    containers: Vec<String>,
    why: Vec<String>,
    notes: Vec<String>,
    more: usize,
}

#[derive(Debug, Deserialize)]
struct Listens {
    r#for: String,
    port: Option<u16>,
    application: Option<u16>,
}

impl Facts<'_> {
    pub(super) fn asks(&self) -> bool {
        self.decision.wish != Wish::NotAsked
    }

    /// What it gets, if nothing keeps it from that.
    pub(super) fn config(&self) -> Option<&Config> {
        if let Wish::Capture(config) = &self.decision.wish { Some(config) } else { None }
    }

    pub(super) fn annotate(&self, annotation: &str) -> String {
        format!("kubectl annotate pod {} -n {} --overwrite {annotation}", self.pod.name, self.pod.namespace)
    }

    pub(super) fn is_captured(&self) -> bool {
        self.told.is_some_and(|told| told.status)
    }
}

pub(super) fn lines(facts: &Facts<'_>) -> Vec<Line> {
    let mut lines = opt_in(facts);
    lines.extend(facts.hidden.iter().map(|what| Line::new(Topic::OptIn, Verdict::Note, what.clone())));
    if facts.pod.ended {
        lines.push(Line::new(Topic::Capture, Verdict::Note, "the pod has ended: nothing more comes of it"));
        return lines;
    }
    if facts.asks() {
        lines.extend(agent(facts));
    }
    lines.extend(capture(facts));
    if let Some(config) = facts.config() {
        lines.extend(trust(facts, config));
        lines.extend(switching(config));
    }
    lines
}

fn opt_in(facts: &Facts<'_>) -> Vec<Line> {
    let line = |verdict, text: String| Line::new(Topic::OptIn, verdict, text);
    let mut lines = match &facts.decision.wish {
        Wish::NotAsked if facts.bundle.is_none() => {
            vec![line(Verdict::Note, "the pod itself asks for nothing; what its namespace says may not be read".into())]
        }
        Wish::NotAsked => {
            let no = facts
                .decision
                .said
                .get("inject")
                .map(|said| format!("{} says {}: {}", said.on, said.written, said.text));
            let text = no.unwrap_or_else(|| "nothing asks for capture".into());
            vec![line(Verdict::Note, text).mended_by(facts.annotate("nodetap.io/inject=true"))]
        }
        Wish::Refused(refusals) => refusals.iter().map(|why| line(Verdict::Wrong, why.to_string())).collect(),
        Wish::Capture(config) => {
            let by = facts.decision.said.get("inject").map_or_else(|| "somebody".into(), |said| said.on.to_string());
            vec![line(Verdict::Good, format!("{by} asks for capture, {}", config.proxy_type))]
        }
    };
    lines.extend(facts.decision.remarks.iter().map(|remark| line(Verdict::Note, remark.to_string())));
    if facts.paused && facts.asks() {
        lines.push(line(Verdict::Wrong, "all capture in this cluster is paused".into()).mended_by("nodetap resume"));
    }
    lines
}

fn agent(facts: &Facts<'_>) -> Option<Line> {
    let line = |verdict, text| Line::new(Topic::Agent, verdict, text);
    let Some(node) = facts.node else {
        return Some(line(Verdict::Note, "the pod is on no node yet".to_owned()));
    };
    match facts.agent {
        Agent::Lives => Some(line(Verdict::Good, format!("node {node} has one, and it lives"))),
        Agent::Away(why) => {
            let agents = "kubectl get pods -A -o wide -l app.kubernetes.io/name=nodetap-agent";
            let look = format!("{agents} --field-selector spec.nodeName={node}");
            Some(line(Verdict::Wrong, format!("{why}: traffic flows, and nothing of it is recorded")).mended_by(look))
        }
        Agent::Unknown => None,
    }
}

fn capture(facts: &Facts<'_>) -> Vec<Line> {
    let line = |verdict, text: String| Line::new(Topic::Capture, verdict, text);
    let Some(told) = facts.told else {
        let waits = facts.config().is_some() && facts.node.is_some() && !facts.paused;
        let nothing = || line(Verdict::Wrong, "no agent has said anything of this pod: nothing is captured".into());
        return waits.then(nothing).into_iter().collect();
    };
    let Ok(message) = serde_json::from_str::<Message>(&told.message) else {
        return vec![line(Verdict::Wrong, format!("its condition cannot be read ({})", told.reason))];
    };
    let mut lines = Vec::new();
    if told.status {
        lines.push(match facts.agent {
            Agent::Away(_) => line(Verdict::Note, format!("its condition still says: {}", captured(&message))),
            _ => line(Verdict::Good, captured(&message)),
        });
    }
    // Where nobody asks, where it is refused and where all is paused, the opt-in says it already.
    let is_said = !told.status && (facts.config().is_none() || facts.paused);
    let verdict = if facts.asks() { Verdict::Wrong } else { Verdict::Note };
    lines.extend(message.why.iter().filter(|_| !is_said).map(|why| line(verdict, why.clone())));
    lines.extend(message.notes.iter().map(|note| line(Verdict::Note, note.clone())));
    if message.more > 0 {
        lines.push(line(Verdict::Note, format!("{} more sentences did not fit into its condition", message.more)));
    }
    lines
}

/// In words: which containers, ports and listeners.
fn captured(message: &Message) -> String {
    let list = |numbers: &[u16]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("captured, {}", message.mode.as_deref().unwrap_or("in a mode that is not told"));
    if !message.containers.is_empty() {
        text += &format!("; containers {}", message.containers.join(", "));
    }
    if !message.ports.is_empty() {
        text += &format!("; inbound on {}", list(&message.ports));
    }
    for one in &message.listeners {
        match (one.port, one.application) {
            (Some(port), Some(application)) => text += &format!("; {port} answers for {application}"),
            (Some(port), None) => text += &format!("; {} on {port}", one.r#for),
            (None, _) => {}
        }
    }
    text
}

fn trust(facts: &Facts<'_>, config: &Config) -> Option<Line> {
    let line = |verdict, text: &str| Line::new(Topic::Trust, verdict, text);
    if !config.tls_out {
        return Some(
            line(Verdict::Note, "TLS that the pod begins is passed on unopened")
                .mended_by(facts.annotate("nodetap.io/tls-out=true")),
        );
    }
    let mount = "its programs have to be told to trust the roots in ConfigMap nodetap-trust-bundle (SSL_CERT_FILE and its \
                 like, or a volume); until they do, their TLS passes unopened after at most two failures";
    match facts.bundle {
        Some(false) => Some(
            line(Verdict::Note, &format!("TLS is opened; the namespace does not ask for the roots to trust. {mount}"))
                .mended_by(format!("kubectl label namespace {} {TRUST_BUNDLE}=true", facts.pod.namespace)),
        ),
        Some(true) => {
            Some(line(Verdict::Good, &format!("TLS is opened, and the namespace asks for the roots. {mount}")))
        }
        None => Some(line(Verdict::Note, &format!("TLS is opened. {mount}"))),
    }
}

/// What becomes of a pod whose agent is away, or whose annotations change. Beside a mesh there is more to it.
fn switching(config: &Config) -> Option<Line> {
    let text = match config.proxy_type {
        ProxyType::Transparent => {
            "capture comes and goes with new connections; those that pass through us end with us when an agent is killed, or \
             when its time to drain is over"
        }
        ProxyType::Reverse => "callers of our port are refused while neither agent nor keeper runs",
        ProxyType::Forward | ProxyType::Dual => {
            "programs that are told to use our proxy have none while neither agent nor keeper runs; \
             `nodetap.io/proxy-type: transparent` needs no proxy settings"
        }
    };
    Some(Line::new(Topic::Switching, Verdict::Note, text))
}
