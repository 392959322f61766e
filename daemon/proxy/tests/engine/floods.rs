//! One group floods while another is measured: neither its connections, nor the records of the other, nor the other's
//! share of a worker are its to take.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodetap_proxy::engine::GroupLimits;

use crate::harness::{Tunnels, bar, connect, echo, engine, say, swallow};

/// Threads that do something again and again.
struct Flood {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn of(threads: usize, each: impl Fn() + Send + Sync + Clone + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..threads).map(|_| {
            let (over, each) = (Arc::clone(&over), each.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    each();
                }
            })
        });
        Self { threads: threads.collect(), over }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The slowest but one in a hundred of what a client sees: to connect, say something, and hear it.
fn slow(to: SocketAddr, count: usize) -> Duration {
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let since = Instant::now();
            say(&connect(to), "hello").unwrap();
            since.elapsed()
        })
        .collect();
    times.sort();
    times[count * 99 / 100 - 1]
}

/// What a slow build of ours on a machine with two processors and other things to do may add: a worker that is busy waits
/// for its slice of a processor as often as the other group's request comes by it. Without turns it was seconds.
const BUSY: Duration = Duration::from_millis(900);

/// One at a time: they take all there is of this machine.
static ALONE: Mutex<()> = Mutex::new(());

/// As long as the flood goes on, the other group is about as fast as the same flood leaves it without us.
fn measured(what: &str, limits: GroupLimits, flood: impl Fn(SocketAddr) -> Flood) -> Tunnels {
    const COUNT: usize = 300;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (engine, server) = (engine(2), swallow());
    let (floods, other) =
        (Tunnels::open(&engine, server, 1, limits), Tunnels::open(&engine, echo(), 1, GroupLimits::default()));
    let without = flood(server);
    let before = slow(other.steering.upstream, COUNT);
    without.end();
    let with = flood(floods.addresses[0]);
    let during = slow(other.addresses[0], COUNT);
    let kept = floods.served.kept();
    with.end();
    eprintln!("{what}: {before:?} beside the same flood without nodetap, {during:?} with it; {kept} bytes kept");
    bar(during < before * 3 + BUSY, &format!("{what}: {during:?}, and {before:?} without"));
    // Next to nothing of bodies, small heads, and what one read of each connection brings beyond.
    assert!(limits.kept == usize::MAX || kept <= limits.kept * 5 / 4 + CONNECTIONS * 16 * 1024, "{what}: {kept} bytes");
    let told = other.told.lost.lock().unwrap();
    assert!(told.is_empty(), "{told:?}");
    floods
}

/// Of each flood.
const CONNECTIONS: usize = 64;
const THREADS: usize = 2;

/// Connections that are made again when they end, and what is done with each of them in turn.
fn connections(to: SocketAddr, begin: &'static [u8], each: fn(&TcpStream)) -> Flood {
    Flood::of(THREADS, move || {
        let open: Vec<_> = (0..CONNECTIONS / THREADS).filter_map(|_| TcpStream::connect(to).ok()).collect();
        for stream in &open {
            let _ = (&*stream).write_all(begin);
            stream.set_nonblocking(true).unwrap();
        }
        for _ in 0..400 {
            open.iter().for_each(each);
        }
        // With a reset: what they leave behind must not use up the ports.
        open.iter().for_each(|stream| socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap());
    })
}

#[test]
fn connections_that_come_in_a_flood_leave_another_group_its_speed() {
    let limits = GroupLimits { connections: 16, ..GroupLimits::default() };
    let floods = measured("connections", limits, |to| {
        Flood::of(THREADS, move || {
            let burst: Vec<_> = (0..CONNECTIONS).filter_map(|_| TcpStream::connect(to).ok()).collect();
            burst.iter().for_each(|stream| socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap());
        })
    });
    assert!(floods.served.refused() > 0);
    assert_eq!(floods.told.lost.lock().unwrap().len() as u64, floods.served.refused());
}

#[test]
fn bodies_leave_another_group_its_speed() {
    let limits = GroupLimits { kept: 1 << 20, ..GroupLimits::default() };
    let begin = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
    measured("bodies", limits, |to| connections(to, begin, |mut stream| _ = stream.write(&[b'x'; 1 << 16])));
}

#[test]
fn heads_without_end_leave_another_group_its_speed() {
    let limits = GroupLimits { kept: 1 << 20, ..GroupLimits::default() };
    let begin = b"GET / HTTP/1.1\r\nHost: x\r\n";
    let line = |mut stream: &TcpStream| _ = stream.write(b"X-Header: and yet another one of those\r\n");
    measured("heads", limits, |to| connections(to, begin, line));
}

#[test]
fn slow_readers_leave_another_group_its_speed() {
    let limits = GroupLimits { kept: 1 << 20, ..GroupLimits::default() };
    // The server of this flood sends back what it gets, and who sent it reads a byte now and then.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = engine(2);
    let (floods, other) =
        (Tunnels::open(&engine, echo(), 1, limits), Tunnels::open(&engine, echo(), 1, GroupLimits::default()));
    let before = slow(other.addresses[0], 300);
    let flood = connections(floods.addresses[0], b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", |mut stream| {
        let _ = stream.write(&[b'x'; 1 << 16]);
        let _ = stream.read(&mut [0]);
    });
    let during = slow(other.addresses[0], 300);
    flood.end();
    eprintln!("slow readers: {before:?} without them, {during:?} with them");
    bar(during < before * 3 + BUSY, &format!("{during:?}, and {before:?} without"));
}
