//! Clients that ask for more than anybody should: so much a second, as far as they are let. What they ask for does not depend
//! on who answers, so that two who answer can be compared.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use socket2::SockRef;

use crate::server::PIECE;

const THREADS: usize = 2;
/// Connections of a flood that is not one of connections, and for how long they live.
const CONNECTIONS: usize = 64;
const LIFE: Duration = Duration::from_secs(1);
/// What is due is done this often.
const BEAT: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);

/// What all threads of a flood share.
#[derive(Debug, Default)]
struct Flood {
    over: AtomicBool,
    begun: AtomicU64,
    refused: AtomicU64,
    pieces: AtomicU64,
}

impl Flood {
    /// Runs `work` on all threads until the input ends.
    fn run(work: impl Fn(&Flood) -> Result<()> + Send + Sync + 'static) -> Result<()> {
        let (flood, work) = (Arc::new(Flood::default()), Arc::new(work));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (flood, work) = (Arc::clone(&flood), Arc::clone(&work));
                thread::spawn(move || {
                    while !flood.over.load(Ordering::Relaxed) {
                        work(&flood)?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        println!("flooding");
        std::io::stdin().read_to_end(&mut Vec::new())?;
        flood.over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (begun, refused, pieces) = (of(&flood.begun), of(&flood.refused), of(&flood.pieces));
        println!("{}", json!({"begun": begun, "refused": refused, "pieces": pieces}));
        Ok(())
    }
}

impl Flood {
    /// One more connection, on which something is begun. `None`: it was refused.
    fn open(&self, to: SocketAddr, begin: &[u8]) -> Result<Option<TcpStream>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let opened = TcpStream::connect(to).and_then(|mut stream| {
            // What it leaves behind must not use up the ports.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            stream.write_all(begin).map(|()| stream)
        });
        match opened {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_reset(&error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Does something so often a second, a beat's worth at a time. What cannot be done in its time is left out.
fn paced(rate: u32, lasts: impl Fn() -> bool, mut once: impl FnMut() -> Result<()>) -> Result<()> {
    let each_beat = f64::from(rate) / THREADS as f64 * BEAT.as_secs_f64();
    let (mut owed, mut next) = (0.0, Instant::now());
    while lasts() {
        owed += each_beat;
        while owed >= 1.0 && lasts() {
            once()?;
            owed -= 1.0;
        }
        next = (next + BEAT).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Opens so many a second, holds as many at a time, and asks on each before it closes it. Whoever is reset was refused.
pub(crate) fn connections(to: SocketAddr, rate: u32, held: usize) -> Result<()> {
    Flood::run(move |flood| {
        let mut open = VecDeque::with_capacity(held / THREADS);
        let goes_on = || !flood.over.load(Ordering::Relaxed);
        let ended = paced(rate, goes_on, || {
            open.extend(flood.open(to, b"")?);
            if open.len() >= held / THREADS
                && let Some(stream) = open.pop_front()
            {
                ask(flood, stream)?;
            }
            Ok(())
        });
        open.into_iter().try_for_each(|stream| ask(flood, stream))?;
        ended
    })
}

fn ask(flood: &Flood, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    match stream.write_all(request).and_then(|()| stream.read_to_end(&mut Vec::new())) {
        Ok(_) => Ok(()),
        Err(error) if is_reset(&error) => {
            flood.refused.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

pub(crate) fn heads(to: SocketAddr, rate: u32) -> Result<()> {
    streams(to, rate, b"GET / HTTP/1.1\r\nHost: x\r\n", |mut stream| {
        stream.write(b"X-Header: and yet another one of those\r\n")
    })
}

pub(crate) fn bodies(to: SocketAddr, rate: u32) -> Result<()> {
    let begin = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n";
    streams(to, rate, begin, |mut stream| stream.write(&PIECE))
}

pub(crate) fn slow(to: SocketAddr, rate: u32) -> Result<()> {
    streams(to, rate, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", |mut stream| stream.read(&mut [0; 4096]))
}

/// Begins something on each of many connections, goes on with one after the other so many times a second, and then anew:
/// who has given up on a connection has to look at another one.
fn streams(
    to: SocketAddr,
    rate: u32,
    begin: &'static [u8],
    go_on: fn(&TcpStream) -> std::io::Result<usize>,
) -> Result<()> {
    Flood::run(move |flood| {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS / THREADS {
            open.extend(flood.open(to, begin)?);
        }
        for stream in &open {
            stream.set_nonblocking(true)?;
        }
        let (began, mut turn) = (Instant::now(), 0usize);
        let lives = || began.elapsed() < LIFE && !flood.over.load(Ordering::Relaxed);
        paced(rate, lives, || {
            turn += 1;
            let Some(place) = turn.checked_rem(open.len()) else { return Ok(()) };
            match go_on(&open[place]) {
                Ok(_) => _ = flood.pieces.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if is_reset(&error) => {
                    flood.refused.fetch_add(1, Ordering::Relaxed);
                    open.swap_remove(place);
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
    })
}
