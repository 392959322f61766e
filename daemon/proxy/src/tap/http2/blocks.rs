//! Header blocks (RFC 9113 §4.3): gathered from HEADERS, PUSH_PROMISE and CONTINUATION frames, decompressed whole, and
//! given to the stream they belong to. A block is decompressed whoever wants it: the table must not miss one.

use std::borrow::Cow;

use nodetap_core::exchange::{Outcome, UnixMicros};

use super::super::{Context, Side};
use super::ends::{Fault, refused};
use super::flaw::Broken;
use super::frame::{END_HEADERS, END_STREAM, Frame, HEADER, Kind};
use super::stream::Stream;
use super::{Http2, opener};

/// Capacity that the buffer keeps from one block to the next.
const KEEP: usize = 16 * 1024;

/// A block may unfold to this many times the limit of a head: nobody waits for a tap that reads on and on.
const BOMB: usize = 16;

/// A header block on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// The stream its frames are on.
    pub(super) carrier: u32,
    /// The stream it is about: the same, or the promised one.
    pub(super) stream: u32,
    promise: bool,
    ends_stream: bool,
    /// Bytes of all its frames so far; this is what bounds a block of many small or empty frames.
    wire: usize,
    began: UnixMicros,
}

impl Http2 {
    pub(super) fn begin_block(&mut self, from: Side, frame: &Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        if frame.misfit {
            return Err(Broken::BlockFrame);
        }
        if self.lane(from).block.is_none() {
            let promise = frame.kind == Kind::PushPromise;
            let stream = if promise { frame.promised() } else { frame.stream };
            self.open_stream(from, frame, stream, promise, cx);
            self.lane(from).block = Some(Block {
                carrier: frame.stream,
                stream,
                promise,
                ends_stream: !promise && frame.has(END_STREAM),
                wire: 0,
                began: frame.began,
            });
        }
        if let Some(block) = &mut self.lane(from).block {
            block.wire += (HEADER + frame.length) as usize;
            if block.wire > cx.limits.head {
                return Err(Broken::BlockTooLarge);
            }
        }
        Ok(())
    }

    /// Opens the stream that a header block begins, if it begins one.
    fn open_stream(&mut self, from: Side, frame: &Frame, id: u32, promise: bool, cx: &mut Context<'_>) {
        if !promise && self.streams.contains_key(&id) {
            return;
        }
        if promise && (from == Side::Client || !self.streams.contains_key(&frame.stream)) {
            if from == Side::Client {
                self.note(from, Broken::WrongStream);
                return;
            }
            // On a stream that is over it may have been on its way.
            self.note_unknown(from, frame.stream);
        }
        if !promise && (from == Side::Server || id == 0) {
            return self.note_unknown(from, id);
        }
        if id == 0 || opener(id) != from {
            return self.note(from, Broken::StreamNumber);
        }
        let lane = self.lane(from);
        if id <= lane.highest {
            // A promise of what is over; or the trailers of a request that was reset meanwhile.
            if promise {
                self.note(from, Broken::StreamNumber);
            }
            return;
        }
        lane.highest = id;
        let only_head = if lane.refused_above.is_some_and(|last| id > last) {
            Some(refused(from.other()))
        } else if self.held.is_full(cx.limits) {
            let detail = "It was not followed: the open streams hold more bytes than the tap's limit.";
            Some(Fault { outcome: Outcome::Passthrough, detail: Cow::Borrowed(detail) })
        } else {
            None
        };
        let first = !std::mem::replace(&mut self.begun, true);
        let mut stream = Stream::open(id, frame.began, first, promise, &mut self.held, cx);
        stream.only_head = only_head;
        self.streams.insert(id, Box::new(stream));
    }

    pub(super) fn block_piece(
        &mut self,
        from: Side,
        frame: &Frame,
        piece: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), Broken> {
        let lane = self.lane(from);
        let whole = frame.has(END_HEADERS) && frame.padding == 0 && piece.len() == frame.content as usize;
        if whole && lane.gathered.is_empty() {
            // The plain case: nothing needs to be gathered.
            return self.end_block(from, piece, cx);
        }
        lane.gathered.extend_from_slice(piece);
        Ok(())
    }

    pub(super) fn end_block_frame(&mut self, from: Side, frame: &Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        let lane = self.lane(from);
        if !frame.has(END_HEADERS) || lane.block.is_none() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut lane.gathered);
        let done = self.end_block(from, &gathered, cx);
        gathered.clear();
        gathered.shrink_to(KEEP);
        self.lane(from).gathered = gathered;
        done
    }

    /// The block is whole.
    fn end_block(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Broken> {
        let Self { client, server, section, .. } = self;
        let lane = match from {
            Side::Client => client,
            Side::Server => server,
        };
        section.clear();
        lane.decoder
            .decode(bytes, cx.limits.head.saturating_mul(BOMB), |name, value| section.take(name, value, cx.limits))?;
        let Some(block) = lane.block.take() else { return Ok(()) };
        self.give(from, block, cx);
        if block.ends_stream {
            self.end_message(from, block.stream, cx);
        }
        Ok(())
    }

    /// The stream that a block is about takes it.
    fn give(&mut self, from: Side, block: Block, cx: &mut Context<'_>) {
        let Self { streams, section, held, .. } = self;
        let Some(stream) = streams.get_mut(&block.stream) else { return };
        let sender = if block.promise { Side::Client } else { from };
        if block.promise && !stream.wants_head(Side::Client) {
            return;
        }
        match (sender, stream.wants_head(sender)) {
            (Side::Client, true) => {
                let (text, method) = section.request();
                stream.request_head(text, method, held, cx);
            }
            (Side::Server, true) => {
                let (text, code) = section.response();
                stream.response_head(text, code, block.began, block.ends_stream, held, cx);
            }
            (_, false) => {
                let text = section.trailers();
                stream.trailers(sender, text, block.ends_stream, held);
            }
        }
        let fault = match stream.only_head.take() {
            Some(fault) => Some(fault),
            None if held.is_over(cx.limits) => Some(Fault {
                outcome: Outcome::Passthrough,
                detail: Cow::Borrowed(
                    "It was followed no further: the open streams hold more bytes than the tap's limit.",
                ),
            }),
            None => None,
        };
        if fault.is_some() {
            self.close(block.stream, fault, cx);
        }
    }
}
