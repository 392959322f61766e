//! The server's side of a conversation: bytes become the response to the exchange at the front of the queue.

use std::borrow::Cow;

use nodetap_core::exchange::{Outcome, Protocol};

use super::{
    Body, Context, Fault, Flaw, Http1, Length, Open, Progress, Read, Requests, ResponseFacts, Side, Upgraded, Verdict,
    framing, sentence,
};

impl Http1 {
    pub(super) fn server(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) -> Option<Verdict> {
        while !bytes.is_empty() {
            if self.websocket.is_some() {
                self.frames(Side::Server, bytes, cx);
                return None;
            }
            if self.open.front().is_none_or(|open| open.response == Progress::Done) {
                return Some(self.server_flaw(Flaw::Unasked, cx));
            }
            let step = match &self.response_body {
                None => self.response_head(bytes, cx),
                Some(_) => self.response_body(bytes, cx),
            };
            match step {
                Ok(used) => bytes = bytes.get(used..).unwrap_or_default(),
                Err(verdict) => return Some(verdict),
            }
            if let Some(upgraded) = &mut self.upgraded {
                upgraded.server.extend_from_slice(bytes);
                return None;
            }
        }
        None
    }

    fn response_head(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, Verdict> {
        let Some(open) = self.open.front_mut() else { return Ok(bytes.len()) };
        if open.response == Progress::NotBegun {
            open.begin_response(cx.now);
        }
        let method = open.method(self.request_head.so_far());
        let judge = |bytes: &[u8]| framing::response(bytes, cx.limits.fields, method);
        match self.response_head.read(bytes, cx.limits.head, judge) {
            Read::More => {
                open.count(Side::Server, bytes.len() as u64);
                Ok(bytes.len())
            }
            Read::Whole { used, head, facts } => {
                open.count(Side::Server, used as u64);
                self.response_framed(head, facts, cx).map_or(Ok(used), Err)
            }
            Read::Flawed { used, head, flaw } => {
                open.count(Side::Server, used as u64);
                open.set_response_head(head);
                Err(self.server_flaw(flaw, cx))
            }
        }
    }

    fn response_framed(&mut self, head: Vec<u8>, facts: ResponseFacts, cx: &mut Context<'_>) -> Option<Verdict> {
        let open = self.open.front_mut()?;
        if matches!(facts.code, 100..=199) && facts.length != Length::Switch {
            open.add_interim(&head, cx.limits.head);
            return None;
        }
        if facts.code == 101 && framing::upgrades_to_http2(&head) && self.upgrade(&head, cx) {
            return None;
        }
        let open = self.open.front_mut()?;
        open.set_response_head(head);
        if facts.length == Length::Switch {
            return self.switch(facts.code, cx);
        }
        self.response_body = Body::new(facts.length);
        if let Some(body) = &self.response_body {
            open.begin_body(Side::Server, facts.media, body, cx);
        }
        if self.response_body.is_none() {
            self.response_done(cx);
        }
        self.resume(cx);
        None
    }

    /// The connection speaks HTTP/2 from here on, if that was asked for and what came behind the request is known.
    fn upgrade(&mut self, head: &[u8], cx: &mut Context<'_>) -> bool {
        let asked = matches!(self.requests, Requests::Held) && !self.held.over;
        let Some(mut open) = self.open.pop_front_if(|open| asked && open.may_switch && open.request_over) else {
            return false;
        };
        open.add_interim(head, cx.limits.head);
        let (record, is_head) = open.into_record(cx);
        let held = std::mem::take(&mut self.held);
        self.upgraded = Some(Box::new(Upgraded {
            record,
            is_head,
            client: held.bytes,
            since: held.since,
            server: Vec::new(),
            client_fin: self.ends.client_fin(),
        }));
        true
    }

    /// The connection speaks something else from here on.
    fn switch(&mut self, code: u16, cx: &mut Context<'_>) -> Option<Verdict> {
        if self.open.front().is_some_and(|open| !open.request_over) {
            return Some(self.server_flaw(Flaw::EarlySwitch, cx));
        }
        if code == 101 && self.blind.is_none() && self.become_websocket(cx) {
            return None;
        }
        self.response_done(cx);
        self.abandon(cx);
        self.blind.take().or(Some(Verdict {
            protocol: Protocol::Tcp,
            outcome: Outcome::Passthrough,
            detail: Cow::Borrowed(match code {
                101 => "The connection switched protocols (101); what followed was not looked into.",
                _ => "The connection became a tunnel (CONNECT); what went through was not looked into.",
            }),
        }))
    }

    fn response_body(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, Verdict> {
        let (Some(body), Some(open)) = (&mut self.response_body, self.open.front_mut()) else {
            return Ok(bytes.len());
        };
        match open.feed(Side::Server, body, bytes, cx) {
            Ok(fed) => {
                if fed.done {
                    self.response_done(cx);
                }
                Ok(fed.used)
            }
            Err((flaw, _)) => Err(self.server_flaw(flaw, cx)),
        }
    }

    pub(super) fn response_done(&mut self, cx: &mut Context<'_>) {
        self.response_body = None;
        if let Some(open) = self.open.front_mut() {
            open.response = Progress::Done;
            open.body_whole(Side::Server, cx);
        }
        self.write_whole(cx);
    }

    /// Writes the exchanges of which nothing more is to come.
    pub(super) fn write_whole(&mut self, cx: &mut Context<'_>) {
        let whole = |open: &mut Open| open.request_over && open.response == Progress::Done;
        while let Some(mut open) = self.open.pop_front_if(whole) {
            let fault = open.fault.take();
            open.finish(fault, cx);
        }
    }

    /// The server's side cannot be followed any more, and so neither can the client's: all that is open is written.
    pub(super) fn server_flaw(&mut self, flaw: Flaw, cx: &mut Context<'_>) -> Verdict {
        let fault = Fault { outcome: flaw.outcome(), detail: sentence(Side::Server, flaw) };
        let verdict = Verdict::http1(fault.outcome, fault.detail.clone());
        self.settle_cut_heads(cx);
        // A response that was whole is not the one at fault.
        if let Some(open) = self.open.pop_front_if(|open| open.response != Progress::Done) {
            let fault = open.fault.clone().unwrap_or(fault);
            open.finish(Some(fault), cx);
        }
        self.abandon(cx);
        self.blind.take().unwrap_or(verdict)
    }

    /// Writes what is open as it is: it cannot be told how it goes on.
    fn abandon(&mut self, cx: &mut Context<'_>) {
        self.settle_cut_heads(cx);
        while let Some(open) = self.open.pop_front() {
            let fault = open.fault.clone().unwrap_or_else(|| abandoned(&open));
            open.finish(Some(fault), cx);
        }
    }
}

fn abandoned(open: &Open) -> Fault {
    let detail = match open.response {
        Progress::Done => {
            "The response was whole before the request was; the rest of the request could not be followed."
        }
        _ => "It could not be followed to its end: an earlier message on the connection was not understood.",
    };
    let outcome = if open.response == Progress::Done { Outcome::Complete } else { Outcome::Passthrough };
    Fault { outcome, detail: Cow::Borrowed(detail) }
}
