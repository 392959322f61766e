//! The acceptor: one thread for the listeners of all groups. It asks where a connection goes and hands it to the next
//! worker in turn. It never reads from a connection, and it waits for nobody: a group whose connections are not taken
//! up fast enough waits in the kernel's queues, and the others do not.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::UnixMicros;
use nodetap_core::ulid::UlidSource;
use tokio::sync::mpsc;

use super::desk::Job;
use super::doors::{Door, Woken};
use super::group::Seat;
use super::{PULSE, Shared};
use crate::steering::{Arrival, Stray};

/// Pause after an `accept()` that failed for want of descriptors or memory: the connections wait in the kernel.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken from one listener, and from all listeners of one group, before the others get their turn.
const ACCEPTS_PER_TURN: u32 = 16;
const ACCEPTS_OF_GROUP: u32 = 32;
/// Listeners that are heard of at once; those beyond come with the next look.
const EVENTS: usize = 256;
/// How soon a group that was backed up is looked at again.
const BACKED_UP_POLL: Duration = Duration::from_millis(1);

pub(super) fn spawn(
    queues: Vec<mpsc::UnboundedSender<Job>>,
    shared: Arc<Shared>,
    ids: UlidSource,
) -> io::Result<JoinHandle<()>> {
    let mut acceptor =
        Acceptor { queues, shared, next: 0, ids, exhausted: false, muted: Vec::new(), taken: HashMap::new() };
    std::thread::Builder::new().name("nodetap-accept".into()).spawn(move || acceptor.run())
}

struct Acceptor {
    queues: Vec<mpsc::UnboundedSender<Job>>,
    shared: Arc<Shared>,
    next: usize,
    ids: UlidSource,
    /// The last accept() failed for want of descriptors or memory.
    exhausted: bool,
    /// Connections taken of each group in this turn.
    taken: HashMap<u64, u32>,
    /// Listeners that are not heard until the workers have caught up with their groups.
    muted: Vec<Arc<Door>>,
}

impl Acceptor {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            // While nothing can be accepted it gives no sign of life, and connections are no longer sent here.
            if !self.exhausted {
                self.shared.pulse(self.queues.len());
            }
            let limit = if self.muted.is_empty() { PULSE } else { BACKED_UP_POLL };
            let ready = match self.shared.doors.wait(&mut events, limit) {
                Ok(Woken::By(ready)) => ready,
                Ok(Woken::Stop) => return,
                Err(error) => return tracing::error!(%error, "cannot wait for connections"),
            };
            self.unmute();
            // Nothing waits to be accepted any more, so nothing fails to be.
            self.exhausted &= !ready.is_empty();
            self.taken.clear();
            for number in ready {
                if let Some(door) = self.shared.doors.get(number) {
                    self.accept_from(&door);
                }
                if self.exhausted {
                    std::thread::sleep(EXHAUSTED_PAUSE);
                    break;
                }
            }
        }
    }

    fn unmute(&mut self) {
        let doors = &self.shared.doors;
        self.muted.retain(|door| {
            let still = door.group.is_backed_up();
            if !still {
                doors.listen(door, true);
            }
            still
        });
    }

    fn accept_from(&mut self, door: &Arc<Door>) {
        for _ in 0..ACCEPTS_PER_TURN {
            if door.group.is_backed_up() {
                self.shared.doors.listen(door, false);
                self.muted.push(Arc::clone(door));
                return;
            }
            // What is left is still there at the next look.
            if self.taken.get(&door.group.id).is_some_and(|taken| *taken >= ACCEPTS_OF_GROUP) {
                return;
            }
            let listener = door.lock();
            let Some(listener) = &*listener else { return };
            match accept(listener) {
                Ok((stream, client)) => {
                    self.exhausted = false;
                    *self.taken.entry(door.group.id).or_default() += 1;
                    self.dispatch(door, stream, client);
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
                    return;
                }
                // The client went away between its SYN and our accept().
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    fn dispatch(&mut self, door: &Door, stream: TcpStream, client: SocketAddr) {
        let group = &door.group;
        if !group.has_room() {
            group.refuse();
            return reset(&stream);
        }
        let (at, accepted) = (unix_micros(), Instant::now());
        let id = self.ids.next(at);
        let route = stream
            .local_addr()
            .map_err(|_| Stray("gone"))
            .and_then(|local| group.steering.route(&Arrival { listener: door.index, client, local, at, id }));
        let route = match route {
            Ok(route) => route,
            Err(Stray(reason)) => {
                group.stray();
                // Counted, and said at the end: a warning here would wait for whoever reads stderr.
                tracing::debug!(%client, reason, "a connection without a known destination was reset");
                return reset(&stream);
            }
        };
        self.next = self.next.wrapping_add(1);
        if let Some(queue) = self.queues.get(self.next % self.queues.len()) {
            let seat = Seat::take(&self.shared, group);
            // Bounded all the same: by what a group may have waiting.
            let _ = queue.send(Job { stream, route, accepted, seat });
        }
    }
}

/// Dropped next, it is closed with RST.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
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
