//! DEFLATE in bounded memory and bounded time: what was compressed is inflated up to a cap, counted beyond it, and given
//! up where a small number of bytes makes too many. It refuses to know what the messages are.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::{Decompress, FlushDecompress, Status};
use nodetap_core::exchange::Body;

use super::kept::keep;

/// Windows (about 43 KiB each) that all connections together may hold for messages that refer to earlier ones.
const WINDOWS: usize = 4096;
/// Bytes beyond the cap that a sender's messages may inflate to, whatever they are.
const DISCARDED: u64 = 32 * 1024 * 1024;
/// As many more for each byte that came compressed: ordinary messages stay well below.
const DISCARDED_PER_BYTE: u64 = 64;
/// Final blocks (RFC 1951 §3.2.3) within one message: each means a new start, which costs time.
const FINAL_BLOCKS: u32 = 16;
const SCRATCH: usize = 4096;
/// What the sender left out at the end of a message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

static WINDOWS_HELD: AtomicUsize = AtomicUsize::new(0);

/// Why bytes are not inflated (any further).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("it is not valid compressed data")]
    Invalid,
    #[error("it inflates to too many bytes")]
    TooMuch,
    #[error("too many compressed WebSockets are open")]
    NoWindow,
}

/// How much of one sender is inflated although it is not kept.
#[derive(Debug, Default)]
pub(super) struct Budget {
    compressed: u64,
    discarded: u64,
}

impl Budget {
    /// Bytes beyond the cap that the next message may have.
    fn next(&self) -> u64 {
        let earned = self.compressed.saturating_mul(DISCARDED_PER_BYTE);
        DISCARDED.saturating_add(earned).saturating_sub(self.discarded)
    }

    /// A message of so many compressed bytes is over.
    fn spend(&mut self, compressed: u64, body: &Body) {
        self.compressed = self.compressed.saturating_add(compressed);
        self.discarded = self.discarded.saturating_add(beyond(body));
    }
}

fn beyond(body: &Body) -> u64 {
    body.size.saturating_sub(body.kept.len() as u64)
}

/// Counts and keeps what was inflated; the error when `allowed` bytes beyond the cap are exceeded.
fn take(body: &mut Body, data: &[u8], cap: usize, allowed: u64) -> Result<(), Stop> {
    keep(body, data, cap, None);
    if beyond(body) <= allowed {
        return Ok(());
    }
    body.size = allowed.saturating_add(body.kept.len() as u64);
    Err(Stop::TooMuch)
}

/// A place among [`WINDOWS`].
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |held| (held < WINDOWS).then_some(held + 1);
        WINDOWS_HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WINDOWS_HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Window {
    inner: Decompress,
    _place: Place,
}

/// Inflates the messages of one direction of a WebSocket (RFC 7692 §7.2.2). A window of 32 KiB serves whatever
/// `max_window_bits` was agreed on: it only bounds what the sender refers to.
#[derive(Debug)]
pub(super) struct Inflater {
    /// Messages refer to earlier ones.
    takeover: bool,
    window: Option<Window>,
    /// Why nothing is inflated any more: a message was missed that later ones may refer to.
    over: Option<Stop>,
    budget: Budget,
    /// Of the present message.
    allowed: u64,
    compressed: u64,
    finals: u32,
}

impl Inflater {
    pub(super) fn new(takeover: bool) -> Self {
        Self { takeover, window: None, over: None, budget: Budget::default(), allowed: 0, compressed: 0, finals: 0 }
    }

    /// A message begins.
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        if let Some(stop) = self.over {
            return Err(stop);
        }
        if self.window.is_none() {
            let Some(place) = Place::take() else { return Err(self.stop(Stop::NoWindow)) };
            self.window = Some(Window { inner: Decompress::new(false), _place: place });
        }
        (self.allowed, self.compressed, self.finals) = (self.budget.next(), 0, 0);
        Ok(())
    }

    /// Bytes of the message. After an error the rest of it is not to be fed.
    pub(super) fn feed(&mut self, bytes: &[u8], body: &mut Body, cap: usize) -> Result<(), Stop> {
        self.compressed += bytes.len() as u64;
        let fed = self.inflate(bytes, body, cap);
        fed.map_err(|stop| {
            self.budget.spend(self.compressed, body);
            self.stop(stop)
        })
    }

    /// The message is whole.
    pub(super) fn end(&mut self, body: &mut Body, cap: usize) -> Result<(), Stop> {
        self.inflate(&TAIL, body, cap).map_err(|stop| self.stop(stop))?;
        self.budget.spend(self.compressed, body);
        if !self.takeover || self.finals > 0 {
            self.window = None;
        }
        Ok(())
    }

    fn stop(&mut self, stop: Stop) -> Stop {
        self.window = None;
        if self.takeover {
            self.over = Some(stop);
        }
        stop
    }

    fn inflate(&mut self, mut bytes: &[u8], body: &mut Body, cap: usize) -> Result<(), Stop> {
        let Some(Window { inner, .. }) = &mut self.window else { return Ok(()) };
        let mut scratch = [0; SCRATCH];
        loop {
            let (taken, made) = (inner.total_in(), inner.total_out());
            let status = inner.decompress(bytes, &mut scratch, FlushDecompress::None).map_err(|_| Stop::Invalid)?;
            let taken = usize::try_from(inner.total_in() - taken).unwrap_or(usize::MAX);
            let made = usize::try_from(inner.total_out() - made).unwrap_or(usize::MAX);
            bytes = bytes.get(taken..).unwrap_or_default();
            take(body, scratch.get(..made).unwrap_or(&scratch), cap, self.allowed)?;
            if status == Status::StreamEnd {
                // A final block: whoever sends one has begun anew behind it (RFC 7692 §7.2.3.4).
                self.finals += 1;
                if self.finals > FINAL_BLOCKS {
                    return Err(Stop::TooMuch);
                }
                inner.reset(false);
            } else if made < scratch.len() && (bytes.is_empty() || taken == 0 && made == 0) {
                return if bytes.is_empty() { Ok(()) } else { Err(Stop::Invalid) };
            }
        }
    }
}

/// How a whole message was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
}

/// Inflates a whole message; what was inflated before an error is in the body all the same.
pub(super) fn whole(bytes: &[u8], format: Format, cap: usize, budget: &mut Budget) -> (Body, Result<(), Stop>) {
    let mut body = Body::default();
    let result = match format {
        Format::Gzip => drain(MultiGzDecoder::new(bytes), &mut body, cap, budget.next()),
        Format::Zlib => drain(ZlibDecoder::new(bytes), &mut body, cap, budget.next()),
    };
    budget.spend(bytes.len() as u64, &body);
    (body, result)
}

fn drain(mut reader: impl Read, body: &mut Body, cap: usize, allowed: u64) -> Result<(), Stop> {
    let mut scratch = [0; SCRATCH];
    loop {
        match reader.read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(count) => take(body, scratch.get(..count).unwrap_or_default(), cap, allowed)?,
            Err(_) => return Err(Stop::Invalid),
        }
    }
}
