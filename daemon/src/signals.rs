//! Signals that somebody sends to us and means for the command. A terminal sends its signals to the whole foreground
//! group, of which the command is part: those are not sent on, or it would get them twice.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// What is passed on. SIGTSTP keeps its default: the terminal stops us with the command, as it should.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals are taken from now on; until [`Forwarding::to`] they wait.
#[derive(Debug)]
pub struct Forwarding {
    signals: SignalsInfo<WithOrigin>,
}

/// What became of the signals: the command has ended, and somebody wants us to end too.
#[derive(Debug, Clone, Default)]
pub struct Hurry {
    ended: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Hurry {
    /// The command has ended: signals are for us from now on.
    pub fn command_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Was a signal sent since?
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Forwarding {
    /// Takes over the signals of this process, but for those that it was started to ignore (`nohup`).
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn begin() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let taken = FORWARDED.iter().filter(|signal| ignored >> (**signal - 1) & 1 == 0);
        Ok(Self { signals: SignalsInfo::<WithOrigin>::new(taken)? })
    }

    /// A signal that came before there was a command, and that means "end".
    pub fn early(&mut self) -> Option<i32> {
        let ends = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
        self.signals.pending().map(|origin| origin.signal).find(|signal| ends.contains(signal))
    }

    /// Passes signals on to the process `pid` until the command has ended; those that come later ask us to hurry.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn to(mut self, pid: u32) -> io::Result<Hurry> {
        let hurry = Hurry::default();
        let told = hurry.clone();
        std::thread::Builder::new().name("nodetap-signals".into()).spawn(move || {
            for origin in self.signals.forever() {
                if told.ended.load(Ordering::Relaxed) {
                    told.asked.store(true, Ordering::Relaxed);
                } else if origin.cause != Cause::Kernel {
                    forward(pid, origin.signal);
                }
            }
        })?;
        Ok(hurry)
    }
}

/// The mask of ignored signals in `/proc/PID/status` (proc(5)), bit 0 for signal 1.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn forward(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).ok().map(nix::unistd::Pid::from_raw);
    let signal = nix::sys::signal::Signal::try_from(signal).ok();
    if let (Some(pid), Some(signal)) = (pid, signal) {
        // It may have ended a moment ago.
        let _ = nix::sys::signal::kill(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_is_read_from_the_status() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\n"), 0x1001);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
