//! Ten thousand pods to which anything happens in any order. Whatever does: plans come to an end, keep the rules that
//! [`super::world`] asserts, do not depend on the order of what they are given, and leave nothing behind.

use std::collections::BTreeSet;

use super::world::{World, container, found};
use crate::pod::decision::is_captured;
use crate::pod::dice::Dice;
use crate::pod::facts::Kind;
use crate::pod::observed::{Listener, NamespaceId, Place};
use crate::pod::plan::{DRAIN, LINGER, Step};
use crate::pod::samples::listening;
use crate::pod::state::State;
use crate::pod::wish::Wish;

const NAMES: [&str; 5] = ["app", "worker", "istio-proxy", "debug", "setup"];
const PORTS: [u16; 8] = [80, 3000, 8080, 9090, 4140, 4143, 4144, 15090];
const WORDS: [(&str, &[&str]); 10] = [
    ("inject", &["true", "true", "true", "true", "false", "ture"]),
    ("proxy-type", &["transparent", "reverse", "forward", "dual", "dual", "daul"]),
    ("proxy-port", &["8080", "8080,9090", "3000"]),
    ("proxy-in-port", &["4143", "5000", "4140"]),
    ("proxy-out-port", &["4140", "5000", "4144"]),
    ("ignore-src-ips", &["*", "10.0.0.0/8", "fd00::/8"]),
    ("ignore-inbound-ports", &["9090", "8080"]),
    ("containers", &["app", "app,worker"]),
    ("reset-older-connections", &["true"]),
    ("injct", &["true"]),
];

fn annotate(dice: &mut Dice, world: &mut World) {
    let mut said = vec![("inject", "true")];
    for (key, values) in WORDS {
        if dice.one_in(if key == "inject" { 4 } else { 3 }) {
            said.retain(|(other, _)| *other != key);
            said.push((key, *dice.pick(values)));
        }
    }
    if dice.one_in(8) {
        said.clear();
    }
    if world.pod.is_some() {
        world.annotate(&said);
    }
}

fn pod(dice: &mut Dice) -> World {
    let mut containers = Vec::new();
    for name in &NAMES[..=dice.roll(NAMES.len())] {
        let ports: Vec<u16> = (0..dice.roll(3)).map(|_| *dice.pick(&PORTS)).collect();
        let mut one = container(name, &ports);
        one.kind = *dice.pick(&[Kind::App, Kind::App, Kind::Init, Kind::Sidecar, Kind::Ephemeral]);
        containers.push(one);
    }
    let mut world = World::running(&containers, &[]);
    annotate(dice, &mut world);
    world
}

/// Something happens that is not our doing.
fn happens(dice: &mut Dice, world: &mut World) {
    let restart = dice.roll(1000);
    match dice.roll(14) {
        0 | 1 => annotate(dice, world),
        2 => world.paused = !world.paused && dice.one_in(2),
        3 => world.observed.cgroups.clear(),
        4 => {
            // A container restarts; the API server knows of it, or does not yet.
            if let Some(pod) = &mut world.pod {
                let at = dice.roll(pod.containers.len());
                let one = &mut pod.containers[at];
                let id = format!("{}-{restart}", one.name);
                one.id.iter().for_each(|old| drop(world.observed.cgroups.remove(old)));
                world.observed.cgroups.insert(id.clone(), format!("/kubepods/podu1/{id}"));
                if dice.one_in(2) {
                    one.id = Some(id);
                }
            }
        }
        5 => world.observed.place = found(NamespaceId { device: 4, inode: 1 + restart as u64 }),
        6 => {
            let place = [Place::Unknown, Place::Missing("nobody".into()), Place::Gone];
            world.observed.place = dice.pick(&place).clone();
        }
        7 => world.observed.listening.clear(),
        8 => {
            // Nobody can bind what we have.
            let (port, address) = (*dice.pick(&PORTS), *dice.pick(&["0.0.0.0", "127.0.0.1", "::", "::1"]));
            let ours = world.observed.held.iter().flat_map(|held| &held.listeners);
            let taken: BTreeSet<_> = ours.filter(|(_, open)| !open.closed).filter_map(|(one, _)| one.port()).collect();
            let ids: Vec<String> = world.observed.cgroups.keys().cloned().chain([String::new()]).collect();
            if !taken.contains(&port) {
                world.observed.listening.insert(listening(address, port, dice.pick::<String>(&ids)));
            }
        }
        9 => {
            for open in world.observed.held.iter_mut().flat_map(|held| held.listeners.values_mut()) {
                open.connections = dice.roll(3) as u64;
            }
        }
        10 => {
            for open in world.observed.held.iter_mut().flat_map(|held| held.listeners.values_mut()) {
                open.verified &= dice.one_in(2);
            }
        }
        11 => {
            if let Some(pod) = &mut world.pod {
                pod.addresses =
                    if dice.one_in(2) { BTreeSet::new() } else { BTreeSet::from(["10.0.0.9".parse().unwrap()]) };
                pod.host_network = dice.one_in(8);
            }
        }
        12 => world.pod.iter_mut().for_each(|pod| pod.ended |= dice.one_in(8)),
        _ => world.now += [1, 300, 1000, LINGER, DRAIN][dice.roll(5)],
    }
}

/// What is true of every pod when nothing is left to do.
fn check(world: &World, seed: u64) {
    let plan = world.plan();
    let wanted = world.wanted();
    let Some(held) = &world.observed.held else {
        assert_ne!(plan.state, State::Capturing, "{seed}");
        return;
    };
    let recording = held.listeners.values().any(|open| open.retired.is_none());
    let wish = wanted.as_ref().map(|wanted| &wanted.decision.wish);
    if let Some(Wish::Capture(config)) = wish {
        if plan.state == State::Capturing {
            assert!(recording && held.config.as_ref() == Some(config), "{seed}");
            for id in world.observed.cgroups.keys() {
                let one = world.pod.iter().flat_map(|pod| &pod.containers).find(|one| one.id.as_ref() == Some(id));
                let captured = one.is_some_and(|one| is_captured(one, config));
                assert!(!captured || held.attached.contains(id), "{seed}: {id} is captured");
                assert!(captured || one.is_none() || !held.attached.contains(id), "{seed}: {id} is left alone");
            }
        }
    } else {
        assert!(!recording && !held.steering.any(), "{seed}: nothing is captured of a pod that does not ask");
    }
    let condition = world.observed.reported.as_ref();
    assert!(wanted.is_none() || condition.is_none_or(|said| said.status <= recording), "{seed}: never a wrong claim");
    assert!(condition.is_none_or(|said| said.message.len() <= 4096), "{seed}");
}

#[test]
fn whatever_happens_plans_come_to_an_end_and_nothing_is_left() {
    let (mut captured, mut steps) = (0, 0);
    for seed in 0..10_000 {
        let dice = &mut Dice::of(seed);
        let mut world = pod(dice);
        for _ in 0..dice.roll(6) {
            let fails = dice.one_in(3);
            world.settle(&mut |step: &Step| {
                steps += 1;
                // What only speaks, and what lets go, cannot fail for ever.
                let may = !matches!(
                    step,
                    Step::End(_) | Step::Leave | Step::Retire(_) | Step::Steer(_) | Step::Report(_) | Step::Say(_)
                );
                fails && may && dice.one_in(4)
            });
            check(&world, seed);
            captured += usize::from(world.plan().state == State::Capturing);
            happens(dice, &mut world);
        }
        world.observed.failures.clear();
        world.settle(&mut |_| false);
        check(&world, seed);
        let reverse = |world: &World| {
            let mut world = world.clone();
            world.pod.iter_mut().for_each(|pod| pod.containers.reverse());
            world.plan()
        };
        assert_eq!(reverse(&world), world.plan(), "{seed}");
        // The pod goes, as pods do.
        world.pod = None;
        world.observed.cgroups.clear();
        world.settle(&mut |_| false);
        assert_eq!(world.observed.held, None, "{seed}");
    }
    assert!(captured > 5_000 && steps > 50_000, "{captured} {steps}");
}

#[test]
fn after_the_steps_of_a_plan_there_is_only_something_to_say_and_then_nothing() {
    for seed in 0..10_000 {
        let dice = &mut Dice::of(seed);
        let mut world = pod(dice);
        for _ in 0..3 {
            let before = world.clone();
            assert!(world.settle(&mut |_| false) <= 3, "{seed}");
            // In whatever order its facts come, the same is planned.
            let mut shuffled = before.clone();
            shuffled.pod.iter_mut().for_each(|pod| dice.shuffle(&mut pod.containers));
            assert_eq!(shuffled.plan(), before.plan(), "{seed}");
            happens(dice, &mut world);
        }
    }
}

#[test]
fn a_pod_that_does_not_ask_any_more_is_let_go_but_for_its_own_proxy() {
    for seed in 0..2_000 {
        let dice = &mut Dice::of(seed);
        let mut world = pod(dice);
        world.settle(&mut |_| false);
        happens(dice, &mut world);
        world.settle(&mut |_| false);
        let Some(pod) = &mut world.pod else { continue };
        pod.annotations.clear();
        world.paused = false;
        for _ in 0..4 {
            world.settle(&mut |_| false);
            world.now += DRAIN + LINGER;
        }
        world.settle(&mut |_| false);
        let left = world.observed.held.iter().flat_map(|held| held.listeners.keys());
        assert!(left.into_iter().all(|one| matches!(one, Listener::Forward { .. })), "{seed}");
        assert!(world.observed.held.iter().all(|held| held.attached.is_empty()), "{seed}");
    }
}
