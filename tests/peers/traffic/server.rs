//! A server with a thread for each connection.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

/// What is sent and read at once.
pub(crate) static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
const STACK: usize = 128 * 1024;
/// Connections that wait for accept(); the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Of a head without end only the last bytes are looked at.
const TAIL: usize = 64;

pub(crate) fn serve(port: u16) -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    socket.bind(&any.into())?;
    socket.listen(BACKLOG)?;
    println!("listening");
    for stream in TcpListener::from(socket).incoming() {
        let Ok(stream) = stream else { continue };
        // Who is refused a thread is refused an answer.
        drop(thread::Builder::new().stack_size(STACK).spawn(move || drop(answer(stream))));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 8 * 1024];
    let mut head = Vec::new();
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..count]);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            break;
        }
        head.drain(..head.len().saturating_sub(TAIL));
    }
    if head.starts_with(b"GET /endless ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")?;
        loop {
            stream.write_all(&PIECE)?;
        }
    }
    if head.starts_with(b"POST ") {
        let mut buffer = vec![0; PIECE.len()];
        while stream.read(&mut buffer)? > 0 {}
        return Ok(());
    }
    Ok(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?)
}
