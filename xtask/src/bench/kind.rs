//! The rows of the bench: their names and what sets them apart. How they are started is known elsewhere.

/// What stands between client and server, in the table's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
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

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
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

    /// As it stands in the table.
    pub(crate) fn name(self) -> &'static str {
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

    /// Whether it is `nodetap run`, which needs root.
    pub(crate) fn is_run(self) -> bool {
        matches!(self, Kind::RunInbound | Kind::RunFullDisk | Kind::RunUnread | Kind::RunOutbound)
    }

    /// Whether the recorder is in trouble: only the latency at 16 connections is asked of it, and it has to lose records
    /// or lines.
    pub(crate) fn is_disturbed(self) -> bool {
        matches!(self, Kind::RunFullDisk | Kind::RunUnread)
    }
}
