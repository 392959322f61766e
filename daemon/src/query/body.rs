//! Bodies of answers: a text, or what a channel brings.

use std::convert::Infallible;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Pieces that wait for a slow reader.
pub const WAITING: usize = 4;

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// Ends when the sender is dropped.
pub fn streamed(pieces: mpsc::Receiver<Bytes>) -> Body {
    let stream = futures_util::stream::unfold(pieces, async |mut pieces| {
        pieces.recv().await.map(|piece| (Ok(Frame::data(piece)), pieces))
    });
    StreamBody::new(stream).boxed_unsync()
}
