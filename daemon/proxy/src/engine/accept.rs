//! The acceptor: a part of one worker, for the listeners of all groups. It asks where a connection goes and hands it to
//! the next worker in turn; what falls to its own changes no thread (a thread of its own cost every connection two
//! switches). It never reads from a connection, and it waits for nobody: a group whose connections are not taken up
//! fast enough waits in the kernel's queues, and the others do not.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::UnixMicros;
use nodetap_core::ulid::UlidSource;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use super::desk::Job;
use super::doors::{Door, Woken};
use super::group::Seat;
use super::turns::TURN;
use super::{PULSE, Shared};
use crate::steering::{Arrival, Stray};

/// Pause after an `accept()` that failed for want of descriptors or memory: the connections wait in the kernel.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken from one listener, and from all listeners of one group, before the others get their turn.
const ACCEPTS_PER_TURN: u32 = 16;
const ACCEPTS_OF_GROUP: u32 = 32;
/// How soon a group that was backed up is looked at again.
const BACKED_UP_POLL: Duration = Duration::from_millis(1);

/// Accepts for all workers of an engine.
pub(super) struct Acceptor {
    /// Of all workers, its own too: while one is there, connections may come.
    queues: Vec<mpsc::UnboundedSender<Job>>,
    /// The worker that it is a part of.
    own: usize,
    shared: Arc<Shared>,
    /// Tells when a listener has something.
    doors: AsyncFd<OwnedFd>,
    /// Listeners that have something, of the last look.
    ready: VecDeque<u64>,
    next: usize,
    ids: UlidSource,
    /// The last accept() failed for want of descriptors or memory.
    exhausted: bool,
    /// Until when nothing is tried because of that.
    pause: Option<tokio::time::Instant>,
    /// Connections taken of each group since the last look.
    taken: HashMap<u64, u32>,
    /// Listeners that are not heard until the workers have caught up with their groups.
    muted: Vec<Arc<Door>>,
    pulse: Interval,
    recheck: Interval,
}

/// What there is to do for an [`Acceptor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Listeners have something.
    Some,
    /// It is over.
    Stop,
}

impl Acceptor {
    /// Of this worker, in whose runtime it is made.
    pub(super) fn new(
        queues: Vec<mpsc::UnboundedSender<Job>>,
        own: usize,
        shared: Arc<Shared>,
        ids: UlidSource,
    ) -> io::Result<Self> {
        let every = |period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Ok(Self {
            queues,
            own,
            doors: registered(shared.doors.descriptor()?)?,
            ready: VecDeque::new(),
            next: 0,
            ids,
            exhausted: false,
            pause: None,
            taken: HashMap::new(),
            muted: Vec::new(),
            pulse: every(PULSE),
            recheck: every(BACKED_UP_POLL),
            shared,
        })
    }

    /// Waits until there is something to do. May be cancelled.
    ///
    /// # Errors
    /// When listeners cannot be waited for any more.
    pub(super) async fn news(&mut self) -> io::Result<News> {
        loop {
            if let Some(end) = self.pause {
                sleep_until(end).await;
                self.pause = None;
            }
            if !self.ready.is_empty() {
                return Ok(News::Some);
            }
            tokio::select! {
                // The listeners last: they may have something always.
                biased;
                // Cancel-safe per docs on `tick` and `readable`.
                _ = self.pulse.tick() => {
                    // While nothing can be accepted it gives no sign of life, and connections are no longer sent here.
                    if !self.exhausted {
                        self.shared.pulse(self.queues.len());
                    }
                }
                _ = self.recheck.tick(), if !self.muted.is_empty() => self.unmute(),
                readable = self.doors.readable() => {
                    let mut readable = readable?;
                    match self.shared.doors.look()? {
                        Woken::Stop => return Ok(News::Stop),
                        Woken::By(numbers) if numbers.is_empty() => {
                            // Nothing waits to be accepted any more, so nothing fails to be.
                            self.exhausted = false;
                            readable.clear_ready();
                        }
                        Woken::By(numbers) => self.ready.extend(numbers),
                    }
                    self.taken.clear();
                }
            }
        }
    }

    /// Accepts what the listeners have that were ready at the last look, for no longer than a turn. What falls to its own
    /// worker is given to `keep`.
    pub(super) fn step(&mut self, mut keep: impl FnMut(Job)) {
        let began = Instant::now();
        while let Some(number) = self.ready.pop_front() {
            if let Some(door) = self.shared.doors.get(number) {
                self.accept_from(&door, &mut keep);
            }
            if self.exhausted {
                self.pause = Some(tokio::time::Instant::now() + EXHAUSTED_PAUSE);
                return self.ready.clear();
            }
            if began.elapsed() >= TURN {
                return;
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

    fn accept_from(&mut self, door: &Arc<Door>, keep: &mut impl FnMut(Job)) {
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
                    self.dispatch(door, stream, client, keep);
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

    fn dispatch(&mut self, door: &Door, stream: TcpStream, client: SocketAddr, keep: &mut impl FnMut(Job)) {
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
        let seat = Seat::take(&self.shared, group);
        let job = Job { stream, route, accepted, seat };
        self.next = (self.next + 1) % self.queues.len();
        match self.queues.get(self.next) {
            Some(queue) if self.next != self.own => {
                // Bounded all the same: by what a group may have waiting.
                let _ = queue.send(job);
            }
            _ => keep(job),
        }
    }
}

/// In the runtime of the thread that asks.
#[allow(unsafe_code, reason = "the runtime wants a promise that a descriptor stays what it is")]
fn registered(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is always the same descriptor, and is open until it is dropped, which what is made here does.
    Ok(unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }?)
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
