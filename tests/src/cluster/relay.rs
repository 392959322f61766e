//! A port on the test's own loopback address that leads to an address in a machine's network, for clients that are not on
//! the machine.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;

use super::host::dial;

/// It ends with the process: what it leads to ends before.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
}

impl Relay {
    /// Listens, and leads every connection to `to` in a network namespace.
    pub(super) fn start(netns: PathBuf, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let netns = netns.clone();
                thread::spawn(move || drop(lead(stream, &netns, to)));
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn lead(mut near: TcpStream, netns: &Path, to: SocketAddr) -> Result<()> {
    let mut far = dial(netns, to)?;
    far.set_read_timeout(None)?;
    let (mut back, mut forth) = (far.try_clone()?, near.try_clone()?);
    let answering = thread::spawn(move || {
        drop(std::io::copy(&mut back, &mut forth));
        drop(forth.shutdown(Shutdown::Write));
    });
    drop(std::io::copy(&mut near, &mut far));
    drop(far.shutdown(Shutdown::Write));
    drop(answering.join());
    Ok(())
}
