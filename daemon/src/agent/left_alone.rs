//! What a pod's annotations say is not to be captured, at the listeners that the pod or its callers were told of: there
//! no hook looks, so that each connection is asked about when it is known where it goes.

use nodetap_core::exchange::{Connection, Direction};
use nodetap_proxy::dial::is_loopback;

use crate::capture::Ignore;

/// The rules of one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftAlone {
    /// Clients, and ports of the application.
    pub inbound: Ignore,
    /// Servers, and their ports.
    pub outbound: Ignore,
    /// What the pod calls in itself is captured.
    pub loopback: bool,
}

impl LeftAlone {
    /// Is this connection left alone?
    pub(super) fn covers(&self, connection: &Connection) -> bool {
        let Connection { client, server, .. } = connection;
        match connection.direction {
            // Who comes from loopback uses the listener because it was told to: a mesh's proxy, `kubectl port-forward`.
            Direction::Inbound => self.inbound.covers(client.ip(), server.port()),
            Direction::Outbound => {
                self.outbound.covers(server.ip(), server.port())
                    || !self.loopback && is_loopback(server.ip().to_canonical())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use nodetap_core::exchange::{Target, Via};
    use nodetap_core::ulid::UlidSource;

    use super::*;
    use crate::netlink::routes::Prefix;

    fn connection(direction: Direction, client: &str, server: &str) -> Connection {
        Connection {
            id: UlidSource::new(1).next(1),
            direction,
            via: Via::Reverse,
            target: Arc::clone(&Target::command("test")),
            container: None,
            process: None,
            client: client.parse().unwrap(),
            client_name: None,
            server: server.parse().unwrap(),
            server_name: None,
            accepted: 1,
        }
    }

    #[test]
    fn clients_count_inbound_and_servers_outbound() {
        let ignore = |address: &str, port| Ignore {
            prefixes: BTreeSet::from([Prefix::new(address.parse().unwrap(), 24)]),
            ports: BTreeSet::from([port]),
        };
        let alone = LeftAlone { inbound: ignore("10.1.1.0", 9), outbound: ignore("10.2.2.0", 25), loopback: false };
        let covers = |direction, client, server| alone.covers(&connection(direction, client, server));
        for (client, server, expected) in [
            ("10.1.1.5:9", "127.0.0.1:80", true),
            ("10.1.2.5:9", "127.0.0.1:80", false),
            ("10.1.2.5:1", "127.0.0.1:9", true),
            ("127.0.0.1:1", "127.0.0.1:80", false),
        ] {
            assert_eq!(covers(Direction::Inbound, client, server), expected, "{client} {server}");
        }
        for (server, expected) in [
            ("10.2.2.9:80", true),
            ("10.2.3.9:80", false),
            ("10.2.3.9:25", true),
            ("127.0.0.9:80", true),
            ("[::1]:80", true),
        ] {
            assert_eq!(covers(Direction::Outbound, "127.0.0.1:1", server), expected, "{server}");
        }
        let tracked = LeftAlone { loopback: true, ..alone.clone() };
        assert!(!tracked.covers(&connection(Direction::Outbound, "127.0.0.1:1", "127.0.0.1:80")));
    }
}
