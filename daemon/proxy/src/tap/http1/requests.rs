//! The client's side of a conversation: bytes become requests in the queue.

use super::{
    Body, Context, Flaw, Http1, Open, Progress, Read, RequestFacts, Requests, Side, Verdict, framing, sentence,
};

impl Http1 {
    pub(super) fn client(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) {
        while !bytes.is_empty() {
            let used = match &self.requests {
                Requests::Between { .. } => self.before_request(bytes, cx),
                Requests::Head => self.request_head(bytes, cx),
                Requests::Body(_) => self.request_body(bytes, cx),
                Requests::Held => return self.hold(bytes, cx),
                Requests::Blind => return,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// Skips empty lines; at the first other byte a request begins. A CR that is none of a line's end belongs to it.
    fn before_request(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let Requests::Between { cr } = &mut self.requests else { return 0 };
        for (used, byte) in bytes.iter().enumerate() {
            match (*byte, *cr) {
                (b'\r', false) => *cr = true,
                (b'\n', _) => *cr = false,
                (_, cr) => {
                    self.stray += used as u64;
                    self.begin_request(cr, cx);
                    return used;
                }
            }
        }
        self.stray += bytes.len() as u64;
        bytes.len()
    }

    fn begin_request(&mut self, stray_cr: bool, cx: &mut Context<'_>) {
        if self.open.len() >= cx.limits.pipeline {
            return self.client_flaw(Flaw::Pipeline, cx);
        }
        if self.open.iter().map(Open::request_held).sum::<usize>() > cx.limits.waiting {
            return self.client_flaw(Flaw::Waiting, cx);
        }
        let mut open = Open::new(cx, !self.begun);
        open.count(Side::Client, std::mem::take(&mut self.stray));
        self.open.push_back(open);
        self.begun = true;
        self.requests = Requests::Head;
        if stray_cr {
            // It was taken for the beginning of an empty line, and makes the start line one that is none.
            self.request_head.begin_with_cr();
        }
    }

    fn request_head(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let judge = |bytes: &[u8]| framing::request(bytes, cx.limits.fields);
        match self.request_head.read(bytes, cx.limits.head, judge) {
            Read::More => {
                self.count_request(bytes.len());
                bytes.len()
            }
            Read::Whole { used, head, facts } => {
                self.count_request(used);
                self.request_framed(head, facts, cx);
                used
            }
            Read::Flawed { used, head, flaw } => {
                self.count_request(used);
                if let Some(open) = self.open.back_mut() {
                    open.set_odd_request_head(head);
                }
                self.client_flaw(flaw, cx);
                used
            }
        }
    }

    fn request_framed(&mut self, head: Vec<u8>, facts: RequestFacts, cx: &mut Context<'_>) {
        if let Some(open) = self.open.back_mut() {
            open.set_request_head(head, facts);
        }
        match Body::new(facts.length) {
            Some(body) => {
                if let Some(open) = self.open.back_mut() {
                    open.begin_body(Side::Client, facts.media, &body, cx);
                }
                self.requests = Requests::Body(body);
            }
            None => self.request_done(cx),
        }
    }

    fn request_body(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let (Requests::Body(body), Some(open)) = (&mut self.requests, self.open.back_mut()) else {
            return bytes.len();
        };
        match open.feed(Side::Client, body, bytes, cx) {
            Ok(fed) => {
                if fed.done {
                    self.request_done(cx);
                }
                fed.used
            }
            Err((flaw, used)) => {
                self.client_flaw(flaw, cx);
                used
            }
        }
    }

    fn count_request(&mut self, bytes: usize) {
        if let Some(open) = self.open.back_mut() {
            open.count(Side::Client, bytes as u64);
        }
    }

    pub(super) fn request_done(&mut self, cx: &mut Context<'_>) {
        self.requests = Requests::Between { cr: false };
        if let Some(open) = self.open.back_mut() {
            open.end_request(cx.now);
            open.body_whole(Side::Client, cx);
            if open.may_switch && open.response < Progress::Body {
                self.requests = Requests::Held;
            }
        }
        self.write_whole(cx);
    }

    fn hold(&mut self, bytes: &[u8], cx: &Context<'_>) {
        if self.held.bytes.is_empty() {
            self.held.since = cx.now;
        }
        self.held.count += bytes.len() as u64;
        if self.held.over || self.held.bytes.len() + bytes.len() > cx.limits.head {
            (self.held.over, self.held.bytes) = (true, Vec::new());
        } else {
            self.held.bytes.extend_from_slice(bytes);
        }
    }

    /// The response did not switch protocols: what was held are requests.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.requests, Requests::Held) {
            return;
        }
        self.requests = Requests::Between { cr: false };
        let held = std::mem::take(&mut self.held);
        if held.over {
            return self.client_flaw(Flaw::Held, cx);
        }
        let now = std::mem::replace(&mut cx.now, held.since);
        self.client(&held.bytes, cx);
        cx.now = now;
    }

    /// The client sends no more: a request that is under way will never be whole.
    pub(super) fn cut_request(&mut self, cx: &mut Context<'_>) {
        if !self.request_under_way() {
            return;
        }
        let Some(open) = self.open.back_mut() else { return };
        let Some(fault) = self.ends.cut_request(open) else { return };
        let so_far = self.request_head.take();
        if !so_far.is_empty() {
            open.set_odd_request_head(so_far);
        }
        open.request_over = true;
        open.fault = Some(fault);
        self.requests = Requests::Blind;
        self.write_whole(cx);
    }

    fn request_under_way(&self) -> bool {
        matches!(self.requests, Requests::Head | Requests::Body(_))
    }

    /// The client's side cannot be followed any more. A request that is under way is the one at fault.
    pub(super) fn client_flaw(&mut self, flaw: Flaw, cx: &mut Context<'_>) {
        let detail = sentence(Side::Client, flaw);
        let under_way = self.request_under_way();
        let so_far = self.request_head.take();
        if let Some(open) = self.open.back_mut().filter(|_| under_way) {
            if !so_far.is_empty() {
                open.set_odd_request_head(so_far);
            }
            open.request_over = true;
            open.fault = Some(super::Fault { outcome: flaw.outcome(), detail: detail.clone() });
        }
        self.requests = Requests::Blind;
        self.blind = Some(Verdict::http1(flaw.outcome(), detail));
        self.write_whole(cx);
    }
}
