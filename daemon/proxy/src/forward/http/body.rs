//! Bodies on their way through, each telling how it ended. Not one byte is changed, and sizes that are known stay known,
//! or an empty body would become a chunked one.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::state::{Gate, Running, State};

/// Of a request.
#[derive(Debug)]
pub(super) struct Asked {
    body: Incoming,
    gate: Gate,
    state: Rc<State>,
    whole: Rc<Cell<bool>>,
}

impl Asked {
    pub(super) fn new(body: Incoming, gate: Gate, state: Rc<State>) -> Self {
        let whole = Rc::new(Cell::new(body.is_end_stream()));
        Self { body, gate, state, whole }
    }

    /// Becomes true when all of it has been taken.
    pub(super) fn whole(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.whole)
    }

    fn note_end(&self) {
        self.state.asked.set(true);
        self.whole.set(true);
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        ready!(self.gate.poll(cx));
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.state.asked_badly.set(true),
            None => self.note_end(),
            Some(Ok(_)) if self.body.is_end_stream() => self.note_end(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Of a response.
#[derive(Debug)]
pub(super) struct Answered {
    source: Source,
    /// Until the response is over.
    running: Running,
}

#[derive(Debug)]
enum Source {
    Server(Incoming),
    Ourselves(Bytes),
}

impl Answered {
    pub(super) fn of_server(body: Incoming, running: Running) -> Self {
        Self { source: Source::Server(body), running }
    }

    pub(super) fn ourselves(text: impl Into<Bytes>, running: Running) -> Self {
        Self { source: Source::Ourselves(text.into()), running }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.source {
            Source::Server(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Err(_)) = &frame {
                    self.running.state().cut.set(true);
                }
                Poll::Ready(frame)
            }
            Source::Ourselves(text) if text.is_empty() => Poll::Ready(None),
            Source::Ourselves(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Server(body) => body.is_end_stream(),
            Source::Ourselves(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Server(body) => body.size_hint(),
            Source::Ourselves(text) => SizeHint::with_exact(text.len() as u64),
        }
    }
}
