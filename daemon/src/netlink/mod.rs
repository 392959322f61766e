//! What the kernel tells about this network namespace: its addresses, its routes and its sockets. It refuses to know
//! what they are used for.

pub mod addresses;
pub mod connections;
pub mod listeners;
pub mod routes;
mod sockets;

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Messages of one dump; a kernel that sends more is cut off with an error.
const MESSAGES: usize = 1_000_000;

/// Asks for everything of one kind and waits for the end of the answer.
///
/// # Errors
/// What the kernel answers, or `InvalidData` when it cannot be understood.
fn dump<M>(protocol: isize, request: M, mut each: impl FnMut(M)) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
{
    let socket = send(protocol, request, NLM_F_REQUEST | NLM_F_DUMP)?;
    for _ in 0..MESSAGES {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are aligned to 4 bytes (netlink(7), NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => each(inner),
                _ => {}
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer does not end"))
}

/// Asks for one thing.
///
/// # Errors
/// What the kernel answers, or `InvalidData` when it cannot be understood.
fn ask<M>(protocol: isize, request: M) -> io::Result<M>
where
    M: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
{
    let socket = send(protocol, request, NLM_F_REQUEST)?;
    let (datagram, _) = socket.recv_from_full()?;
    let message = NetlinkMessage::<M>::deserialize(&datagram)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Orders one thing and waits until it is done.
///
/// # Errors
/// What the kernel answers.
fn order<M>(protocol: isize, request: M) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
{
    let socket = send(protocol, request, NLM_F_REQUEST | NLM_F_ACK)?;
    let (datagram, _) = socket.recv_from_full()?;
    let message = NetlinkMessage::<M>::deserialize(&datagram)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match message.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

fn send<M: NetlinkSerializable>(protocol: isize, request: M, flags: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(socket)
}
