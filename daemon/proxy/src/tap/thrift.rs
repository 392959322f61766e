//! What a tap holds, and how it holds less: a group's taps share one budget, and when that is spent each of them keeps
//! less of what comes, without losing sight of the conversation.

use nodetap_core::exchange::{Body, Event, Exchange};

use super::{Limits, Stage, Tap};

/// Bytes that are kept of a body when the budget is spent.
const BODY: usize = 1024;
/// Bytes of one head, and of requests that wait, when it is overspent.
const HEAD: usize = 8 * 1024;
/// Requests that wait, then.
const PIPELINE: usize = 8;

/// How much a tap should keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Thrift {
    /// As much as its limits allow.
    #[default]
    None,
    /// The budget is spent: next to nothing of bodies.
    Bodies,
    /// It is overspent: what needs a large head is not followed any more.
    Heads,
}

impl Limits {
    fn under(self, thrift: Thrift) -> Self {
        let body = self.body.min(BODY);
        match thrift {
            Thrift::None => self,
            Thrift::Bodies => Self { body, waiting: self.waiting.min(self.head), ..self },
            Thrift::Heads => {
                let (head, pipeline) = (self.head.min(HEAD), self.pipeline.min(PIPELINE));
                Self { body, head, pipeline, waiting: self.waiting.min(HEAD), ..self }
            }
        }
    }
}

impl Tap {
    /// To be told before bytes are shown. It comes into force at once, and ends only when nothing is open: what was left
    /// out in the middle of a body must not be followed by what came later.
    pub fn save(&mut self, thrift: Thrift) {
        if thrift > self.thrift || thrift < self.thrift && self.is_idle() {
            self.thrift = thrift;
            self.limits = self.full.under(thrift);
        }
    }

    /// Bytes of memory that it holds of what is open.
    pub fn held(&self) -> usize {
        match &self.stage {
            Stage::Http1(http1) => http1.held(),
            Stage::Http2(http2) => http2.held(),
            // They have small limits of their own.
            Stage::Sniffing(_) | Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => 0,
        }
    }

    fn is_idle(&self) -> bool {
        match &self.stage {
            Stage::Http1(http1) => http1.is_idle(),
            Stage::Http2(http2) => http2.is_idle(),
            Stage::Sniffing(_) | Stage::Tls(_) | Stage::Opaque(_) | Stage::Finished => true,
        }
    }
}

/// Says in an exchange's record which of its bodies is cut although `cap` would have allowed more of it, unless that is
/// said already; whether there is one. What cuts it is what the connections of its group keep together.
pub fn admit(event: &mut Event, cap: usize) -> bool {
    let Event::Exchange(exchange) = event else { return false };
    let Exchange { request, response, dropped, .. } = &mut **exchange;
    let parts = [
        (Some(&*request), "request.body: beyond what the connections of this target may keep together"),
        (response.as_ref(), "response.body: beyond what the connections of this target may keep together"),
    ];
    let before = dropped.len();
    for (message, what) in parts {
        let Some(Body { size, kept, in_messages: false }) = message.map(|message| &message.body) else { continue };
        let part = what.split(':').next().unwrap_or_default();
        let is_said = || dropped.iter().any(|known| known.starts_with(part));
        if (kept.len() as u64) < *size && kept.len() < cap && !is_said() {
            dropped.push(what.into());
        }
    }
    dropped.len() > before
}
