//! Groups beside one another: one that comes, goes, floods or is cut is nothing to the others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nodetap_core::exchange::{Event, Outcome};
use nodetap_proxy::engine::{GroupLimits, TOO_MANY_CONNECTIONS};

use crate::harness::{PATIENCE, Tunnels, bar, connect, drain, echo, engine, exchanges, say, wait_until};

#[test]
fn groups_come_and_go_while_others_are_served() {
    let (engine, server) = (engine(2), echo());
    let stays = Tunnels::open(&engine, server, 1, GroupLimits::default());
    let kept = stays.connect();
    say(&kept, "before").unwrap();
    for _ in 0..20 {
        let comes = Tunnels::open(&engine, server, 3, GroupLimits::default());
        for address in &comes.addresses {
            say(&connect(*address), "hello").unwrap();
        }
        let Tunnels { served, addresses, told, .. } = comes;
        let drained = served.drain(Duration::from_secs(5), || false);
        assert_eq!((drained.cut, drained.strays, drained.refused), (0, 0, 0));
        assert_eq!(told.events.lock().unwrap().len(), 3);
        let gone = TcpStream::connect(addresses[0]).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
        say(&kept, "meanwhile").unwrap();
    }
    assert_eq!((stays.served.open(), engine.open()), (1, 1));
    assert_eq!(stays.steering.made.load(Ordering::Relaxed), 1, "the upstream's socket is the steering's");
}

#[test]
fn a_group_that_is_cut_is_reset_and_recorded_and_no_other_is_touched() {
    let (engine, server) = (engine(2), echo());
    let (one, other) = (
        Tunnels::open(&engine, server, 1, GroupLimits::default()),
        Tunnels::open(&engine, server, 1, GroupLimits::default()),
    );
    let cut: Vec<_> = (0..10).map(|_| one.connect()).collect();
    let kept = other.connect();
    cut.iter().chain([&kept]).for_each(|stream| say(stream, "hello").unwrap());
    assert_eq!((one.served.open(), other.served.open(), engine.open()), (10, 1, 11));
    let Tunnels { served, told, .. } = one;
    assert_eq!(served.cut().cut, 10);
    for mut stream in &cut {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(told.events.lock().unwrap().len(), 10, "each is recorded when `cut` returns");
    say(&kept, "still here").unwrap();
    assert_eq!((other.served.open(), engine.open()), (1, 1));
}

#[test]
fn a_group_that_is_dropped_is_closed_at_once() {
    let (engine, server) = (engine(1), echo());
    let group = Tunnels::open(&engine, server, 1, GroupLimits::default());
    let mut stream = group.connect();
    say(&stream, "hello").unwrap();
    let address = group.addresses[0];
    drop(group);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    wait_until("nothing is open", || engine.open() == 0);
}

#[test]
fn listeners_can_be_closed_before_what_is_open_ends() {
    let (engine, server) = (engine(1), echo());
    let mut group = Tunnels::open(&engine, server, 2, GroupLimits::default());
    let stream = group.connect();
    say(&stream, "hello").unwrap();
    group.served.close();
    for address in &group.addresses {
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    say(&stream, "goes on").unwrap();
    drop(stream);
    wait_until("it has ended", || group.served.open() == 0);
    let events = group.told.events.lock().unwrap();
    assert!(matches!(&events[..], [Event::Connection(one)] if one.outcome == Outcome::Passthrough), "{events:?}");
}

#[test]
fn connections_beyond_the_limit_are_reset_and_counted() {
    let (engine, server) = (engine(1), echo());
    let group = Tunnels::open(&engine, server, 1, GroupLimits { connections: 3, ..GroupLimits::default() });
    let open: Vec<_> = (0..3).map(|_| group.connect()).collect();
    open.iter().for_each(|stream| say(stream, "hello").unwrap());
    for _ in 0..5 {
        let mut refused = group.connect();
        assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(group.served.refused(), 5);
    assert_eq!(*group.told.lost.lock().unwrap(), [TOO_MANY_CONNECTIONS; 5]);
    drop(open);
    wait_until("there is room again", || group.served.open() == 0);
    say(&group.connect(), "again").unwrap();
}

#[test]
fn an_engine_that_is_dropped_ends_every_group() {
    let (engine, server) = (engine(2), echo());
    let groups: Vec<_> = (0..5).map(|_| Tunnels::open(&engine, server, 2, GroupLimits::default())).collect();
    let streams: Vec<_> = groups.iter().map(Tunnels::connect).collect();
    streams.iter().for_each(|stream| say(stream, "hello").unwrap());
    drop(engine);
    for mut stream in &streams {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    for group in groups {
        assert_eq!(group.told.events.lock().unwrap().len(), 1);
        assert_eq!(group.served.cut().cut, 0);
    }
}

#[test]
fn four_thousand_listeners_are_opened_and_closed_in_no_time() {
    let (engine, server) = (engine(2), echo());
    let since = Instant::now();
    let groups: Vec<_> = (0..250).map(|_| Tunnels::open(&engine, server, 16, GroupLimits::default())).collect();
    let opened = since.elapsed();
    for group in &groups {
        say(&connect(group.addresses[15]), "hello").unwrap();
    }
    let since = Instant::now();
    drop(groups);
    let closed = since.elapsed();
    bar(opened.max(closed) < Duration::from_secs(2), &format!("opened in {opened:?}, closed in {closed:?}"));
}

/// A request with a body of which the last byte is missing.
fn unfinished(stream: &TcpStream, length: usize) {
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    (&mut &*stream).write_all(&[head.as_bytes(), &vec![b'x'; length - 1]].concat()).unwrap();
}

#[test]
fn what_the_connections_of_a_group_keep_together_has_a_limit_and_records_say_what_it_cost() {
    const BODY: usize = 64 * 1024;
    let (engine, server) = (engine(2), drain());
    let limits = GroupLimits { kept: 8 * BODY, ..GroupLimits::default() };
    let (floods, other) = (Tunnels::open(&engine, server, 1, limits), Tunnels::open(&engine, server, 1, limits));
    let mut open = Vec::new();
    for number in 1..=64 {
        open.push(floods.connect());
        unfinished(&open[number - 1], BODY);
        wait_until("it is kept", || floods.served.kept() >= number.min(8) * (BODY - 1));
    }
    std::thread::sleep(Duration::from_millis(200));
    let kept = floods.served.kept();
    assert!(kept <= 8 * BODY + 64 * 2 * 1024, "{kept} bytes are kept");
    let stream = other.connect();
    unfinished(&stream, BODY);
    (&mut &stream).write_all(b"x").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    wait_until("the other is recorded", || !other.told.events.lock().unwrap().is_empty());
    let Tunnels { served, told, .. } = floods;
    served.cut();
    let cut = exchanges(&told).iter().filter(|exchange| !exchange.dropped.is_empty()).count();
    assert!((40..64).contains(&cut), "{cut} records say that something was dropped");
    assert!(exchanges(&told).iter().all(|exchange| exchange.request.body.size == BODY as u64 - 1));
    let whole = &exchanges(&other.told)[0];
    assert_eq!((whole.request.body.kept.len(), whole.dropped.len()), (BODY, 0), "another group has its own budget");
    assert_eq!((other.served.kept(), other.served.curtailed()), (0, 0));
}

#[test]
fn a_panic_in_one_connection_ends_it_is_counted_and_leaves_its_group_as_it_is() {
    for workers in [1, 2] {
        let (engine, server) = (engine(workers), echo());
        let group = Tunnels::open(&engine, server, 1, GroupLimits::default());
        let before = group.connect();
        say(&before, "before").unwrap();
        group.steering.panics_at.store(1, Ordering::Relaxed);
        let ends = group.connect().read(&mut [0]);
        assert!(matches!(ends, Ok(0) | Err(_)), "{ends:?}");
        wait_until("its end", || group.served.open() == 1);
        assert_eq!(*group.told.lost.lock().unwrap(), ["connection_panic"]);
        say(&before, "meanwhile").unwrap();
        for _ in 0..4 {
            say(&group.connect(), "after").unwrap();
        }
    }
}

#[test]
fn a_panic_in_a_tunnel_ends_both_of_its_sides_with_resets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = engine(1);
    let group = Tunnels::open(&engine, listener.local_addr().unwrap(), 1, GroupLimits::default());
    let mut client = group.connect();
    let mut server = listener.accept().unwrap().0;
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    // The record is due when the answer is whole; as much as it says, the client has had.
    group.told.panics.store(true, Ordering::Relaxed);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    server.read_exact(&mut [0; 27]).unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nand more").unwrap();
    for mut side in [client, server] {
        let ended = side.read_to_end(&mut Vec::new());
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    wait_until("its end", || *group.told.lost.lock().unwrap() == ["connection_panic"]);
}
