//! Clients that keep asking, and what became of each attempt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::http;
use crate::wait::{DEADLINE, eventually};

/// One connection with one request.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When the connection was begun.
    pub begun: Instant,
    /// From then to the last byte of the answer.
    pub took: Duration,
    /// What went wrong.
    pub failure: Option<String>,
}

/// Clients on threads of their own.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Attempt>>>,
}

impl Load {
    /// Starts `clients` that each make one connection after the other.
    pub fn start(clients: usize, address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let mut attempts = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let failure = http::get(address, "/load").err().map(|error| format!("{error:#}"));
                    attempts.push(Attempt { begun, took: begun.elapsed(), failure });
                    done.fetch_add(1, Ordering::Relaxed);
                }
                attempts
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, done, clients }
    }

    /// Waits until `more` further attempts have ended.
    ///
    /// # Errors
    /// When they do not within the deadline.
    pub fn attempts(&self, more: usize) -> Result<()> {
        let until = self.done.load(Ordering::Relaxed) + more;
        eventually(DEADLINE, "attempts of the load", || (self.done.load(Ordering::Relaxed) >= until).then_some(()))
    }

    /// Ends the clients and returns all attempts.
    ///
    /// # Errors
    /// When a client panicked.
    pub fn stop(mut self) -> Result<Vec<Attempt>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients.drain(..) {
            all.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?);
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
