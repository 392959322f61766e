//! Observers that are slow, stuck or failing: what they cost, and what they do not.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::*;

/// Lines of those observers that did not show all.
fn unseen(totals: &Totals) -> Vec<(&str, u64, &str)> {
    totals.unseen.iter().map(|unseen| (unseen.observer, unseen.records, unseen.reason.as_str())).collect()
}

#[test]
fn an_observer_that_does_not_move_costs_no_record_nor_what_another_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (release, released) = channel::<()>();
    let stuck = Observer::new("stuck", move |_| {
        let _ = released.recv();
        Ok(())
    });
    let (seen, counter) = counter();
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![stuck, counter]).unwrap();
    for number in 0..3000 {
        until("the queue takes it", || recorder.record(exchange(number, 10)));
    }
    until("the other has seen all", || seen.load(Ordering::SeqCst) == 3000);
    let totals = recording.close();
    assert_eq!(totals.inbound_exchanges + totals.outbound_exchanges, 3000);
    assert!(totals.lost.iter().all(|loss| loss.reason == "queue_full"));
    assert_eq!(unseen(&totals), [("stuck", 3000, "it was too slow")]);
    assert_eq!(numbers(&mut Index::read(folder.path()).unwrap()).len(), 3000);
    drop::<Sender<()>>(release);
}

#[test]
fn an_observer_that_trickles_on_does_not_change_what_the_recording_came_to() {
    let folder = tempfile::tempdir().unwrap();
    let (_held, never) = channel::<()>();
    // A terminal that takes minutes for what is queued, though it never stands still.
    let slow = Observer::new("slow", move |_| {
        let _ = never.recv_timeout(Duration::from_millis(20));
        Ok(())
    });
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![slow]).unwrap();
    (0..5000).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    let totals = recording.close();
    assert_eq!(totals.inbound_exchanges + totals.outbound_exchanges, 5000);
    assert_eq!((&totals.lost, &totals.errors), (&vec![], &vec![]));
    assert!(matches!(unseen(&totals)[..], [("slow", 1..=5000, "it was too slow")]), "{:?}", totals.unseen);
}

#[test]
fn what_an_observer_could_not_show_is_counted_with_the_first_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    let failing = Observer::new("failing", move |_| {
        number += 1;
        if number <= 10 { Ok(()) } else { Err(io::Error::other(format!("no room for {number}"))) }
    });
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![failing]).unwrap();
    (0..50).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    let totals = recording.close();
    assert_eq!(unseen(&totals), [("failing", 40, "no room for 11")]);
    assert_eq!(totals.inbound_exchanges + totals.outbound_exchanges, 50);
}

#[test]
fn observers_see_every_record_after_redaction() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    let observer = Observer::new("watch", move |event| {
        shared.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        Ok(())
    });
    let (recorder, recording) = Recorder::start(settings(folder.path()), vec![observer]).unwrap();
    (0..50).for_each(|number| assert!(recorder.record(exchange(number, 10))));
    assert_eq!(recording.close().unseen, []);
    let events = seen.lock().unwrap();
    assert_eq!(events.len(), 50);
    for event in events.iter() {
        assert!(!format!("{event:?}").contains(SECRET));
        let Event::Exchange(exchange) = event else { panic!() };
        assert_eq!(exchange.redacted, ["request.header.cookie", "interim.header.set-cookie"]);
    }
}
