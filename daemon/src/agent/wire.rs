//! What keeper and worker, and a keeper and its successor, say to each other: one packet a message, in words, at most one
//! descriptor with each. It refuses to know what anybody does about it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Bytes of a message: a name and a word.
const PACKET: usize = 1024;
/// Bytes of a name, at most.
const NAME: usize = 512;

/// Since when nothing was captured on this node, and what was under way then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Microseconds since 1970.
    pub since: u64,
    /// Connections that were open, and were cut.
    pub cut: u64,
    /// It was handed over: nobody died.
    pub planned: bool,
}

/// The messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// To the worker, to a successor: this descriptor goes by this name. From the worker: keep it.
    Hold(String),
    /// From the worker: no longer.
    Release(String),
    /// From the worker: it could begin.
    Prepared,
    /// To the worker: the node is ours, and everything that is kept was told.
    Begin(Option<Gap>),
    /// From the worker: it runs, and so many connections are open.
    Beat(u64),
    /// To the worker: a successor takes over. Steer and accept no more; what is open goes on.
    Yield,
    /// From the worker: it is so.
    Yielded,
    /// To the worker: end when what is open has ended, or after so many seconds.
    Drain(u64),
    /// From the worker: it ends, everything is written.
    Drained,
    /// To a keeper: hand over.
    Succeed,
    /// To a successor: the lock of the node.
    Lock,
    /// To a successor: that was all.
    Handed(Gap),
}

impl Message {
    fn encode(&self) -> String {
        match self {
            Self::Hold(name) => format!("hold {name}"),
            Self::Release(name) => format!("release {name}"),
            Self::Prepared => "prepared".into(),
            Self::Begin(None) => "begin".into(),
            Self::Begin(Some(gap)) => format!("begin {}", gap.encode()),
            Self::Beat(open) => format!("beat {open}"),
            Self::Yield => "yield".into(),
            Self::Yielded => "yielded".into(),
            Self::Drain(seconds) => format!("drain {seconds}"),
            Self::Drained => "drained".into(),
            Self::Succeed => "succeed".into(),
            Self::Lock => "lock".into(),
            Self::Handed(gap) => format!("handed {}", gap.encode()),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let name = || (!rest.is_empty() && rest.len() <= NAME).then(|| rest.to_owned());
        Some(match word {
            "hold" => Self::Hold(name()?),
            "release" => Self::Release(name()?),
            "prepared" => Self::Prepared,
            "begin" if rest.is_empty() => Self::Begin(None),
            "begin" => Self::Begin(Some(Gap::decode(rest)?)),
            "beat" => Self::Beat(rest.parse().ok()?),
            "yield" => Self::Yield,
            "yielded" => Self::Yielded,
            "drain" => Self::Drain(rest.parse().ok()?),
            "drained" => Self::Drained,
            "succeed" => Self::Succeed,
            "lock" => Self::Lock,
            "handed" => Self::Handed(Gap::decode(rest)?),
            _ => return None,
        })
    }
}

impl Gap {
    pub(super) fn encode(&self) -> String {
        format!("{} {} {}", self.since, self.cut, u8::from(self.planned))
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(Self { since: number()?, cut: number()?, planned: number()? != 0 })
    }
}

/// One end of a connection that keeps messages apart.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Two ends. The second one outlives exec().
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
        Ok((Self(ours), theirs))
    }

    /// Over a socket that is connected.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Says it, with a descriptor or without.
    pub(super) fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let text = message.encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the next one; `None`: the other end is gone.
    ///
    /// # Errors
    /// `InvalidData` for what is no message; `WouldBlock` where nothing waits and the socket does not.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = [0; PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = loop {
            match recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                // A peer that was killed with messages of ours unread.
                Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => return Ok(None),
                other => break other?,
            }
        };
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        let text = bytes.get(..received.bytes).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let message = text.and_then(Message::decode);
        message.map(|message| Some((message, fd))).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn every_message_arrives_as_it_was_said() {
        let gap = Gap { since: 7, cut: 3, planned: true };
        for message in [
            Message::Hold("uid/4026/127.0.0.1:4140".into()),
            Message::Release("x".into()),
            Message::Prepared,
            Message::Begin(None),
            Message::Begin(Some(gap)),
            Message::Beat(9),
            Message::Yield,
            Message::Yielded,
            Message::Drain(50),
            Message::Drained,
            Message::Succeed,
            Message::Lock,
            Message::Handed(gap),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for garbage in ["", "hold", "hold ", "beat x", "handed 1 2", "begin 1"] {
            assert_eq!(Message::decode(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn a_listener_is_passed_with_what_waits_in_its_queue() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::over(theirs);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"early").unwrap();
        ours.send(&Message::Hold("l".into()), Some(listener.as_fd())).unwrap();
        drop(listener);
        let (message, fd) = theirs.receive().unwrap().unwrap();
        assert_eq!(message, Message::Hold("l".into()));
        let (mut accepted, _) = TcpListener::from(fd.unwrap()).accept().unwrap();
        let mut word = [0; 5];
        accepted.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"early");
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
    }
}
