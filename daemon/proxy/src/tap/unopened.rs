//! Why TLS that was to be opened was not: one word for records and metrics, one sentence for people.

/// A fixed set, so that it can label a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The user wants this host left alone.
    Asked,
    /// The server's certificate does not verify against our roots: whether it is good is for the client to judge.
    UpstreamUnverified,
    /// The server asked for a client certificate, and we have none.
    ClientCertificateWanted,
    /// The server did not come to terms with us: an alert, a version or a suite that rustls will not speak.
    UpstreamUnsupported,
    /// The handshake with the server broke off or took too long.
    UpstreamFailed,
    /// The client offers nothing that we could answer (below TLS 1.2, no suite or signature in common).
    ClientUnsupported,
    /// The ClientHello did not come whole in time, or could not be read.
    HelloUnreadable,
    /// No certificate can be made for the server's name: it is none, or our authority has expired.
    NoCertificate,
    /// The client refused our certificate with an alert.
    ClientRejected,
    /// The client went away without a word, twice: that is how some refuse a certificate.
    ClientSilent,
}

impl Reason {
    /// As records and metrics name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::UpstreamUnverified => "upstream_unverified",
            Self::ClientCertificateWanted => "client_certificate_wanted",
            Self::UpstreamUnsupported => "upstream_unsupported",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientUnsupported => "client_unsupported",
            Self::HelloUnreadable => "hello_unreadable",
            Self::NoCertificate => "no_certificate",
            Self::ClientRejected => "client_rejected",
            Self::ClientSilent => "client_silent",
        }
    }

    /// One sentence for a record of a connection that was passed through.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Asked => "TLS that was not opened, as asked.",
            Self::UpstreamUnverified => "TLS that was not opened: the server's certificate does not verify.",
            Self::ClientCertificateWanted => "TLS that was not opened: the server wants a client certificate.",
            Self::UpstreamUnsupported => "TLS that was not opened: the server and nodetap have no TLS in common.",
            Self::UpstreamFailed => "TLS that was not opened: nodetap's own handshake with the server failed.",
            Self::ClientUnsupported => "TLS that was not opened: the client offers nothing that nodetap could answer.",
            Self::HelloUnreadable => "TLS that was not opened: its ClientHello could not be read.",
            Self::NoCertificate => "TLS that was not opened: nodetap can make no certificate for the server's name.",
            Self::ClientRejected => "TLS that was not opened: the client refused nodetap's certificate before.",
            Self::ClientSilent => "TLS that was not opened: the client went away twice when it was.",
        }
    }
}
