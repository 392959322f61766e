//! Taps: parsers that are shown the bytes of a tunnel *after* they were sent on, and make records of them. A tap has
//! no I/O, no clock and no way to touch the traffic; its memory is bounded by [`Limits`]. What it cannot understand
//! or finds ambiguous makes it say so in the record and go blind for the rest of the connection.



/// Who sent the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Downstream: the one who opened the connection.
    Client,
    /// Upstream: the one who was called.
    Server,
}

impl Side {
    /// Whom the bytes go to.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How a direction of the tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// An orderly FIN; the other direction may go on.
    Fin,
    /// RST, or an I/O error on that side's socket: both directions are over.
    Reset,
    /// We ended it ourselves (shutdown of the daemon, drain deadline): both directions are over.
    Cut,
}

/// Bounds of one tap's memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes kept of each body.
    pub body: usize,
    /// Bytes of one head (or trailer section, or chunk header line) before the tap goes blind.
    pub head: usize,
    /// Requests waiting for their response on one connection (pipelining) before the tap goes blind.
    pub pipeline: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 256 * 1024, head: 256 * 1024, pipeline: 128 }
    }
}
pub struct Tap {}
impl Tap {
    pub fn new(_c: std::sync::Arc<nodetap_core::exchange::Connection>, _t: Option<u64>, _l: Limits) -> Self { Self {} }
    pub fn observe(&mut self, _f: Side, _b: &[u8], _n: u64, _i: &mut nodetap_core::ulid::UlidSource, _o: &mut Vec<nodetap_core::exchange::Event>) {}
    pub fn ended(&mut self, _f: Side, _b: End, _n: u64, _i: &mut nodetap_core::ulid::UlidSource, _o: &mut Vec<nodetap_core::exchange::Event>) {}
    pub fn finish(&mut self, _n: u64, _i: &mut nodetap_core::ulid::UlidSource, _o: &mut Vec<nodetap_core::exchange::Event>) {}
}
