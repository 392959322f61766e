//! What there is to say about one pod to whoever asks why it is captured, or why it is not: one page, each line with what
//! mends it. Values in, values out: it asks nobody, and does not know how a page is shown.

mod mesh;
mod pod;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::mesh::Meshed;
pub use self::pod::{Agent, Facts, Told};

/// What a line is about, in the order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Who asks for capture, and for which.
    OptIn,
    /// Who would do it.
    Agent,
    /// What is captured now.
    Capture,
    /// How the pod is in a mesh.
    Mesh,
    /// Which of Istio's Sidecars holds for it.
    Sidecar,
    /// What TLS needs.
    Trust,
    /// What it costs to turn capture on or off.
    Switching,
}

impl Topic {
    pub fn words(self) -> &'static str {
        match self {
            Self::OptIn => "opt-in",
            Self::Agent => "agent",
            Self::Capture => "capture",
            Self::Mesh => "mesh",
            Self::Sidecar => "sidecar",
            Self::Trust => "trust",
            Self::Switching => "switching",
        }
    }
}

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Good,
    /// Worth knowing.
    Note,
    /// Something that was asked for is not so.
    Wrong,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub topic: Topic,
    pub verdict: Verdict,
    pub text: String,
    /// A command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Line {
    fn new(topic: Topic, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { topic, verdict, text: text.into(), mend: None }
    }

    fn mended_by(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}

/// All about one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    pub namespace: String,
    pub pod: String,
    /// Does anybody ask for capture? `None`: that may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<bool>,
    pub lines: Vec<Line>,
}

impl Page {
    /// `mesh`: where the cluster has Istio's Sidecars, and they may be read.
    pub fn of(facts: &Facts<'_>, mesh: Option<&Meshed<'_>>) -> Self {
        let mut lines = pod::lines(facts);
        if let Some(mesh) = mesh {
            lines.extend(mesh::lines(facts, mesh));
        }
        lines.sort_by_key(|line| line.topic);
        let (namespace, pod) = (facts.pod.namespace.clone(), facts.pod.name.clone());
        Self { namespace, pod, asked: (facts.asks() || facts.bundle.is_some()).then_some(facts.asks()), lines }
    }

    /// Things that were asked for and are not so.
    pub fn wrong(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict == Verdict::Wrong).count()
    }
}
