//! The resolver's sockets: made by [`Sockets`], connected and bound here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use socket2::{Domain, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::sockets::Sockets;

/// How long a name server may take to accept a connection when the resolver does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hickory's tokio, but for where sockets are made.
#[derive(Clone)]
pub(super) struct Wires {
    sockets: Arc<dyn Sockets>,
    handle: TokioHandle,
}

impl Wires {
    pub(super) fn of(sockets: &Arc<dyn Sockets>) -> Self {
        Self { sockets: Arc::clone(sockets), handle: TokioHandle::default() }
    }
}

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Wires {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    fn connect_tcp(&self, server: SocketAddr, bind: Option<SocketAddr>, wait: Option<Duration>) -> Opening<Self::Tcp> {
        let sockets = Arc::clone(&self.sockets);
        Box::pin(async move {
            let socket = sockets.make(Domain::for_address(server), Type::STREAM)?;
            if let Some(bind) = bind {
                socket.bind(&bind.into())?;
            }
            socket.set_tcp_nodelay(true)?;
            let connecting = TcpSocket::from_std_stream(socket.into()).connect(server);
            let connected = timeout(wait.unwrap_or(PATIENCE), connecting).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> Opening<Self::Udp> {
        let sockets = Arc::clone(&self.sockets);
        Box::pin(async move {
            let socket = sockets.make(Domain::for_address(local), Type::DGRAM)?;
            socket.bind(&local.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}
