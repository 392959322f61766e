//! Capture of many pods by one process: what is steered and what is not, and what is left of pods that are gone.

mod fallback;
mod many;
mod pod;

use nodetap::capture::{BeforeAttach, Ignore, Steer};
use nodetap::netlink::routes::Prefix;
use nodetap_core::exchange::{Direction, Event};

use self::pod::{ADDRESS, Actor, Agent, Captured, Pod};
use crate::place::{Group, eventually};

fn steered(captured: &Captured) -> (u64, u64) {
    let counts = captured.counts();
    (counts.steered_outbound, counts.steered_inbound)
}

fn eventually_recorded(captured: &Captured, expected: &[&str]) {
    eventually("the exchanges are recorded", || (captured.records.exchanges() == expected).then_some(()));
}

#[test]
fn two_pods_with_equal_addresses_and_ports_are_recorded_each_as_itself() {
    let (agent, mut actor) = (Agent::start(), Actor::start());
    let pods = [Pod::new("one"), Pod::new("other")];
    let captured = pods.each_ref().map(|pod| agent.capture(pod));
    for pod in &pods {
        assert_eq!(actor.does(pod, &format!("listen {} {ADDRESS} 8080", pod.name)), "listens");
    }
    for round in 0..3 {
        for pod in &pods {
            // The server sees the client's own address, though the call went through us twice.
            let answer = actor.does(pod, &format!("get {ADDRESS} 8080 /{}/{round}", pod.name));
            assert_eq!(answer, format!("{} {ADDRESS}", pod.name));
        }
    }
    for (pod, captured) in pods.iter().zip(&captured) {
        let name = &pod.name;
        let both = |direction: &str| (0..3).map(|round| format!("{direction} /{name}/{round}")).collect::<Vec<_>>();
        let expected = [both("Inbound"), both("Outbound")].concat();
        eventually("the exchanges are recorded", || (captured.records.exchanges() == expected).then_some(()));
        let all = captured.records.all();
        let mut connections = all.iter().filter_map(|event| match event {
            Event::Exchange(exchange) => Some(&exchange.connection),
            _ => None,
        });
        assert!(connections.all(|connection| connection.target.name == *name), "{all:?}");
        assert_eq!(steered(captured), (3, 3));
    }
}

#[test]
fn loopback_is_left_alone_until_it_is_asked_for() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let captured = agent.capture(&pod);
    actor.does(&pod, "listen any 0.0.0.0 8080");
    assert_eq!(actor.does(&pod, "get 127.0.0.1 8080 /alone"), "any 127.0.0.1");
    let counts = captured.counts();
    assert_eq!((counts.direct.loopback, counts.loopback_inbound, steered(&captured)), (1, 1, (0, 0)));
    captured.target.steer(Steer { inbound: true, outbound: true, loopback: true }).unwrap();
    assert_eq!(actor.does(&pod, "get 127.0.0.1 8080 /tracked"), "any 127.0.0.1");
    assert_eq!(steered(&captured), (1, 1));
    eventually_recorded(&captured, &["Inbound /tracked", "Outbound /tracked"]);
}

#[test]
fn what_is_to_be_ignored_changes_while_the_pod_runs_and_each_direction_for_itself() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let captured = agent.capture(&pod);
    let ignoring = captured.target.ignoring();
    actor.does(&pod, &format!("listen app {ADDRESS} 8080"));
    let mut get = |path: &str| actor.does(&pod, &format!("get {ADDRESS} 8080 {path}"));
    let network = Ignore { prefixes: [Prefix::new("10.7.0.0".parse().unwrap(), 16)].into(), ports: [].into() };
    let port = Ignore { prefixes: [].into(), ports: [8080].into() };
    for (lists, outbound, inbound) in [
        ([&Ignore::default(), &Ignore::default()], 1, 1),
        ([&network, &Ignore::default()], 0, 1),
        ([&Ignore::default(), &network], 1, 0),
        ([&port, &Ignore::default()], 0, 1),
        ([&Ignore::default(), &port], 1, 0),
        ([&network, &port], 0, 0),
        ([&Ignore::default(), &Ignore::default()], 1, 1),
    ] {
        ignoring.set(Direction::Outbound, lists[0]).unwrap();
        ignoring.set(Direction::Inbound, lists[1]).unwrap();
        let before = (captured.counts(), steered(&captured));
        assert_eq!(get("/ignore"), format!("app {ADDRESS}"), "{lists:?}");
        let (now, after) = (captured.counts(), steered(&captured));
        assert_eq!((after.0 - before.1.0, after.1 - before.1.1), (outbound, inbound), "{lists:?}");
        assert_eq!(now.direct.ignored - before.0.direct.ignored, 1 - outbound, "{lists:?}");
        assert_eq!(now.ignored_inbound - before.0.ignored_inbound, 1 - inbound, "{lists:?}");
    }
}

#[test]
fn what_a_pod_had_before_is_found_counted_and_not_touched() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    assert_eq!(actor.does(&pod, &format!("listen app {ADDRESS} 8080")), "listens");
    assert_eq!(actor.does(&pod, &format!("open old {ADDRESS} 8080")), format!("app {ADDRESS}"));
    let captured = agent.capture(&pod);
    assert_eq!(captured.before_attach(), BeforeAttach { inbound: 1, outbound: 1 });
    let listening = captured.target.listening();
    assert!(matches!(&listening[..], [only] if only.older && only.address.port() == 8080), "{listening:?}");
    // A new connection to the old listener is steered; the old connection goes on.
    assert_eq!(actor.does(&pod, &format!("get {ADDRESS} 8080 /new")), format!("app {ADDRESS}"));
    assert_eq!(actor.does(&pod, "again old"), format!("app {ADDRESS}"));
    assert_eq!(steered(&captured), (1, 1));
    eventually_recorded(&captured, &["Inbound /new", "Outbound /new"]);
    // No hook sees it close. Who calls first finds out, and the next is refused as without us.
    assert_eq!(actor.does(&pod, "close app"), "closed");
    drop(actor.does(&pod, &format!("get {ADDRESS} 8080 /gone")));
    eventually("the kernel refuses by itself", || {
        let before = steered(&captured).1;
        let answer = actor.does(&pod, &format!("get {ADDRESS} 8080 /gone"));
        (answer == "error ConnectionRefusedError" && steered(&captured).1 == before).then_some(())
    });
    assert_eq!(captured.target.listening(), []);
}

#[test]
fn datagrams_are_shown_with_their_process_when_something_was_sent() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let captured = agent.capture(&pod);
    pod.namespace.ip(&["link", "set", "eth0", "up"]);
    eventually("the hooks know the way", || {
        // A resolver only asks for the way.
        assert_eq!(actor.does(&pod, "datagram connect 10.7.1.2 443"), "sent");
        Some(())
    });
    assert_eq!(captured.counts().datagram, 0);
    assert_eq!(actor.does(&pod, "datagram send 10.7.1.3 443"), "sent");
    assert_eq!(actor.does(&pod, "datagram sendto 10.7.1.4 53"), "sent");
    assert_eq!(actor.does(&pod, "datagram sendto 127.0.0.1 53"), "sent");
    assert_eq!(captured.counts().datagram, 2);
    let shown = eventually("both are shown", || {
        let (bypasses, others) = captured.target.bypasses();
        (bypasses.len() == 2 && others == 0).then_some(bypasses)
    });
    let shown: Vec<_> = shown
        .iter()
        .map(|bypass| (bypass.destination.to_string(), bypass.process.name.as_str(), bypass.reason, bypass.count))
        .collect();
    let expected = [("10.7.1.3:443", 1), ("10.7.1.4:53", 1)];
    let expected = expected.map(|(to, count)| (to.to_owned(), "python3", "datagram", count));
    assert_eq!(shown, expected);
}

#[test]
fn what_is_not_steered_is_recorded_and_shown_with_its_process() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let captured = agent.attach(&pod);
    actor.does(&pod, &format!("listen app {ADDRESS} 8080"));
    assert_eq!(actor.does(&pod, &format!("get {ADDRESS} 8080 /off")), format!("app {ADDRESS}"));
    eventually("it is recorded", || (captured.records.connections() == 1).then_some(()));
    let (bypasses, _) = captured.target.bypasses();
    let [bypass] = &bypasses[..] else { panic!("{bypasses:?}") };
    assert_eq!((bypass.destination.port(), bypass.process.name.as_str(), bypass.reason), (8080, "python3", "off"));
    assert_eq!(captured.counts().direct.off, 1);
}

#[test]
fn a_pod_that_is_captured_again_at_once_stays_captured() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let first = agent.capture(&pod);
    actor.does(&pod, &format!("listen app {ADDRESS} 8080"));
    actor.does(&pod, &format!("listen gone {ADDRESS} 8081"));
    assert_eq!(actor.does(&pod, &format!("get {ADDRESS} 8080 /first")), format!("app {ADDRESS}"));
    eventually_recorded(&first, &["Inbound /first", "Outbound /first"]);
    drop(first.end());
    // While nobody looks.
    assert_eq!(actor.does(&pod, "close gone"), "closed");
    let again = agent.capture(&pod);
    for round in 1..=2 {
        assert_eq!(actor.does(&pod, &format!("get {ADDRESS} 8080 /again")), format!("app {ADDRESS}"));
        assert_eq!(steered(&again), (round, round));
        if round == 1 {
            // Long enough for what the first has left to be taken out.
            std::thread::sleep(std::time::Duration::from_secs(8));
        }
    }
    let before = steered(&again).1;
    drop(actor.does(&pod, &format!("get {ADDRESS} 8081 /gone")));
    assert_eq!(steered(&again).1, before, "nobody listens there any more");
}

#[test]
fn a_container_from_which_the_hooks_are_taken_is_left_alone_and_the_other_is_not() {
    let (agent, mut actor, pod) = (Agent::start(), Actor::start(), Pod::new("pod"));
    let captured = agent.capture(&pod);
    let other = Group::new();
    let attached = captured.target.attach(&other.path).unwrap();
    actor.does(&pod, &format!("listen app {ADDRESS} 8080"));
    actor.does_in(&pod, &other, &format!("listen other {ADDRESS} 8081"));
    let mut steered_in = |port: u16| {
        let before = steered(&captured).1;
        assert!(!actor.does(&pod, &format!("get {ADDRESS} {port} /")).starts_with("error"));
        steered(&captured).1 - before
    };
    assert_eq!((steered_in(8080), steered_in(8081)), (1, 1));
    drop(attached);
    assert_eq!((steered_in(8080), steered_in(8081)), (1, 0));
    let attached = captured.target.attach(&other.path).unwrap();
    assert_eq!((steered_in(8080), steered_in(8081)), (1, 1));
    drop(attached);
}

#[test]
fn hooks_are_known_to_be_gone_with_their_group() {
    let (agent, pod) = (Agent::start(), Pod::new("pod"));
    let captured = agent.capture(&pod);
    assert!(captured.target.is_attached() && captured.attached.is_attached());
    std::fs::remove_dir(&pod.group.path).unwrap();
    eventually("the kernel takes them off", || (!captured.attached.is_attached()).then_some(()));
    assert!(captured.target.is_attached());
    // A container that starts again has a group of its own.
    std::fs::create_dir(&pod.group.path).unwrap();
    assert!(captured.target.attach(&pod.group.path).unwrap().is_attached());
}
