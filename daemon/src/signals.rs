//! Signals that somebody sends to us and means for the command. A terminal sends its signals to the whole foreground
//! group, of which the command is part: those are not sent on, or it would get them twice.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::Cause;

/// What is passed on. SIGTSTP keeps its default: the terminal stops us with the command, as it should.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals are taken from now on; until [`Forwarding::to`] they wait.
#[derive(Debug)]
pub struct Forwarding {
    signals: SignalsInfo<WithOrigin>,
}

impl Forwarding {
    /// Takes over the signals of this process.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn begin() -> io::Result<Self> {
        Ok(Self { signals: SignalsInfo::<WithOrigin>::new(FORWARDED)? })
    }

    /// Passes signals on to the process `pid` until the handle is closed.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn to(mut self, pid: u32) -> io::Result<Handle> {
        let handle = self.signals.handle();
        std::thread::Builder::new().name("nodetap-signals".into()).spawn(move || {
            for origin in self.signals.forever() {
                if origin.cause != Cause::Kernel {
                    forward(pid, origin.signal);
                }
            }
        })?;
        Ok(handle)
    }
}

fn forward(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).ok().map(nix::unistd::Pid::from_raw);
    let signal = nix::sys::signal::Signal::try_from(signal).ok();
    if let (Some(pid), Some(signal)) = (pid, signal) {
        // It may have ended a moment ago.
        let _ = nix::sys::signal::kill(pid, signal);
    }
}
