//! The listeners of all groups, and what tells which of them have something: opened and closed by whoever serves a
//! group, while the acceptor waits for them.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::group::State;

/// What stands for "end" where listeners have their number.
const STOP: u64 = 0;
/// Listeners that are heard of at once; those beyond come with the next look.
const EVENTS: usize = 256;

/// A listener of a group.
#[derive(Debug)]
pub(super) struct Door {
    number: u64,
    /// Its place in the group's list.
    pub(super) index: usize,
    pub(super) group: Arc<State>,
    /// `None`: it was closed. Locked by the acceptor for the length of its turn: who closes it waits for that, and
    /// knows then that nothing more comes of it.
    listener: Mutex<Option<TcpListener>>,
}

impl Door {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Doors {
    epoll: OwnedFd,
    stop: OwnedFd,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Door>>>,
}

/// What [`Doors::look`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// These have something, perhaps none of them.
    By(Vec<u64>),
    /// It is over.
    Stop,
}

impl Doors {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll, stop, next: AtomicU64::new(STOP + 1), open: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Door>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives its number.
    pub(super) fn open(&self, listener: TcpListener, index: usize, group: &Arc<State>) -> io::Result<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let door = Arc::new(Door { number, index, group: Arc::clone(group), listener: Mutex::new(Some(listener)) });
        self.all().insert(number, Arc::clone(&door));
        let added = match &*door.lock() {
            Some(listener) => epoll::add(&self.epoll, listener, EventData::new_u64(number), EventFlags::IN),
            None => Ok(()),
        };
        if let Err(errno) = added {
            self.all().remove(&number);
            return Err(errno.into());
        }
        Ok(number)
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Door>> {
        self.all().get(&number).cloned()
    }

    /// Nothing is accepted there any more when this returns.
    pub(super) fn close(&self, number: u64) {
        let door = self.all().remove(&number);
        if let Some(listener) = door.and_then(|door| door.lock().take()) {
            // Somebody else may hold the socket too, and then closing it alone would not end the events.
            let _ = epoll::delete(&self.epoll, &listener);
        }
    }

    /// Whether its events are wanted. A door that is closed meanwhile has none.
    pub(super) fn listen(&self, door: &Door, wanted: bool) {
        let flags = if wanted { EventFlags::IN } else { EventFlags::empty() };
        if let Some(listener) = &*door.lock()
            && let Err(error) = epoll::modify(&self.epoll, listener, EventData::new_u64(door.number), flags)
        {
            tracing::warn!(%error, "cannot change what is waited for at a listener");
        }
    }

    /// A descriptor that is readable while [`Doors::look`] gives something.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Those that have something now.
    pub(super) fn look(&self) -> io::Result<Woken> {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok((events, _)) => &*events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(errno) => return Err(errno.into()),
        };
        let numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        Ok(if numbers.contains(&STOP) { Woken::Stop } else { Woken::By(numbers) })
    }

    /// Ends the acceptor.
    pub(super) fn stop(&self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// Closes all of them.
    pub(super) fn close_all(&self) {
        let numbers: Vec<u64> = self.all().keys().copied().collect();
        for number in numbers {
            self.close(number);
        }
    }
}
