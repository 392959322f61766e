//! Into a namespace and back, on one thread.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespace that the reading thread is in.
pub(super) const CURRENT: &str = "/proc/thread-self/ns/net";

thread_local! {
    /// The namespace that this thread belongs in. Nobody but this module moves a thread, so it is opened once.
    static HOME: OnceCell<Rc<File>> = const { OnceCell::new() };
    static AWAY: Cell<bool> = const { Cell::new(false) };
}

/// Runs the closure in the namespace.
///
/// # Errors
/// When it cannot be entered, and those of the closure.
pub(super) fn within<T>(namespace: BorrowedFd<'_>, inside: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _stay = Stay::begin(namespace)?;
    inside()
}

/// The time in a foreign namespace; over when dropped.
#[derive(Debug)]
struct Stay {
    back: Rc<File>,
    was_away: bool,
}

impl Stay {
    fn begin(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let was_away = AWAY.get();
        // From within a foreign one the way back is not home, but there.
        let back = if was_away { Rc::new(File::open(CURRENT)?) } else { home()? };
        move_into(namespace)?;
        AWAY.set(true);
        Ok(Self { back, was_away })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Err(error) = move_into(self.back.as_fd()) {
            // Whatever this thread does next would happen in somebody's pod.
            eprintln!("nodetap: a thread cannot come back from a network namespace ({error}): the process ends");
            std::process::abort();
        }
        AWAY.set(self.was_away);
    }
}

fn home() -> io::Result<Rc<File>> {
    HOME.with(|home| {
        if let Some(file) = home.get() {
            return Ok(file.clone());
        }
        let file = Rc::new(File::open(CURRENT)?);
        Ok(home.get_or_init(|| file).clone())
    })
}

fn move_into(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}
