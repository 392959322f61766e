//! The controller's numbers for Prometheus. Every label is one of a fixed set of words: no user, no namespace.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::agents::Agents;
use crate::cluster::Health;
use crate::telemetry::families::{counter, gauge};

/// Where the numbers come from.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) leads: watch::Receiver<bool>,
    pub(super) agents: watch::Receiver<Option<Agents>>,
    pub(super) health: Health,
    pub(super) answers: Answers,
}

/// What was answered, by what was asked for and the class of the code.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>);

impl Answers {
    pub(super) fn count(&self, asked: &'static str, code: StatusCode) {
        let class = match code.as_u16() {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry((asked, class)).or_default() += 1;
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let none = Vec::<(&str, &str)>::new;
        let leads = [(none(), u64::from(*self.leads.borrow()))];
        gauge(encoder, "nodetap_controller_leads", "1 while this replica holds the Lease and writes", leads)?;
        let agents = self.agents.borrow().clone().unwrap_or_default();
        let reached = agents.iter().filter(|agent| agent.address.is_some()).count();
        let by_state = [("known", agents.len()), ("addressed", reached)];
        let by_state = by_state.map(|(state, count)| (vec![("state", state)], count as u64));
        gauge(
            encoder,
            "nodetap_controller_agents",
            "Nodes with an agent, and those of them that can be asked",
            by_state,
        )?;
        let answers = self.answers.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answers =
            answers.iter().map(|((asked, class), count)| (vec![("asked", *asked), ("code_class", *class)], *count));
        counter(encoder, "nodetap_controller_answers", "Answers to the API server, by what was asked for", answers)?;
        let calls = self.health.calls();
        let calls = calls.iter().map(|(call, count)| (vec![("call", *call)], *count));
        let help = "Answers of the API server that were as hoped, by what was asked";
        counter(encoder, "nodetap_api_calls", help, calls)?;
        let failures = self.health.failures();
        let failures = failures.iter().map(|(call, class, count)| (vec![("call", *call), ("class", *class)], *count));
        counter(encoder, "nodetap_api_failures", "Failures of calls to the API server", failures)?;
        let build = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        gauge(encoder, "nodetap_build_info", "Which nodetap this is", build)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn numbers_say_who_leads_whom_it_can_ask_and_what_it_answered() {
        let (answers, (_lead, leads), (_agents, agents)) =
            (Answers::default(), watch::channel(true), watch::channel(None));
        answers.count("exchanges", StatusCode::OK);
        answers.count("exchanges", StatusCode::FORBIDDEN);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Numbers { leads, agents, health: Health::default(), answers }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "nodetap_controller_leads 1",
            "nodetap_controller_agents{state=\"known\"} 0",
            "nodetap_controller_answers_total{asked=\"exchanges\",code_class=\"2xx\"} 1",
            "nodetap_controller_answers_total{asked=\"exchanges\",code_class=\"4xx\"} 1",
        ] {
            assert!(text.lines().any(|found| found.replace("{}", "") == line), "no {line} in {text}");
        }
    }
}
