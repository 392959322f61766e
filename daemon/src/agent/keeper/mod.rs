//! The keeper: a process of its own that holds what must not be lost (listening sockets that pods were told to use),
//! replaces a worker that died or hangs, and hands everything to the agent that comes after it. It is small, has one
//! thread, parses nothing that comes from a pod, and so hardly ever dies. [`state`] decides, [`node`] is the lock and the
//! socket through which one agent finds the next; here it is done.

mod node;
mod state;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use self::node::Node;
use self::state::{Event, Order, State};
use super::wire::{Channel, Gap, Message};

/// How often it looks whether the worker still gives signs of life.
const TICK: Duration = Duration::from_millis(100);
/// How often the last sign of life is noted.
const NOTE: Duration = Duration::from_millis(500);
/// What the note is called.
const ALIVE: &str = "alive";

/// What the keeper is told.
#[derive(Debug)]
pub(super) struct Settings {
    /// A folder that the agents of this node share, in memory rather than on disk.
    pub directory: PathBuf,
    /// For what is open at the end.
    pub grace: Duration,
    /// The option that makes this program a worker.
    pub worker_option: &'static str,
}

/// Keeps until it is told to end.
///
/// # Errors
/// When the folder cannot be used or no worker can be started.
pub(super) fn keep(settings: &Settings) -> io::Result<()> {
    fs::create_dir_all(&settings.directory)?;
    let (mut terminate, mut child_ended) = (signal(&[SIGTERM, SIGINT])?, signal(&[SIGCHLD])?);
    let note = settings.directory.join(ALIVE);
    let before = fs::read_to_string(&note).ok().and_then(|text| Gap::decode(&text));
    let mut keeper = Keeper {
        state: State::new(before, settings.grace),
        node: Node::new(&settings.directory)?,
        note,
        noted: None,
        worker: None,
        successor: None,
        predecessor: None,
        worker_option: settings.worker_option,
        over: false,
    };
    keeper.step(Event::Tick)?;
    let locked = keeper.node.try_lock()?;
    keeper.step(Event::Locked(locked))?;
    while !keeper.over {
        let ready = keeper.wait(&terminate, &child_ended)?;
        if ready.terminate {
            drain(&mut terminate);
            keeper.step(Event::Terminate)?;
        }
        if ready.child {
            drain(&mut child_ended);
        }
        if ready.worker {
            keeper.hear_worker()?;
        }
        if ready.predecessor {
            keeper.hear_predecessor()?;
        }
        if ready.successor {
            keeper.hear_successor()?;
        }
        if ready.caller
            && let Some(channel) = keeper.node.accept()
        {
            keeper.successor = Some(channel);
            keeper.step(Event::Successor)?;
        }
        keeper.reap()?;
        keeper.step(Event::Tick)?;
    }
    Ok(())
}

/// Readable once the signal came.
fn signal(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

fn drain(stream: &mut UnixStream) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one for each descriptor that poll() is asked about")]
struct Ready {
    terminate: bool,
    child: bool,
    worker: bool,
    predecessor: bool,
    successor: bool,
    caller: bool,
}

struct Keeper {
    state: State<OwnedFd>,
    node: Node,
    note: PathBuf,
    noted: Option<Instant>,
    worker: Option<(Child, Channel)>,
    successor: Option<Channel>,
    predecessor: Option<Channel>,
    worker_option: &'static str,
    over: bool,
}

impl Keeper {
    fn wait(&self, terminate: &UnixStream, child_ended: &UnixStream) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(terminate, PollFlags::IN), PollFd::new(child_ended, PollFlags::IN)];
        let worker = self.worker.as_ref().map(|(_, channel)| channel);
        let channels = [worker, self.predecessor.as_ref(), self.successor.as_ref()];
        let mut places = [None; 4];
        for (place, channel) in places.iter_mut().zip(channels) {
            if let Some(channel) = channel {
                *place = Some(fds.len());
                fds.push(PollFd::new(channel, PollFlags::IN));
            }
        }
        if let (Some(listener), [.., place]) = (self.node.listener(), &mut places) {
            *place = Some(fds.len());
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        match poll(&mut fds, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let [worker, predecessor, successor, caller] = places.map(|place| place.is_some_and(is_ready));
        Ok(Ready { terminate: is_ready(0), child: is_ready(1), worker, predecessor, successor, caller })
    }

    fn hear_worker(&mut self) -> io::Result<()> {
        let Some((_, channel)) = &self.worker else { return Ok(()) };
        match channel.receive() {
            Ok(Some((message, fd))) => self.step(Event::Worker(message, fd)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                say("a message of the worker is none that is known");
                Ok(())
            }
            // It closed its end: it has ended, or will be made to.
            Ok(None) | Err(_) => self.kill("it hung up"),
        }
    }

    fn hear_predecessor(&mut self) -> io::Result<()> {
        match self.predecessor.as_ref().map(Channel::receive) {
            Some(Ok(Some((message, fd)))) => self.step(Event::Predecessor(message, fd)),
            Some(_) => {
                self.predecessor = None;
                self.step(Event::PredecessorGone)
            }
            None => Ok(()),
        }
    }

    /// It says nothing after it has asked; what is heard is its end.
    fn hear_successor(&mut self) -> io::Result<()> {
        if !matches!(self.successor.as_ref().map(Channel::receive), Some(Ok(Some(_)))) {
            self.successor = None;
            return self.step(Event::SuccessorGone);
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        let Some((child, _)) = &mut self.worker else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        // What it said last counts: it may have told that it drained.
        let (_, channel) = match self.worker.take() {
            Some(worker) => worker,
            None => return Ok(()),
        };
        while let Ok(Some((message, fd))) = channel.receive() {
            self.step(Event::Worker(message, fd))?;
        }
        if !self.over {
            say(&format!("the worker has ended: {status}"));
        }
        self.step(Event::WorkerGone)
    }

    fn kill(&mut self, why: &str) -> io::Result<()> {
        if let Some((child, _)) = &mut self.worker {
            say(&format!("the worker is killed: {why}"));
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.reap()
    }

    fn step(&mut self, event: Event<OwnedFd>) -> io::Result<()> {
        for order in self.state.step(event, Instant::now(), unix_micros()) {
            self.carry_out(order)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, order: Order<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Spawn => self.worker = Some(spawn(self.worker_option)?),
            Order::Kill(why) => self.kill(why)?,
            Order::ToWorker(message) => self.tell_worker(&message),
            Order::Lend(name) => {
                if let (Some((_, channel)), Some(fd)) = (&self.worker, self.state.held(&name)) {
                    told("the worker", channel.send(&Message::Hold(name), Some(fd.as_fd())));
                }
            }
            Order::Give(name, fd) => self.tell_successor(&Message::Hold(name), Some(&fd)),
            Order::ToSuccessor(message) => self.tell_successor(&message, None),
            Order::GiveLock => {
                if let Some(lock) = self.node.leave() {
                    self.tell_successor(&Message::Lock, Some(&lock));
                }
            }
            Order::Refuse => self.successor = None,
            Order::TakeLock(fd) => self.node.take(fd)?,
            Order::TryLock => {
                if self.node.try_lock()? {
                    self.step(Event::Locked(true))?;
                }
            }
            Order::Ask if self.predecessor.is_none() => {
                if let Some(channel) = self.node.ask() {
                    self.predecessor = Some(channel);
                    self.state.asked(Instant::now());
                }
            }
            Order::Ask => {}
            Order::Note(gap) => self.take_note(gap),
            Order::Exit => self.over = true,
        }
        Ok(())
    }

    fn tell_worker(&self, message: &Message) {
        if let Some((_, channel)) = &self.worker {
            told("the worker", channel.send(message, None));
        }
    }

    fn tell_successor(&self, message: &Message, fd: Option<&OwnedFd>) {
        if let Some(channel) = &self.successor {
            told("the successor", channel.send(message, fd.map(|fd| fd.as_fd())));
        }
    }

    fn take_note(&mut self, gap: Option<Gap>) {
        let done = match gap {
            None => {
                self.noted = None;
                match fs::remove_file(&self.note) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                }
            }
            Some(gap) if self.noted.is_none_or(|noted| noted.elapsed() >= NOTE) => {
                self.noted = Some(Instant::now());
                fs::write(&self.note, gap.encode())
            }
            Some(_) => Ok(()),
        };
        told("the note of the last sign of life", done);
    }
}

/// This very program, as a worker.
fn spawn(worker_option: &str) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).arg(worker_option);
    // Nothing reads its input, and this way no descriptor has to outlive exec() by a number.
    let child = command.stdin(Stdio::from(theirs)).spawn()?;
    Ok((child, ours))
}

/// Whoever does not listen is gone, or soon will be: that is told by an event.
fn told(whom: &str, result: io::Result<()>) {
    if let Err(error) = result {
        say(&format!("{whom}: {error}"));
    }
}

fn say(text: &str) {
    tracing::warn!(process = "keeper", "{text}");
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
