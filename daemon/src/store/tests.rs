//! The recorder against a real folder, a full disk, a failing one, and one that does not move.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nodetap_core::exchange::{
    Body, Bytes, Connection, Direction, Event, Exchange, Message, Outcome, Protocol, Target, Timing, Via,
};
use nodetap_core::ulid::UlidSource;

use super::follow::Follower;
use super::read::{Error, Index};
use super::writer::{Now, Progress, Writer};
use super::*;

mod messages;
mod observers;

const SECRET: &str = "pl4nted-s3cret";

fn exchange(number: u64, body: usize) -> Event {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let mut ids = UlidSource::new(u128::from(number) << 16);
    let time = 1_700_000_000_000_000 + number;
    let connection = Arc::new(Connection {
        id: ids.next(time),
        direction: if number.is_multiple_of(2) { Direction::Inbound } else { Direction::Outbound },
        via: Via::Transparent,
        target: Target::command("test"),
        container: None,
        process: None,
        client: address,
        client_name: None,
        server: address,
        server_name: None,
        accepted: time,
    });
    let head = format!("GET /{number} HTTP/1.1\r\nCookie: {SECRET}\r\n\r\n").into_bytes();
    let body = Body { size: body as u64, kept: vec![b'x'; body], in_messages: false };
    Event::Exchange(Box::new(Exchange {
        id: ids.next(time),
        connection,
        time,
        protocol: Protocol::Http11,
        stream: None,
        tls: None,
        request: Message { head, body, trailers: vec![] },
        interim: format!("HTTP/1.1 103 X\r\nSet-Cookie : {SECRET}\n\n").into_bytes(),
        response: Some(Message { head: b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), ..Message::default() }),
        timing: Timing { end: Some(10), ..Timing::default() },
        bytes: Bytes::default(),
        messages: None,
        outcome: Outcome::Complete,
        detail: None,
        redacted: vec![],
        dropped: vec![],
    }))
}

fn settings(folder: &Path) -> Settings {
    Settings { grace: Duration::from_millis(200), ..Settings::new(folder.to_owned(), Target::command("test")) }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn numbers(index: &mut Index) -> Vec<u64> {
    let entries = index.entries.clone();
    let events = entries.into_iter().filter_map(|entry| index.event(entry).unwrap());
    events
        .filter_map(|event| match event {
            Event::Exchange(exchange) => Some(exchange.time - 1_700_000_000_000_000),
            _ => None,
        })
        .collect()
}

fn losses(index: &mut Index) -> Vec<(String, u64)> {
    let entries = index.entries.clone();
    let events = entries.into_iter().filter_map(|entry| index.event(entry).unwrap());
    events
        .filter_map(|event| match event {
            Event::Loss(loss) => Some((loss.reason.into_owned(), loss.exchanges)),
            _ => None,
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        (std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A disk of so many bytes; it can also fail or hang.
#[derive(Default)]
struct Small {
    disk: Disk,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    room: AtomicU64,
    fails: AtomicBool,
    hangs: AtomicBool,
}

struct SmallFile {
    sink: Box<dyn Sink>,
    length: u64,
    shared: Arc<Shared>,
}

impl Medium for Small {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(SmallFile { sink: self.disk.create(path)?, length: 0, shared }))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let length = std::fs::metadata(path)?.len();
        self.shared.room.fetch_add(length, Ordering::SeqCst);
        self.disk.remove(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
}

impl Sink for SmallFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        until("the test lets the disk go on", || !self.shared.hangs.load(Ordering::SeqCst));
        if self.shared.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        let needed = (offset + bytes.len() as u64).saturating_sub(self.length);
        let granted = needed.min(self.shared.room.load(Ordering::SeqCst));
        let count = bytes.len() - usize::try_from(needed - granted).unwrap();
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.shared.room.fetch_sub(granted, Ordering::SeqCst);
        self.length += granted;
        self.sink.write_at(&bytes[..count], offset)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.shared.room.fetch_add(self.length.saturating_sub(length), Ordering::SeqCst);
        self.length = self.length.min(length);
        self.sink.cut(length)
    }
}

fn small(room: u64) -> (Box<Small>, Arc<Shared>) {
    let shared = Arc::new(Shared { room: AtomicU64::new(room), ..Shared::default() });
    (Box::new(Small { disk: Disk::default(), shared: Arc::clone(&shared) }), shared)
}

#[test]
fn what_is_recorded_is_read_back_in_time_order_and_without_secrets() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("a/b");
    let (recorder, recording) = Recorder::start(settings(&folder), vec![]).unwrap();
    for number in (0..500).rev() {
        assert!(recorder.record(exchange(number, 100)));
    }
    let totals = recording.close();
    assert_eq!((totals.inbound_exchanges, totals.outbound_exchanges), (250, 250));
    assert_eq!((totals.lost, totals.unseen, totals.errors), (vec![], vec![], vec![]));
    assert!(!recorder.record(exchange(0, 0)), "a closed recorder takes nothing");

    let mut index = Index::read(&folder).unwrap();
    assert_eq!(numbers(&mut index), (0..500).collect::<Vec<_>>());
    assert!(index.warnings.is_empty());
    let names = names(&folder);
    assert!(names.len() == 1 && names[0].ends_with(".seg"), "{names:?}");
    let bytes = std::fs::read(folder.join(&names[0])).unwrap();
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(&names[0]))), (0o700, 0o600));
    assert_eq!(mode(&base.path().join("a")), 0o700);
}

#[test]
fn above_its_cap_the_store_drops_the_oldest_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { max_store: 100_000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start(settings, vec![]).unwrap();
    for number in 0..400 {
        until("the queue takes it", || recorder.record(exchange(number, 1000)));
    }
    let totals = recording.close();
    let written = totals.inbound_exchanges + totals.outbound_exchanges;
    let [loss] = &totals.lost[..] else { panic!("{:?}", totals.lost) };
    assert_eq!((written, loss.reason.as_ref()), (400, "store_full"));
    let mut index = Index::read(folder.path()).unwrap();
    let kept = numbers(&mut index);
    assert_eq!(kept, (loss.exchanges..400).collect::<Vec<_>>());
    assert_eq!(losses(&mut index), [("store_full".to_owned(), loss.exchanges)]);
    let size: u64 =
        (std::fs::read_dir(folder.path()).unwrap()).map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= 101_000, "{size}");
}

#[test]
fn on_a_full_disk_every_record_is_kept_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(30_000);
    let (recorder, recording) = Recorder::start_on(medium, settings(folder.path()), vec![]).unwrap();
    for number in 0..300 {
        assert!(recorder.record(exchange(number, 1000)));
    }
    let totals = recording.close();
    let written = totals.inbound_exchanges + totals.outbound_exchanges;
    assert!(written > 10 && written < 30, "{written}");
    let mut index = Index::read(folder.path()).unwrap();
    assert_eq!(numbers(&mut index).len() as u64, written);
    assert!(index.warnings.is_empty(), "no torn record stays: {:?}", index.warnings);
    assert_eq!(losses(&mut index), [("disk_full".to_owned(), 300 - written)]);
    assert!(shared.room.load(Ordering::SeqCst) < 9000, "{}", shared.room.load(Ordering::SeqCst));
}

#[test]
fn a_full_disk_takes_the_place_of_the_oldest_segments() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, _) = small(60_000);
    let settings = Settings { segment_bytes: 5_000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
    for number in 0..200 {
        assert!(recorder.record(exchange(number, 1000)));
    }
    let totals = recording.close();
    let mut index = Index::read(folder.path()).unwrap();
    let lost = losses(&mut index);
    let kept = numbers(&mut index);
    let [(reason, count)] = &lost[..] else { panic!("{totals:?}") };
    assert_eq!((reason.as_str(), kept.len() as u64 + count), ("disk_full", 200));
    assert_eq!(kept.last(), Some(&199), "the newest are kept: {kept:?}");
}

#[test]
fn a_disk_that_fails_and_recovers_costs_what_came_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let (seen, observed) = counter();
    let (recorder, recording) = Recorder::start_on(medium, settings(folder.path()), vec![observed]).unwrap();
    shared.fails.store(true, Ordering::SeqCst);
    assert!(recorder.record(exchange(0, 10)));
    until("the failure is over", || seen.load(Ordering::SeqCst) == 1);
    shared.fails.store(false, Ordering::SeqCst);
    let mut next = 1;
    until("the disk is tried again", || {
        recorder.record(exchange(next, 10));
        next += 1;
        let index = Index::read(folder.path()).unwrap();
        index.entries.iter().any(|entry| entry.id().is_some())
    });
    let totals = recording.close();
    let written = totals.inbound_exchanges + totals.outbound_exchanges;
    let [loss] = &totals.lost[..] else { panic!("{:?}", totals.lost) };
    assert_eq!((loss.reason.as_ref(), loss.exchanges + written), ("write_error", next));
    assert_eq!(numbers(&mut Index::read(folder.path()).unwrap()).len() as u64, written);
}

fn counter() -> (Arc<AtomicU64>, Observer) {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    let observer = Observer::new("counter", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (seen, observer)
}

#[test]
fn a_disk_that_hangs_never_makes_traffic_wait_and_what_does_not_fit_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let settings = Settings { queue_records: 50, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
    shared.hangs.store(true, Ordering::SeqCst);
    let taken = (0..1000).filter(|number| recorder.record(exchange(*number, 10))).count() as u64;
    assert!(taken < 1000);
    shared.hangs.store(false, Ordering::SeqCst);
    let totals = recording.close();
    assert_eq!(totals.inbound_exchanges + totals.outbound_exchanges, taken);
    let mut index = Index::read(folder.path()).unwrap();
    assert_eq!(losses(&mut index), [("queue_full".to_owned(), 1000 - taken)]);
    assert_eq!(numbers(&mut index).len() as u64, taken);
}

#[test]
fn a_disk_that_never_moves_again_does_not_keep_the_program_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let settings = Settings { grace: Duration::from_millis(1), ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
    shared.hangs.store(true, Ordering::SeqCst);
    assert!(recorder.record(exchange(1, 10)));
    let totals = recording.close();
    assert_eq!(
        totals.lost.iter().map(|loss| (loss.reason.as_ref(), loss.exchanges)).collect::<Vec<_>>(),
        [("disk_blocked", 1)]
    );
    shared.hangs.store(false, Ordering::SeqCst);
}

#[test]
fn a_loss_that_the_end_knows_keeps_its_reason_when_the_queue_is_full_and_when_the_disk_never_moves() {
    for comes_back in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (medium, shared) = small(u64::MAX / 2);
        let grace = Duration::from_millis(if comes_back { 20_000 } else { 1 });
        let settings = Settings { queue_records: 5, grace, ..settings(folder.path()) };
        let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
        shared.hangs.store(true, Ordering::SeqCst);
        until("the queue is full", || !recorder.record(exchange(1, 10)));
        recording.lost("stray", 7);
        shared.hangs.store(!comes_back, Ordering::SeqCst);
        let totals = recording.close();
        let strays: Vec<u64> =
            totals.lost.iter().filter(|loss| loss.reason == "stray").map(|loss| loss.exchanges).collect();
        assert_eq!(strays, [7], "{:?}", totals.lost);
        shared.hangs.store(false, Ordering::SeqCst);
    }
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let settings = Settings { queue_bytes: 100_000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![]).unwrap();
    shared.hangs.store(true, Ordering::SeqCst);
    let taken = (0..100).filter(|number| recorder.record(exchange(*number, 10_000))).count();
    assert!(taken < 30, "{taken}");
    shared.hangs.store(false, Ordering::SeqCst);
    until("there is room again", || recorder.record(exchange(200, 200_000)));
    recording.close();
}

#[test]
fn a_disk_that_moves_however_slowly_is_seen_to_move() {
    let folder = tempfile::tempdir().unwrap();
    let progress = Arc::new(Progress::default());
    let now = Now { instant: Instant::now(), unix: 0 };
    let disk = Box::new(Disk::default());
    let mut writer = Writer::new(&settings(folder.path()), disk, Default::default(), Arc::clone(&progress), 1, now);
    // One large record, and many that are one batch.
    writer.write(&[exchange(0, 4 << 20)], now);
    assert!(progress.moves.load(Ordering::SeqCst) >= 16);
    let batch: Vec<Event> = (0..100).map(|number| exchange(number, 100_000)).collect();
    writer.write(&batch, now);
    assert!(progress.moves.load(Ordering::SeqCst) >= 16 + 30);
    assert_eq!(progress.events.load(Ordering::SeqCst), 101);
    writer.close(now);
}

#[test]
fn what_was_written_before_the_disk_hung_is_still_said() {
    let folder = tempfile::tempdir().unwrap();
    let (medium, shared) = small(u64::MAX / 2);
    let (seen, counter) = counter();
    let settings = Settings { grace: Duration::from_millis(1), ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start_on(medium, settings, vec![counter]).unwrap();
    (0..10).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    until("they are written", || seen.load(Ordering::SeqCst) == 10);
    shared.hangs.store(true, Ordering::SeqCst);
    assert!(recorder.record(exchange(10, 10)));
    let totals = recording.close();
    assert_eq!((totals.inbound_exchanges, totals.outbound_exchanges), (5, 5));
    let [loss] = &totals.lost[..] else { panic!("{:?}", totals.lost) };
    assert_eq!((loss.reason.as_ref(), loss.exchanges), ("disk_blocked", 1));
    shared.hangs.store(false, Ordering::SeqCst);
}

#[test]
fn what_a_dead_writer_left_is_cut_and_sealed_and_a_living_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![]).unwrap();
    (0..20).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    recording.close();
    let sealed = folder.path().join(&names(folder.path())[0]);
    let open = sealed.with_extension("open");
    std::fs::rename(&sealed, &open).unwrap();
    let length = std::fs::metadata(&open).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&open).unwrap().set_len(length - 5).unwrap();

    let index = Index::read(folder.path()).unwrap();
    assert_eq!((index.entries.len(), index.warnings.len()), (19, 1));
    assert!(index.warnings[0].to_string().contains("the last record is not whole"), "{}", index.warnings[0]);

    let (living, recording) = Recorder::start(settings(folder.path()), vec![]).unwrap();
    assert!(sealed.exists() && !open.exists());
    until("it is written", || {
        living.record(exchange(100, 10));
        Index::read(folder.path()).unwrap().entries.len() > 19
    });
    assert!(Index::read(folder.path()).unwrap().warnings.is_empty());
    let (_, second) = Recorder::start(settings(folder.path()), vec![]).unwrap();
    assert!(names(folder.path()).iter().any(|name| name.ends_with(".open") && !name.contains("losses")));
    second.close();
    let totals = recording.close();
    let index = Index::read(folder.path()).unwrap();
    assert_eq!(index.entries.len() as u64, 19 + totals.inbound_exchanges);
    assert!(names(folder.path()).iter().all(|name| name.ends_with(".seg")));
}

#[test]
fn a_follower_gives_each_record_once_while_it_is_written_and_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 2000, ..settings(folder.path()) };
    let (recorder, recording) = Recorder::start(settings, vec![]).unwrap();
    let mut follower = Follower::after(&Index::read(folder.path()).unwrap(), folder.path());
    let mut ids = Vec::new();
    for number in 0..300 {
        until("the queue takes it", || recorder.record(exchange(number, 50)));
        ids.extend(follower.poll().unwrap().iter().map(id));
    }
    recording.close();
    ids.extend(follower.poll().unwrap().iter().map(id));
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    assert!(follower.poll().unwrap().is_empty());
}

fn id(event: &Event) -> u64 {
    let Event::Exchange(exchange) = event else { panic!() };
    exchange.time - 1_700_000_000_000_000
}

#[test]
fn a_file_that_is_no_segment_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.seg"), "something else altogether").unwrap();
    let error = Index::read(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NotASegment(..)));
    assert!(error.to_string().contains("x.seg"), "{error}");
    assert!(matches!(Index::read(&folder.path().join("none")), Err(Error::Unreadable(..))));
}

#[test]
fn a_record_is_found_by_the_beginning_of_its_id_and_by_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![]).unwrap();
    (0..3).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    recording.close();
    let index = Index::read(folder.path()).unwrap();
    let id = index.entries[1].id().unwrap().to_string();
    assert_eq!(index.find(&id).len(), 1);
    assert_eq!(index.find(&id[..4]).len(), 3);
    assert_eq!(index.find(&id[26 - index.id_width()..].to_lowercase()), [index.entries[1]]);
    assert!(index.find("ZZZ").is_empty());
}
