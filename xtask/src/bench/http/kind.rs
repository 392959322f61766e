//! The rows of the bench: their names and what sets them apart. How they are started is known elsewhere.

use crate::bench::contest::Row;

/// What stands between client and server, in the table's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Kind {
    Direct,
    Nginx,
    Mitmdump,
    Proxy,
    ProxyRecording,
    RunInbound,
    RunFullDisk,
    RunUnread,
    RunOutbound,
}

impl Row for Kind {
    const ALL: &'static [Self] = &[
        Kind::Direct,
        Kind::Nginx,
        Kind::Mitmdump,
        Kind::Proxy,
        Kind::ProxyRecording,
        Kind::RunInbound,
        Kind::RunFullDisk,
        Kind::RunUnread,
        Kind::RunOutbound,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Nginx => "nginx proxy_pass",
            Kind::Mitmdump => "mitmdump -w",
            Kind::Proxy => "proxy --reverse, no records",
            Kind::ProxyRecording => "proxy --reverse, recording",
            Kind::RunInbound => "run inbound, undisturbed",
            Kind::RunFullDisk => "run inbound, full disk",
            Kind::RunUnread => "run inbound, sink that does not read",
            Kind::RunOutbound => "run outbound",
        }
    }

    fn needs_root(self) -> bool {
        matches!(self, Kind::RunInbound | Kind::RunFullDisk | Kind::RunUnread | Kind::RunOutbound)
    }
}

impl Kind {
    /// Whether the recorder is in trouble: only the latency at 16 connections is asked of it, and it has to lose records
    /// or lines.
    pub(super) fn is_disturbed(self) -> bool {
        matches!(self, Kind::RunFullDisk | Kind::RunUnread)
    }
}
