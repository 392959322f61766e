//! What two peers are going to say to each other, made of one number: both sides know what they must see. It knows no
//! wire, and nothing of what records it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::body::{Body, Frame, SizeHint};

use crate::drive::Dice;

/// Which protocol a conversation is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Http1,
    Http2,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// The client gives it up before it is answered.
    Left,
    /// The server gives it up without an answer.
    Failed,
    /// The server gives up in the middle of its answer's body.
    Broken,
    /// The client has enough after the answer's head.
    Enough,
    /// The server answers without having looked at the request's body.
    Early,
}

/// A message as one peer sends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Content {
    pub(super) fields: HeaderMap,
    pub(super) pieces: Vec<Bytes>,
    pub(super) trailers: HeaderMap,
    /// Its size is said beforehand (Content-Length).
    sized: bool,
}

/// One request, its answer, and what becomes of it.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) fate: Fate,
    /// `Expect: 100-continue`.
    pub(super) expects: bool,
    pub(super) request: Content,
    pub(super) response: Content,
}

/// All that is said over one connection. In HTTP/2 all at once, in HTTP/1.1 one after the other.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) wire: Wire,
    pub(super) turns: Vec<Turn>,
}

impl Conversation {
    /// Of one to eight turns. Every second one is in HTTP/2.
    pub(super) fn of(seed: u64) -> Self {
        let dice = &mut Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let wire = if seed.is_multiple_of(2) { Wire::Http1 } else { Wire::Http2 };
        let mut turns = Vec::new();
        for _ in 0..=dice.roll(8) {
            let turn = Turn::of(dice, wire);
            // Such a thing is the end of an HTTP/1 connection, and only of a stream in HTTP/2.
            let last = turn.fate != Fate::Answered
                || turn.version == Version::HTTP_10
                || turn.response.fields.contains_key(header::CONNECTION);
            turns.push(turn);
            if last && wire == Wire::Http1 {
                break;
            }
        }
        Self { wire, turns }
    }
}

impl Turn {
    fn of(dice: &mut Dice, wire: Wire) -> Self {
        let fates = [Fate::Left, Fate::Failed, Fate::Broken, Fate::Enough, Fate::Early];
        let mut fate = if dice.roll(8) == 0 { fates[dice.roll(5)] } else { Fate::Answered };
        let methods = [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE];
        let mut method = methods[dice.roll(5)].clone();
        let statuses = [200, 200, 200, 404, 500, 204, 304];
        let mut status = StatusCode::from_u16(statuses[dice.roll(7)]).unwrap();
        let old = wire == Wire::Http1 && dice.roll(20) == 0;
        if old {
            (method, status) = (Method::GET, StatusCode::OK);
        }
        let asks_more = matches!(method, Method::POST | Method::PUT);
        let answers_more =
            method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if fate == Fate::Broken && (old || !answers_more) {
            // There is nothing to break, or nobody can tell.
            fate = Fate::Answered;
        }
        let mut request = Content::of(dice, asks_more, wire);
        let mut response = Content::of(dice, answers_more, wire);
        let expects = wire == Wire::Http1 && !request.pieces.is_empty() && dice.roll(4) == 0;
        if expects {
            request.fields.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        request.fields.insert(header::TE, HeaderValue::from_static("trailers"));
        if method == Method::HEAD && status == StatusCode::OK && dice.roll(2) == 0 {
            // Of a body that does not follow.
            response.fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("777"));
        }
        if wire == Wire::Http1 && dice.roll(20) == 0 {
            response.fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if old {
            response.trailers.clear();
        }
        let version = if old { Version::HTTP_10 } else { Version::default() };
        Self { method, version, status, fate, expects, request, response }
    }
}

impl Content {
    fn of(dice: &mut Dice, has_body: bool, wire: Wire) -> Self {
        let mut fields = fields(dice, "x");
        let count = if has_body { dice.roll(5) } else { 0 };
        let pieces: Vec<_> = (0..count)
            .map(|_| {
                let most = [1, 1, 100, 100, 100, 100, 1000, 1000, 5000, 40_000][dice.roll(10)];
                Bytes::from(vec![u8::try_from(dice.roll(256)).unwrap(); dice.roll(most) + 1])
            })
            .collect();
        let trailers = if has_body && dice.roll(3) == 0 { self::fields(dice, "t") } else { HeaderMap::new() };
        if wire == Wire::Http1 {
            // hyper sends no others.
            for name in trailers.keys() {
                fields.append(header::TRAILER, HeaderValue::from_str(name.as_str()).unwrap());
            }
        }
        let sized = trailers.is_empty() && dice.roll(2) == 0;
        Self { fields, pieces, trailers, sized }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    pub(super) fn body(&self) -> Pieces {
        let mut frames: VecDeque<_> = self.pieces.iter().cloned().map(Frame::data).collect();
        if !self.trailers.is_empty() {
            frames.push_back(Frame::trailers(self.trailers.clone()));
        }
        Pieces { frames, sized: self.sized, waits: true, breaks: false }
    }

    /// The body, of which the last piece never comes.
    pub(super) fn broken(&self) -> Pieces {
        let mut pieces = self.body();
        pieces.frames.pop_back();
        Pieces { breaks: true, sized: false, ..pieces }
    }
}

fn fields(dice: &mut Dice, prefix: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    for _ in 0..dice.roll(6) {
        // Few names, so that the table is used; values from empty to long, some of them no ASCII.
        let name = HeaderName::from_bytes(format!("{prefix}-{}", dice.roll(4)).as_bytes()).unwrap();
        let letters: [&[u8]; 4] = [b"a", b"Z9~", b"\xfc", b"{\"x\"}"];
        let most = [0, 3, 10, 20, 20, 300][dice.roll(6)];
        let mut value = HeaderValue::from_bytes(&letters[dice.roll(4)].repeat(dice.roll(most + 1))).unwrap();
        value.set_sensitive(dice.roll(5) == 0);
        map.append(name, value);
    }
    map
}

/// A body that lets others have their turn before each piece.
#[derive(Debug)]
pub(super) struct Pieces {
    frames: VecDeque<Frame<Bytes>>,
    sized: bool,
    waits: bool,
    breaks: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.waits = !self.waits;
        if !self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.frames.pop_front() {
            None if self.breaks => Poll::Ready(Some(Err(std::io::ErrorKind::Other.into()))),
            frame => Poll::Ready(frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && !self.breaks
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.frames.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        if self.sized { SizeHint::with_exact(left) } else { SizeHint::default() }
    }
}
