//! One agent at a time has the node: a lock that dies with whoever holds it, and can be handed over without being let
//! go; and a socket at which a successor asks for it. Both lie in a folder that the agents of one node share.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use crate::agent::wire::{Channel, Message};

const LOCK: &str = "lock";
const SOCKET: &str = "keeper.sock";

/// The place where agents meet.
#[derive(Debug)]
pub(super) struct Node {
    lock: PathBuf,
    socket: PathBuf,
    /// The lock, while it is ours.
    held: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

impl Node {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        // Whoever may connect here gets every listener of the node.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self { lock: directory.join(LOCK), socket: directory.join(SOCKET), held: None, listener: None })
    }

    /// Is the node ours, now or already?
    pub(super) fn try_lock(&mut self) -> io::Result<bool> {
        if self.held.is_some() {
            return Ok(true);
        }
        let file: File = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.take(file.into()).map(|()| true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The lock is ours: successors may ask here.
    pub(super) fn take(&mut self, lock: OwnedFd) -> io::Result<()> {
        self.held = Some(lock);
        let listener = seqpacket(SocketFlags::NONBLOCK)?;
        // What lies there is of somebody who had the lock before us.
        let _ = fs::remove_file(&self.socket);
        bind(&listener, &SocketAddrUnix::new(&self.socket)?)?;
        listen(&listener, 4)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Gives the lock out of our hands, without letting it go.
    pub(super) fn leave(&mut self) -> Option<OwnedFd> {
        self.listener = None;
        self.held.take()
    }

    pub(super) fn listener(&self) -> Option<&OwnedFd> {
        self.listener.as_ref()
    }

    /// Somebody who asks.
    pub(super) fn accept(&self) -> Option<Channel> {
        let socket = accept_with(self.listener.as_ref()?, SocketFlags::CLOEXEC).ok()?;
        Some(Channel::over(socket))
    }

    /// Asks whoever has it; `None`: nobody is there.
    pub(super) fn ask(&self) -> Option<Channel> {
        let socket = seqpacket(SocketFlags::empty()).ok()?;
        connect(&socket, &SocketAddrUnix::new(&self.socket).ok()?).ok()?;
        let channel = Channel::over(socket);
        channel.send(&Message::Succeed, None).ok()?;
        Some(channel)
    }
}

fn seqpacket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_changes_hands_without_being_free_and_dies_with_its_holder() {
        let home = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (Node::new(home.path()).unwrap(), Node::new(home.path()).unwrap());
        let mut third = Node::new(home.path()).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        let asked = second.ask().unwrap();
        let heard = first.accept().unwrap();
        assert_eq!(heard.receive().unwrap().unwrap().0, Message::Succeed);
        let lock = first.leave().unwrap();
        heard.send(&Message::Lock, Some(std::os::fd::AsFd::as_fd(&lock))).unwrap();
        drop(lock);
        assert!(!third.try_lock().unwrap());
        let (message, fd) = asked.receive().unwrap().unwrap();
        assert_eq!(message, Message::Lock);
        second.take(fd.unwrap()).unwrap();
        drop((first, heard, asked));
        assert!(!third.try_lock().unwrap());
        drop(second);
        assert!(third.try_lock().unwrap());
    }
}
