//! The acceptor: one thread for all listeners. It asks where a connection goes and hands it to the next worker in
//! turn. It never reads from a connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::UnixMicros;
use nodetap_core::ulid::UlidSource;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use tokio::sync::mpsc;

use super::desk::Job;
use super::{PULSE, Shared};
use crate::steering::{Arrival, Stray};

/// Pause after an `accept()` that failed for want of descriptors or memory: the connections wait in the kernel.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken from one listener before the others get their turn.
const ACCEPTS_PER_TURN: u32 = 64;

/// The acceptor's thread, and the descriptor that ends it when written to.
#[derive(Debug)]
pub(super) struct Handle {
    thread: JoinHandle<()>,
    stop: Arc<OwnedFd>,
}

impl Handle {
    /// Ends it: its listeners are closed when this returns.
    pub(super) fn stop(self) {
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        // A panic of the acceptor was printed by the panic hook; there is nothing to add here.
        let _ = self.thread.join();
    }
}

pub(super) fn spawn(
    listeners: Vec<TcpListener>,
    queues: Vec<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    ids: UlidSource,
) -> io::Result<Handle> {
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let exhausted = false;
    let mut acceptor = Acceptor { listeners, queues, shared, next: 0, ids, exhausted, stop: Arc::clone(&stop) };
    let thread = std::thread::Builder::new().name("nodetap-accept".into()).spawn(move || acceptor.run())?;
    Ok(Handle { thread, stop })
}

struct Acceptor {
    listeners: Vec<TcpListener>,
    queues: Vec<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    next: usize,
    ids: UlidSource,
    /// The last accept() failed for want of descriptors or memory.
    exhausted: bool,
    stop: Arc<OwnedFd>,
}

impl Acceptor {
    fn run(&mut self) {
        loop {
            // While nothing can be accepted it gives no sign of life, and connections are no longer sent here.
            if !self.exhausted {
                self.shared.pulse(self.queues.len());
            }
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => return tracing::error!(%error, "cannot wait for connections"),
            };
            // Nothing waits to be accepted any more, so nothing fails to be.
            self.exhausted &= !ready.is_empty();
            for index in ready {
                if index == self.listeners.len() {
                    return;
                }
                self.accept_from(index);
            }
        }
    }

    /// The listeners that have something; the one after the last stands for "stop".
    fn wait(&self) -> io::Result<Vec<usize>> {
        let mut fds: Vec<_> = self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        fds.push(PollFd::new(&*self.stop, PollFlags::IN));
        let pulse = Timespec { tv_sec: 0, tv_nsec: i64::from(PULSE.subsec_nanos()) };
        match rustix::event::poll(&mut fds, Some(&pulse)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect())
    }

    fn accept_from(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(index) else { return };
            match accept(listener) {
                Ok((stream, client)) => {
                    self.exhausted = false;
                    self.dispatch(index, stream, client);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The kernel looks for a descriptor first: there is one again.
                    self.exhausted = false;
                    return;
                }
                Err(error) if is_exhausted(&error) => {
                    if !self.exhausted {
                        tracing::debug!(%error, "cannot accept: connections wait; raise the limit of open files");
                    }
                    self.exhausted = true;
                    std::thread::sleep(EXHAUSTED_PAUSE);
                    return;
                }
                // The client went away between its SYN and our accept().
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    fn dispatch(&mut self, listener: usize, stream: TcpStream, client: SocketAddr) {
        let (at, accepted) = (unix_micros(), Instant::now());
        let id = self.ids.next(at);
        let route = stream
            .local_addr()
            .map_err(|_| Stray("gone"))
            .and_then(|local| self.shared.settings.steering.route(&Arrival { listener, client, local, at, id }));
        let route = match route {
            Ok(route) => route,
            Err(Stray(reason)) => {
                self.shared.strays.fetch_add(1, Ordering::Relaxed);
                // Counted, and said at the end: a warning here would wait for whoever reads stderr.
                tracing::debug!(%client, reason, "a connection without a known destination was reset");
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
        };
        self.next = self.next.wrapping_add(1);
        if let Some(queue) = self.queues.get(self.next % self.queues.len()) {
            self.shared.open.fetch_add(1, Ordering::Relaxed);
            // A full queue makes new connections wait in the kernel, as they would for a busy server.
            if queue.blocking_send(Job { stream, route, accepted }).is_err() {
                self.shared.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// One system call: accepted, non-blocking, close-on-exec.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (fd, client) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    Ok((TcpStream::from(fd), client.ok_or(io::ErrorKind::Unsupported)?))
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].into_iter().any(|exhausted| errno == Some(exhausted))
}

/// The clock of records. Read once a connection; within it time goes on monotonically.
fn unix_micros() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
