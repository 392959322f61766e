//! Records of version 1, in which a target had nothing but a name and peers had none: made into those of today before
//! they are decoded. Only what stands before the first difference is read.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::{CONNECTION_3, EXCHANGE_3, LOSS_2, MESSAGE_2};
use crate::exchange::{Connection, Direction, Process, Target, UnixMicros, Via};
use crate::ulid::Ulid;

const LOSS_1: u8 = 3;
const EXCHANGE_2: u8 = 4;
const CONNECTION_2: u8 = 5;
const MESSAGE_1: u8 = 6;

/// `Connection` as it was.
#[derive(Debug, Deserialize)]
struct Connection1 {
    id: Ulid,
    direction: Direction,
    via: Via,
    target: String,
    process: Option<Process>,
    client: SocketAddr,
    server: SocketAddr,
    accepted: UnixMicros,
}

impl From<Connection1> for Connection {
    fn from(old: Connection1) -> Self {
        let Connection1 { id, direction, via, target, process, client, server, accepted } = old;
        Self {
            id,
            direction,
            via,
            target: Target::command(target),
            container: None,
            process,
            client,
            client_name: None,
            server,
            server_name: None,
            accepted,
        }
    }
}

/// The same record as today's kind and payload; `None`: it is of today, or of no known kind.
pub(super) fn renewed(kind: u8, payload: &[u8]) -> Result<Option<(u8, Vec<u8>)>, postcard::Error> {
    let kind = match kind {
        LOSS_1 => {
            let (beginning, rest) = postcard::take_from_bytes::<(UnixMicros, UnixMicros, String)>(payload)?;
            let (time, until, target) = beginning;
            return Ok(Some((LOSS_2, joined(&(time, until, Target::command(target)), rest)?)));
        }
        EXCHANGE_2 => EXCHANGE_3,
        CONNECTION_2 => CONNECTION_3,
        MESSAGE_1 => MESSAGE_2,
        _ => return Ok(None),
    };
    let ((id, connection), rest) = postcard::take_from_bytes::<(Ulid, Connection1)>(payload)?;
    Ok(Some((kind, joined(&(id, Arc::new(Connection::from(connection))), rest)?)))
}

fn joined<T: serde::Serialize>(beginning: &T, rest: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let mut payload = postcard::to_stdvec(beginning)?;
    payload.extend_from_slice(rest);
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::super::{decode, key};
    use super::*;
    use crate::exchange::Event;
    use crate::samples;

    /// As version 1 encoded it.
    type Beginning1 = (Ulid, (Ulid, Direction, Via, String, Option<Process>, SocketAddr, SocketAddr, UnixMicros));

    fn beginning(id: Ulid, connection: &Connection) -> Vec<u8> {
        let Connection { direction, via, target, process, client, server, accepted, .. } = connection.clone();
        let connection = (connection.id, direction, via, target.name.clone(), process, client, server, accepted);
        let old: Beginning1 = (id, connection);
        postcard::to_stdvec(&old).unwrap()
    }

    #[test]
    fn what_version_1_wrote_is_read_as_it_was_meant() {
        let mut seen = 0;
        for event in samples::all() {
            let (kind, own, beginning_now, whole) = match &event {
                Event::Exchange(one) => {
                    let now = postcard::to_stdvec(&(one.id, &*one.connection)).unwrap();
                    (EXCHANGE_2, beginning(one.id, &one.connection), now, postcard::to_stdvec(one).unwrap())
                }
                Event::Connection(one) => {
                    let now = postcard::to_stdvec(&(one.id, &*one.connection)).unwrap();
                    (CONNECTION_2, beginning(one.id, &one.connection), now, postcard::to_stdvec(one).unwrap())
                }
                Event::Message(one) => {
                    let now = postcard::to_stdvec(&(one.id, &*one.connection)).unwrap();
                    (MESSAGE_1, beginning(one.id, &one.connection), now, postcard::to_stdvec(one).unwrap())
                }
                Event::Loss(one) => {
                    let old = postcard::to_stdvec(&(one.time, one.until, &one.target.name)).unwrap();
                    let now = postcard::to_stdvec(&(one.time, one.until, &*one.target)).unwrap();
                    (LOSS_1, old, now, postcard::to_stdvec(one).unwrap())
                }
            };
            if event == samples::of_pod().into() {
                continue;
            }
            let payload = [&own[..], &whole[beginning_now.len()..]].concat();
            assert_eq!(decode(kind, &payload).unwrap(), Some(event));
            assert!(key(kind, &payload).unwrap().is_some());
            seen += 1;
        }
        assert!(seen > 10);
    }

    #[test]
    fn what_ends_too_early_is_an_error() {
        for kind in [LOSS_1, EXCHANGE_2, CONNECTION_2, MESSAGE_1] {
            assert!(decode(kind, &[1]).is_err());
        }
    }
}
