//! Clients that make calls, each on a connection of its own: one after the other, or so many a second.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// Whoever takes longer to answer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads of a load: calls that may be under way at a time.
const THREADS: u32 = 32;

/// One call, through the forward proxy on this port of loopback or through none.
fn call(to: SocketAddr, proxy: Option<u16>) -> Result<()> {
    let next = proxy.map_or(to, |port| (Ipv4Addr::LOCALHOST, port).into());
    let mut stream = TcpStream::connect_timeout(&next, PATIENCE).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let target = if proxy.is_some() { format!("http://{to}/") } else { "/".to_owned() };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("be answered")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "answered {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

pub(crate) fn ask(to: SocketAddr, rate: u32) -> Result<()> {
    let pace = Duration::from_secs(1) / rate;
    for line in std::io::stdin().lock().lines() {
        let (begun, lasts) = (Instant::now(), Duration::from_millis(line?.trim().parse()?));
        let mut times = Vec::new();
        while begun.elapsed() < lasts {
            let since = Instant::now();
            call(to, None).with_context(|| format!("after {:?}", since.elapsed()))?;
            times.push(u64::try_from(since.elapsed().as_micros())?);
            thread::sleep((since + pace).saturating_duration_since(Instant::now()));
        }
        times.sort_unstable();
        let part = |hundredth: usize| times.get(times.len() * hundredth / 100).copied();
        println!("{}", json!({"calls": times.len(), "median_us": part(50), "p99_us": part(99)}));
    }
    Ok(())
}

/// What the threads of a load share.
#[derive(Debug, Default)]
struct Load {
    over: AtomicBool,
    attempts: AtomicU64,
    /// When each began and ended, in seconds since 1970, and why it failed.
    failed: Mutex<Vec<(f64, f64, String)>>,
}

impl Load {
    /// One thread's part: a call in each `pace`. One that is late is begun at once.
    fn work(&self, to: SocketAddr, proxy: Option<u16>, pace: Duration) {
        let mut due = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = (due + pace).max(Instant::now());
            let begun = unix();
            if let Err(error) = call(to, proxy) {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push((begun, unix(), format!("{error:#}")));
            }
            self.attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) fn load(to: SocketAddr, rate: u32, proxy: Option<u16>) -> Result<()> {
    let load = Arc::new(Load::default());
    let pace = Duration::from_secs(1) * THREADS / rate;
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let load = Arc::clone(&load);
        threads.push(thread::spawn(move || load.work(to, proxy, pace)));
        // Spread over the time in which each begins one.
        thread::sleep(pace / THREADS);
    }
    println!("loading");
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", load.attempts.load(Ordering::Relaxed));
    }
    load.over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    }
    let failed = load.failed.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", json!({"attempts": load.attempts.load(Ordering::Relaxed), "failed": *failed}));
    Ok(())
}

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
