//! The two sides of a connection, and how what one of them sends comes to its end.

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
