//! The protocol of a Service's port, as Istio reads it: what a Sidecar of ours has to repeat, or Envoy treats the port in
//! another way than before.

use std::fmt;

/// As a Sidecar writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Nobody says it: Envoy looks at the first bytes.
    Unsaid,
    Known(&'static str),
}

/// Everything that Istio knows by name, besides `UDP`.
const KNOWN: [&str; 11] =
    ["TCP", "GRPC", "GRPC-Web", "HTTP", "HTTP_PROXY", "HTTP2", "HTTPS", "TLS", "Mongo", "Redis", "MySQL"];
/// Ports on which servers speak first: SMTP, DNS, MySQL, MongoDB. Their number is that of the Service's port.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Of a Service's TCP port.
    pub fn of(port: u16, name: &str, app_protocol: Option<&str>) -> Self {
        match app_protocol {
            // These three mean nothing in a name.
            Some("kubernetes.io/h2c") => return Self::Known("HTTP2"),
            Some("kubernetes.io/ws") => return Self::Known("HTTP"),
            Some("kubernetes.io/wss") => return Self::Known("HTTPS"),
            _ => {}
        }
        let name = app_protocol.unwrap_or(name);
        let web = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web"));
        let word = if web { "grpc-web" } else { name.split('-').next().unwrap_or_default() };
        match Self::named(word) {
            Self::Unsaid if SERVER_FIRST.contains(&port) => Self::Known("TCP"),
            named => named,
        }
    }

    /// By the word that a Sidecar or a ServiceEntry has for it.
    pub fn named(word: &str) -> Self {
        KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(word)).map_or(Self::Unsaid, Self::Known)
    }

    /// Empty when nobody says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::Known(word) => word,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_the_protocol_that_istio_reads_from_it() {
        for (port, name, app, expected) in [
            (80, "http", None, "HTTP"),
            (80, "http-web", None, "HTTP"),
            (80, "HTTP2-x", None, "HTTP2"),
            (80, "grpc-web-x", None, "GRPC-Web"),
            (80, "gRPC-Webby", None, "GRPC-Web"),
            (80, "grpc", None, "GRPC"),
            (80, "tcp-other", None, "TCP"),
            (80, "web", None, ""),
            (80, "", None, ""),
            (3306, "", None, "TCP"),
            (3306, "db", None, "TCP"),
            (3306, "mysql", None, "MySQL"),
            (25, "http", None, "HTTP"),
            // What is said wins over the name, also when it is not understood.
            (80, "http", Some("kubernetes.io/h2c"), "HTTP2"),
            (80, "tcp", Some("kubernetes.io/ws"), "HTTP"),
            (80, "tcp", Some("kubernetes.io/wss"), "HTTPS"),
            (80, "http", Some("example.com/mine"), ""),
            (80, "http", Some("https"), "HTTPS"),
            (80, "kubernetes.io/h2c", None, ""),
            (80, "ä", None, ""),
        ] {
            assert_eq!(Protocol::of(port, name, app).word(), expected, "{port} {name} {app:?}");
        }
    }
}
