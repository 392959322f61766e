//! What happens to pods, one case after the other.

use super::world::{NAMESPACE, World, container, found};
use crate::pod::observed::{Failure, Listener, NamespaceId, Place};
use crate::pod::plan::{DRAIN, LINGER, MOST_PODS, QUIET, Step, plan_refused, refused_beside};
use crate::pod::refusal::Refusal;
use crate::pod::samples::listening;
use crate::pod::state::{Off, State};

const ASKED: (&str, &str) = ("inject", "true");
const DUAL: (&str, &str) = ("proxy-type", "dual");

#[test]
fn a_pod_that_asks_is_captured_and_says_so() {
    let mut world = World::web(&[ASKED]);
    assert_eq!(
        world.done(),
        [
            "enter network namespace 4:4026532000",
            "open the steered listeners",
            "attach to app-1 at /kubepods/podu1/app-1",
            "steer inbound and outbound",
        ]
    );
    assert_eq!(world.state(), State::Capturing);
    let condition = world.reported();
    assert_eq!((condition.status, condition.reason), (true, "Capturing"));
    assert_eq!(
        condition.message,
        r#"{"mode":"transparent","listeners":[{"for":"steered"}],"ports":[8080],"containers":["app"]}"#
    );
    assert!(world.events().is_empty());
}

#[test]
fn explicit_listeners_stand_where_they_are_looked_for() {
    let mut world = World::web(&[ASKED, DUAL]);
    assert_eq!(
        world.done()[1..3],
        [
            "open inbound port 4143 on 10.0.0.9, 127.0.0.1, ::1, fd00::9, leading to 8080",
            "open outbound port 4140 on 127.0.0.1, ::1",
        ]
    );
    assert_eq!(
        world.reported().message,
        r#"{"mode":"dual","listeners":[{"for":"inbound","port":4143,"application":8080,"addresses":["10.0.0.9","127.0.0.1","::1","fd00::9"]},{"for":"outbound","port":4140,"addresses":["127.0.0.1","::1"]}],"ports":[8080],"containers":["app"]}"#
    );
    let mut meshed = World::running(&[container("app", &[8080]), container("istio-proxy", &[])], &[ASKED, DUAL]);
    let done = meshed.done();
    assert!(done.contains(&"open inbound port 4143 on 127.0.0.1, ::1, leading to 8080".into()), "{done:?}");
    assert!(!done.iter().any(|step| step.contains("istio-proxy")), "{done:?}");
    assert!(matches!(meshed.state(), State::Degraded(_)));
    assert!(meshed.events()[0].contains("proxy-type transparent"));
}

#[test]
fn a_pod_that_is_being_made_is_waited_for() {
    let mut world = World::web(&[ASKED]);
    let whole = world.clone();
    world.pod.as_mut().unwrap().addresses.clear();
    let waits = |world: &mut World, why: &str| {
        assert_eq!(world.done(), [""; 0]);
        let State::Pending(said) = world.state() else { panic!("{:?}", world.state()) };
        assert!(said.contains(why), "{said}");
        assert_eq!((world.reported().status, world.reported().reason), (false, "Pending"));
        assert!(world.plan().is_settled());
    };
    waits(&mut world, "no address");
    world.pod = whole.pod.clone();
    world.observed.place = Place::Unknown;
    waits(&mut world, "not known");
    world.observed.place = Place::Missing("no process is in it".into());
    waits(&mut world, "no process is in it");
    world.observed.place = whole.observed.place.clone();
    assert_eq!(world.done().len(), 4);
}

#[test]
fn a_container_that_restarts_is_attached_again_and_nothing_else_moves() {
    let mut world = World::web(&[ASKED, DUAL, ("proxy-in-port", "5000")]);
    world.done();
    world.observed.cgroups.clear();
    world.observed.listening.clear();
    assert_eq!(world.done(), ["detach from app-1"]);
    assert!(matches!(world.state(), State::Pending(_)));
    // The control group is there before the API server knows its name.
    world.observed.cgroups.insert("app-2".into(), "/kubepods/podu1/app-2".into());
    assert_eq!(world.done(), ["attach to app-2 at /kubepods/podu1/app-2"]);
    world.pod.as_mut().unwrap().containers[0].id = Some("app-2".into());
    world.observed.listening.insert(listening("0.0.0.0", 8080, "app-2"));
    assert_eq!(world.done(), [""; 0]);
    assert_eq!(world.state(), State::Capturing);
}

#[test]
fn a_control_group_without_a_name_may_be_a_proxy() {
    let mut world = World::running(&[container("app", &[8080]), container("istio-proxy", &[])], &[ASKED]);
    world.done();
    world.observed.cgroups.insert("new".into(), "/kubepods/podu1/new".into());
    assert_eq!(world.done(), [""; 0]);
    world.pod.as_mut().unwrap().containers[0].id = Some("new".into());
    assert_eq!(world.done(), ["attach to new at /kubepods/podu1/new", "detach from app-1"]);
}

#[test]
fn init_and_ephemeral_containers_are_captured_while_they_run() {
    use crate::pod::facts::{Container, Kind};
    let init = Container { kind: Kind::Init, ..container("setup", &[]) };
    let sidecar = Container { kind: Kind::Sidecar, ..container("logger", &[]) };
    let proxy = Container { kind: Kind::Sidecar, ..container("istio-proxy", &[]) };
    let mut world = World::running(&[init, sidecar, proxy], &[ASKED]);
    let done = world.done();
    for name in ["setup", "logger"] {
        assert!(done.contains(&format!("attach to {name}-1 at /kubepods/podu1/{name}-1")), "{done:?}");
    }
    world.observed.cgroups.remove("setup-1");
    assert_eq!(world.done(), ["detach from setup-1"]);
    world.pod.as_mut().unwrap().containers.push(Container { kind: Kind::Ephemeral, ..container("debug", &[]) });
    world.observed.cgroups.insert("debug-1".into(), "/d".into());
    assert_eq!(world.done(), ["attach to debug-1 at /d"]);
}

#[test]
fn a_new_sandbox_is_entered_and_the_old_one_left_at_once() {
    let mut world = World::web(&[ASKED, DUAL]);
    world.done();
    world.observed.held.as_mut().unwrap().listeners.values_mut().for_each(|open| open.connections = 7);
    let next = NamespaceId { inode: 99, ..NAMESPACE };
    world.observed.place = found(next);
    let done = world.done();
    assert_eq!(
        done[..4],
        [
            "end inbound port 4143",
            "end outbound port 4140",
            "leave the network namespace",
            "enter network namespace 4:99"
        ]
    );
    assert_eq!((world.held().namespace, world.state()), (next, State::Capturing));
}

#[test]
fn lists_change_without_a_restart() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.annotate(&[ASKED, ("ignore-dst-ips", "10.0.0.0/8"), ("capture-node-traffic", "true")]);
    let plan = world.plan();
    let [Step::Set(config)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert!(config.capture_node_traffic && config.outbound.networks.len() == 1);
    assert_eq!(world.done(), [""; 0]);
    // All of it, too: the hooks count what they leave alone.
    world.annotate(&[ASKED, ("ignore-src-ips", "*")]);
    let plan = world.plan();
    assert!(matches!(&plan.steps[..], [Step::Set(config)] if config.inbound.all), "{:?}", plan.steps);
    assert_eq!((world.done(), world.state()), (vec![], State::Capturing));
}

#[test]
fn whoever_takes_the_annotation_away_is_let_go_without_a_cut() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.observed.held.as_mut().unwrap().listeners.get_mut(&Listener::Steered).unwrap().connections = 1;
    world.annotate(&[]);
    assert_eq!(world.done(), ["steer nothing", "record nothing more of the steered listeners"]);
    assert_eq!((world.state(), world.reported().status), (State::Draining(Off::NotAsked), false));
    assert_eq!(world.later(QUIET), [""; 0]);
    assert_eq!(world.plan().wake, Some(1_000_000 + DRAIN));
    // It is asked for again meanwhile.
    let mut again = world.clone();
    again.annotate(&[ASKED]);
    assert_eq!(again.done(), ["record the steered listeners again", "steer inbound and outbound"]);
    world.observed.held.as_mut().unwrap().listeners.get_mut(&Listener::Steered).unwrap().connections = 0;
    assert_eq!(world.done(), ["end the steered listeners", "leave the network namespace"]);
    assert_eq!((world.state(), world.reported().reason), (State::Off(Off::NotAsked), "NotAsked"));
}

#[test]
fn what_does_not_end_is_cut_in_the_end() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.observed.held.as_mut().unwrap().listeners.get_mut(&Listener::Steered).unwrap().connections = 1;
    world.annotate(&[]);
    world.done();
    assert_eq!(world.later(DRAIN - 1), [""; 0]);
    assert_eq!(world.later(1), ["end the steered listeners", "leave the network namespace"]);
}

#[test]
fn the_applications_own_proxy_is_never_taken_away() {
    for annotations in [&[][..], &[ASKED, ("proxy-type", "daul")]] {
        let mut world = World::web(&[ASKED, DUAL]);
        world.done();
        world.annotate(annotations);
        let retired = ["record nothing more of inbound port 4143", "record nothing more of outbound port 4140"];
        // No program is steered any more, and none is looked at.
        assert_eq!(world.done(), [&retired[..], &["detach from app-1"]].concat());
        assert_eq!(world.later(LINGER), ["end inbound port 4143"]);
        assert_eq!(world.later(10 * DRAIN), [""; 0]);
        assert!(world.reported().message.contains("outbound port 4140 goes on passing traffic"));
        assert!(!world.reported().status);
        // Until the pod is gone.
        world.pod = None;
        assert_eq!(world.done(), [""; 0]);
        world.observed.cgroups.clear();
        assert_eq!(world.done(), ["end outbound port 4140", "leave the network namespace"]);
        assert_eq!(world.observed.held, None);
    }
}

#[test]
fn an_inbound_port_is_served_a_while_and_its_connections_longer() {
    let mut world = World::web(&[ASKED, ("proxy-type", "reverse")]);
    world.done();
    world.observed.held.as_mut().unwrap().listeners.values_mut().for_each(|open| open.connections = 1);
    world.annotate(&[]);
    world.done();
    assert_eq!(world.later(LINGER - 1), [""; 0]);
    assert_eq!(world.later(1), ["accept nothing more on inbound port 4143"]);
    assert_eq!(world.state(), State::Draining(Off::NotAsked));
    // Wanted again, the port is opened again beside what is left of the old one.
    let mut again = world.clone();
    again.annotate(&[ASKED, ("proxy-type", "reverse")]);
    assert!(again.done()[0].starts_with("open inbound port 4143"));
    assert_eq!(world.later(DRAIN), ["end inbound port 4143", "leave the network namespace"]);
}

#[test]
fn a_mode_changes_without_a_restart() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.annotate(&[ASKED, DUAL]);
    assert_eq!(
        world.done(),
        [
            "open inbound port 4143 on 10.0.0.9, 127.0.0.1, ::1, fd00::9, leading to 8080",
            "open outbound port 4140 on 127.0.0.1, ::1",
            "steer nothing",
            "record nothing more of the steered listeners",
        ]
    );
    assert_eq!(world.later(QUIET), ["end the steered listeners"]);
    world.annotate(&[ASKED, DUAL, ("proxy-port", "9090")]);
    assert_eq!(world.done(), ["let inbound port 4143 lead to 9090"]);
    // The two listeners change places.
    world.annotate(&[ASKED, DUAL, ("proxy-in-port", "4140"), ("proxy-out-port", "4143")]);
    assert_eq!(
        world.done(),
        [
            "record nothing more of outbound port 4140",
            "end outbound port 4140",
            "open inbound port 4140 on 10.0.0.9, 127.0.0.1, ::1, fd00::9, leading to 8080",
            "record nothing more of inbound port 4143",
            "end inbound port 4143",
            "open outbound port 4143 on 127.0.0.1, ::1",
        ]
    );
}

#[test]
fn a_slip_of_the_hand_is_said_and_touches_nothing() {
    let mut world = World::web(&[ASKED, ("proxy-type", "tranparent"), ("ignor-dst-ips", "10.0.0.0/8")]);
    assert_eq!(world.done(), [""; 0]);
    assert!(matches!(world.state(), State::Refused(_)));
    assert_eq!(
        world.events(),
        [
            "InvalidAnnotation: not captured: nodetap.io/proxy-type: \"tranparent\" (on the pod) is not accepted; \
             accepted: transparent, reverse, forward, dual; did you mean \"transparent\"?",
            "UnknownAnnotation: nodetap.io/ignor-dst-ips (on the pod) is no annotation of nodetap; did you mean \
             nodetap.io/ignore-dst-ips?",
        ]
    );
    assert_eq!((world.reported().status, world.reported().reason), (false, "InvalidAnnotation"));
    assert_eq!(world.observed.held, None);
}

#[test]
fn pods_that_never_asked_carry_nothing_of_ours() {
    let mut world = World::web(&[]);
    assert_eq!(world.done(), [""; 0]);
    assert_eq!((&world.observed.reported, world.observed.said.len()), (&None, 0));
}

#[test]
fn a_pause_stops_all_of_it_at_once() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.paused = true;
    assert_eq!(world.done()[0], "steer nothing");
    assert_eq!(world.later(QUIET), ["end the steered listeners", "leave the network namespace"]);
    assert_eq!(world.reported().reason, "Paused");
    world.paused = false;
    assert_eq!(world.done().len(), 4);
}

#[test]
fn a_pod_that_ends_is_served_to_its_end() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.pod = None;
    world.observed.cgroups.clear();
    assert_eq!(world.done(), ["end the steered listeners", "leave the network namespace"]);
    let mut world = World::web(&[ASKED]);
    world.done();
    world.pod.as_mut().unwrap().ended = true;
    world.observed.cgroups.clear();
    assert_eq!(world.done().len(), 2);
    assert_eq!(world.reported().reason, "Ended");
}

#[test]
fn what_fails_is_named_and_tried_again_later() {
    let mut world = World::web(&[ASKED]);
    world.settle(&mut |step| matches!(step, Step::Attach { .. }));
    let State::Degraded(why) = world.state() else { panic!("{:?}", world.state()) };
    assert_eq!(why.first().unwrap(), "connections of the container app are not seen: it may not be");
    let plan = world.plan();
    assert_eq!(plan.wake, world.observed.failures.get("attach: app-1").map(|failure| failure.until));
    assert!(world.held().steering.any(), "the rest goes on");
    assert_eq!(world.later(60_000), ["attach to app-1 at /kubepods/podu1/app-1"]);
    assert_eq!(world.state(), State::Capturing);
}

#[test]
fn what_does_not_answer_is_not_steered_to() {
    let mut world = World::web(&[ASKED]);
    world.done();
    world.observed.held.as_mut().unwrap().listeners.get_mut(&Listener::Steered).unwrap().verified = false;
    world.settle(&mut |step| matches!(step, Step::Verify(_)));
    assert!(!world.held().steering.any());
    assert!(matches!(world.state(), State::Degraded(_)));
    assert!(!world.reported().status);
    assert_eq!(world.later(60_000), ["see whether the steered listeners answers", "steer inbound and outbound"]);
}

#[test]
fn a_port_that_is_taken_is_refused_when_somebody_counts_on_it() {
    let mut world = World::web(&[ASKED, DUAL]);
    world.observed.listening.insert(listening("127.0.0.1", 4140, "app-1"));
    assert_eq!(world.done(), [""; 0]);
    assert_eq!(world.reported().reason, "PortTaken");
    world.observed.listening.retain(|one| one.port != 4140);
    world.observed.listening.insert(listening("127.0.0.1", 4143, "app-1"));
    assert!(world.done()[1].contains("inbound port 4144"));
}

#[test]
fn older_connections_are_closed_once_when_that_is_asked() {
    let mut world = World::web(&[ASKED, ("reset-older-connections", "true")]);
    assert_eq!(world.done().last().unwrap(), "close idle connections that are older");
    assert_eq!(world.later(1000), [""; 0]);
}

#[test]
fn older_connections_that_cannot_be_closed_are_told_and_everything_else_is_captured() {
    let mut world = World::web(&[ASKED, ("reset-older-connections", "true")]);
    world.settle(&mut |step| matches!(step, Step::CloseOlder));
    assert!(world.reported().status && world.reported().message.contains("it may not be"));
    assert_eq!(world.reported().reason, "Degraded");
    world.later(60_000);
    assert_eq!(world.state(), State::Capturing);
}

#[test]
fn an_application_without_a_port_is_waited_for() {
    let mut world = World::running(&[container("app", &[])], &[ASKED, ("proxy-type", "reverse")]);
    world.done();
    assert!(matches!(world.state(), State::Pending(_)));
    world.observed.listening.insert(listening("0.0.0.0", 3000, "app-1"));
    assert_eq!(world.done().len(), 1);
    assert_eq!(world.state(), State::Capturing);
}

#[test]
fn problems_of_others_are_told_too() {
    let mut world = World::web(&[ASKED, ("tls-in-secret", "web-tls")]);
    world.observed.problems.insert("tls-in-secret: Secret shop/web-tls is not there".into());
    world.done();
    assert!(world.reported().status && world.reported().message.contains("shop/web-tls"));
    assert_eq!(world.reported().reason, "Degraded");
}

#[test]
fn two_pods_are_never_in_one_network() {
    let mut one = World::web(&[ASKED]);
    one.done();
    let mut two = World::web(&[ASKED]);
    two.pod.as_mut().unwrap().name = "web-2".into();
    let (wanted, other) = (one.wanted().unwrap(), two.wanted().unwrap());
    for (seen, beside) in [(&one, (&other, &two.observed)), (&two, (&wanted, &one.observed))] {
        let refusal = refused_beside(&seen.observed, [beside].into_iter()).unwrap();
        let plan = plan_refused(seen.wanted().as_ref(), refusal, &seen.observed, seen.now);
        assert_eq!(plan.state.reason(), "SharedNetwork");
        assert_eq!(plan.steps[0].is_work(), seen.observed.held.is_some(), "what is held is let go");
    }
    two.annotate(&[]);
    assert_eq!(refused_beside(&one.observed, [(&two.wanted().unwrap(), &two.observed)].into_iter()), None);
}

#[test]
fn a_node_has_a_limit_and_those_that_are_captured_stay() {
    let mut held = World::web(&[ASKED]);
    held.done();
    held.observed.place = Place::Unknown;
    let (wanted, new) = (held.wanted().unwrap(), World::web(&[ASKED]));
    let beside = |many: usize| std::iter::repeat_n((&wanted, &held.observed), many);
    assert_eq!(refused_beside(&new.observed, beside(MOST_PODS - 1)), None);
    assert_eq!(refused_beside(&new.observed, beside(MOST_PODS)), Some(Refusal::NodeFull(MOST_PODS)));
    assert_eq!(refused_beside(&held.observed, beside(MOST_PODS)), None);
}

#[test]
fn a_failure_is_forgotten_when_it_is_over() {
    let mut world = World::web(&[ASKED]);
    let failure = Failure::next(None, "no", world.now);
    world.observed.failures.insert("enter".into(), failure);
    assert_eq!(world.done(), [""; 0]);
    assert!(world.reported().message.contains("cannot be entered: no"));
    assert_eq!(world.later(1000).len(), 4);
    assert_eq!(world.state(), State::Capturing);
}
