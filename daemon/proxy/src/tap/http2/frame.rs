//! Frames (RFC 9113 §4, §6) out of bytes that come in any pieces. It gathers nothing but a frame's first fields; content
//! is handed on as it comes. It refuses to know streams.

use nodetap_core::exchange::UnixMicros;

use super::flaw::Broken;

/// What a client's side begins with (RFC 9113 §3.4).
pub(in crate::tap) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload.
pub(super) const HEADER: u32 = 9;
/// The largest payload until the receiver allows a larger one.
const FIRST_MAX_FRAME: u32 = 16 * 1024;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored (§5.5).
    Unknown,
}

impl Kind {
    fn of(code: u8) -> Self {
        [
            Self::Data,
            Self::Headers,
            Self::Priority,
            Self::Reset,
            Self::Settings,
            Self::PushPromise,
            Self::Ping,
            Self::GoAway,
            Self::WindowUpdate,
            Self::Continuation,
        ]
        .get(usize::from(code))
        .copied()
        .unwrap_or(Self::Unknown)
    }

    /// Whether its content is a piece of a header block.
    pub(super) fn has_block(self) -> bool {
        matches!(self, Self::Headers | Self::PushPromise | Self::Continuation)
    }
}

/// One frame whose first fields are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Of the payload.
    pub(super) length: u32,
    /// The payload's fields before its content.
    prefix: [u8; 8],
    prefix_length: u32,
    /// Bytes of content: what stands between prefix and padding.
    pub(super) content: u32,
    pub(super) padding: u32,
    /// Its fields and its padding do not fit into it.
    pub(super) misfit: bool,
    /// When its first byte came.
    pub(super) began: UnixMicros,
}

impl Frame {
    fn new(header: [u8; 9], began: UnixMicros) -> Self {
        let [high, middle, low, code, flags, stream @ ..] = header;
        let (kind, length) = (Kind::of(code), u32::from_be_bytes([0, high, middle, low]));
        let padded = u32::from(flags & PADDED != 0);
        let wanted = match kind {
            Kind::Data => padded,
            Kind::Headers => padded + if flags & PRIORITY != 0 { 5 } else { 0 },
            Kind::PushPromise => padded + 4,
            Kind::Reset => 4,
            Kind::GoAway => 8,
            _ => 0,
        };
        Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            length,
            prefix: [0; 8],
            prefix_length: wanted.min(length),
            content: length - wanted.min(length),
            padding: 0,
            misfit: wanted > length,
            began,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of it before its content.
    pub(super) fn before_content(&self) -> u64 {
        u64::from(HEADER + self.prefix_length)
    }

    /// The 32 bits of its payload that begin at `at` bytes of its fields.
    pub(super) fn field(&self, at: usize) -> u32 {
        self.prefix.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |field| u32::from_be_bytes(*field))
    }

    /// Of a PUSH_PROMISE: the stream it promises.
    pub(super) fn promised(&self) -> u32 {
        self.field(usize::from(self.has(PADDED))) & 0x7fff_ffff
    }

    /// The prefix has come: what of the rest is padding?
    fn split(&mut self) {
        if self.has(PADDED) && matches!(self.kind, Kind::Data | Kind::Headers | Kind::PushPromise) {
            let padding = u32::from(self.prefix[0]);
            self.misfit |= padding > self.content;
            self.padding = padding.min(self.content);
            self.content -= self.padding;
        }
    }
}

/// What the next bytes were. Each frame is one `Begin`, pieces of content unless it has none, one `End`.
#[derive(Debug)]
pub(super) enum Read<'a> {
    Begin(Frame),
    Content(Frame, &'a [u8]),
    End(Frame),
}

#[derive(Debug)]
enum At {
    /// Bytes of the preface that have come.
    Preface(usize),
    Header,
    Prefix,
    Content,
    Padding,
}

/// The reader of one side.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    frame: Frame,
    /// Gathers the header, then the prefix.
    field: [u8; 9],
    have: usize,
    /// Bytes that are left of content, then of padding.
    left: u32,
    began: UnixMicros,
    max_frame: u32,
}

impl Frames {
    pub(super) fn new(preface: bool) -> Self {
        Self {
            at: if preface { At::Preface(0) } else { At::Header },
            frame: Frame::new([0; 9], 0),
            field: [0; 9],
            have: 0,
            left: 0,
            began: 0,
            max_frame: FIRST_MAX_FRAME,
        }
    }

    /// The receiver's SETTINGS_MAX_FRAME_SIZE. What it takes back is known to be taken back only later.
    pub(super) fn allow(&mut self, max_frame: u32) {
        self.max_frame = self.max_frame.max(max_frame);
    }

    /// The content that is being read: its frame, and how many bytes of it are left.
    pub(super) fn in_content(&self) -> Option<(&Frame, u32)> {
        matches!(self.at, At::Content).then_some((&self.frame, self.left))
    }

    /// Takes bytes of content that were not shown: at most as many as [`Self::in_content`] says.
    pub(super) fn skip(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count);
    }

    /// The preface has not come yet.
    pub(super) fn in_preface(&self) -> bool {
        matches!(self.at, At::Preface(_))
    }

    /// Reads on; `None` when `bytes` are used up.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8], now: UnixMicros) -> Result<Option<Read<'a>>, Broken> {
        loop {
            match self.at {
                At::Preface(seen) => {
                    let missing = PREFACE.get(seen..).unwrap_or_default();
                    let come = take(bytes, missing.len());
                    if !missing.starts_with(come) {
                        return Err(Broken::Preface);
                    }
                    if come.len() < missing.len() {
                        self.at = At::Preface(seen + come.len());
                        return Ok(None);
                    }
                    self.at = At::Header;
                }
                At::Header => {
                    if self.have == 0 {
                        self.began = now;
                    }
                    if !self.gather(bytes, 9) {
                        return Ok(None);
                    }
                    self.frame = Frame::new(self.field, self.began);
                    if self.frame.length > self.max_frame {
                        return Err(Broken::FrameSize);
                    }
                    self.at = At::Prefix;
                }
                At::Prefix => {
                    let length = self.frame.prefix_length as usize;
                    if !self.gather(bytes, length) {
                        return Ok(None);
                    }
                    self.frame.prefix.copy_from_slice(&self.field[..8]);
                    self.frame.split();
                    self.left = self.frame.content;
                    self.at = At::Content;
                    return Ok(Some(Read::Begin(self.frame)));
                }
                At::Content if self.left == 0 => {
                    self.left = self.frame.padding;
                    self.at = At::Padding;
                }
                At::Content => {
                    let piece = take(bytes, self.left as usize);
                    if piece.is_empty() {
                        return Ok(None);
                    }
                    // It is not longer than what is left.
                    self.left -= u32::try_from(piece.len()).unwrap_or(self.left);
                    return Ok(Some(Read::Content(self.frame, piece)));
                }
                At::Padding => {
                    let piece = take(bytes, self.left as usize);
                    self.left -= u32::try_from(piece.len()).unwrap_or(self.left);
                    if self.left > 0 {
                        return Ok(None);
                    }
                    self.at = At::Header;
                    return Ok(Some(Read::End(self.frame)));
                }
            }
        }
    }

    /// Whether `length` bytes have been gathered.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let piece = take(bytes, length - self.have);
        if let Some(place) = self.field.get_mut(self.have..self.have + piece.len()) {
            place.copy_from_slice(piece);
        }
        self.have += piece.len();
        let whole = self.have == length;
        if whole {
            self.have = 0;
        }
        whole
    }
}

/// Whether that may be how a server's first frame begins: SETTINGS without flags, of a plausible length.
pub(in crate::tap) fn begins_with_settings(bytes: &[u8]) -> bool {
    let length =
        bytes.first_chunk::<3>().map_or(0, |[high, middle, low]| u32::from_be_bytes([0, *high, *middle, *low]));
    let rest = bytes.get(3..9.min(bytes.len())).unwrap_or_default();
    bytes.first() == Some(&0)
        && length <= FIRST_MAX_FRAME
        && length.is_multiple_of(6)
        && [4, 0, 0, 0, 0, 0].starts_with(rest)
}

/// The first `length` bytes, or all there are.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (piece, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
    *bytes = rest;
    piece
}
