//! As many pods as a node has, and pods that come and go. Both look at what this process takes, so each has a process of
//! its own.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nodetap::capture::Ignore;
use nodetap::netlink::routes::Prefix;
use nodetap_core::exchange::{Direction, Event};

use super::pod::{ADDRESS, Actor, Agent, Pod};
use crate::bar;
use crate::place::eventually;

const PODS: usize = 250;
/// From the first to the last of them.
const STEERED_WITHIN: Duration = Duration::from_secs(2);
/// All maps and the programs of all namespaces.
const KERNEL_MEMORY: u64 = 64 << 20;
/// Of one processor.
const IDLE: f64 = 0.01;
/// Pods that come and go, one after the other, some at a time.
const CHURN: usize = 100;
const AT_A_TIME: usize = 5;

#[test]
fn a_full_node_is_steered_at_once_in_little_memory_and_rests_when_its_pods_do() {
    in_a_process_of_its_own("capture::many::a_full_node");
}

#[test]
#[ignore = "run by the test above"]
fn a_full_node() {
    let mut actor = Actor::start();
    let pods: Vec<Pod> = (0..PODS).map(|number| Pod::new(format!("pod-{number}"))).collect();
    let agent = Agent::start();
    let (resident, start) = (status("VmRSS"), Instant::now());
    let captured: Vec<_> = pods.iter().map(|pod| agent.capture(pod)).collect();
    let took = start.elapsed();
    let ours = status("VmRSS") - resident;
    for pod in &pods {
        assert_eq!(actor.does(pod, &format!("listen {} {ADDRESS} 8080", pod.name)), "listens");
    }
    for pod in &pods {
        assert_eq!(actor.does(pod, &format!("get {ADDRESS} 8080 /{}", pod.name)), format!("{} {ADDRESS}", pod.name));
    }
    for (pod, captured) in pods.iter().zip(&captured) {
        let expected = ["Inbound", "Outbound"].map(|direction| format!("{direction} /{}", pod.name));
        eventually("the exchanges are recorded", || (captured.records.exchanges() == expected).then_some(()));
    }
    let memory = kernel_memory();
    // The last connections have ended, and the hooks' events are heard.
    std::thread::sleep(Duration::from_secs(1));
    let (begun, used) = (Instant::now(), processor_time());
    std::thread::sleep(Duration::from_secs(10));
    let idle = (processor_time() - used).as_secs_f64() / begun.elapsed().as_secs_f64();
    eprintln!(
        "{PODS} pods: steered within {took:?}; {} KiB more of us; {} KiB of the kernel's maps and programs; \
         {:.2} % of a processor when idle; {} descriptors",
        ours,
        memory >> 10,
        idle * 100.0,
        descriptors()
    );
    assert!(memory < KERNEL_MEMORY, "{memory} bytes");
    bar(took < STEERED_WITHIN, &format!("all steered within {took:?}"));
    bar(idle < IDLE, &format!("{idle} of a processor when idle"));
}

#[test]
fn pods_that_come_and_go_with_equal_addresses_and_ports_leave_nothing_and_are_never_mistaken() {
    in_a_process_of_its_own("capture::many::churn");
}

#[test]
#[ignore = "run by the test above"]
fn churn() {
    let (agent, mut actor) = (Agent::start(), Actor::start());
    // Every thread of the data plane keeps its own namespace open once it was in another.
    let first = Pod::new("first");
    let captured = agent.capture(&first);
    actor.does(&first, &format!("listen first {ADDRESS} 8080"));
    (0..16).for_each(|_| drop(actor.does(&first, &format!("get {ADDRESS} 8080 /warm-up"))));
    drop(captured.end());
    let entries = || agent.hooks.fill().iter().map(|fill| fill.entries).sum::<usize>();
    let empty = eventually("the maps are empty", || Some(entries()).filter(|entries| *entries <= 1));
    let (descriptors_before, threads_before) = (descriptors(), status("Threads"));
    let ignore = Ignore { prefixes: [Prefix::new("192.0.2.0".parse().unwrap(), 24)].into(), ports: [9].into() };
    for round in 0..CHURN / AT_A_TIME {
        let pods: Vec<Pod> = (0..AT_A_TIME).map(|number| Pod::new(format!("pod-{round}-{number}"))).collect();
        let captured: Vec<_> = pods.iter().map(|pod| agent.capture(pod)).collect();
        for (pod, captured) in pods.iter().zip(&captured) {
            captured.target.ignoring().set(Direction::Inbound, &ignore).unwrap();
            assert_eq!(actor.does(pod, &format!("listen {} {ADDRESS} 8080", pod.name)), "listens");
            assert_eq!(
                actor.does(pod, &format!("open {}/kept {ADDRESS} 8080", pod.name)),
                format!("{} {ADDRESS}", pod.name)
            );
        }
        for pod in &pods {
            let answer = actor.does(pod, &format!("get {ADDRESS} 8080 /{}", pod.name));
            assert_eq!(answer, format!("{} {ADDRESS}", pod.name));
            drop(actor.does(pod, "get 127.0.0.1 2 /refused"));
            drop(actor.does(pod, "get 10.7.1.1 2 /refused"));
            drop(actor.does(pod, "datagram sendto 10.7.1.1 53"));
        }
        for (pod, captured) in pods.iter().zip(captured) {
            // Some end with connections and listeners that are still open.
            if round % 2 == 0 {
                assert_eq!(actor.does(pod, &format!("hang_up {}/kept", pod.name)), "hung up");
                assert_eq!(actor.does(pod, &format!("close {}", pod.name)), "closed");
            }
            actor.leaves(pod);
            let records = captured.end().all();
            let told = records.iter().filter_map(|event| match event {
                Event::Exchange(exchange) => Some((&exchange.connection.target.name, &exchange.request.head)),
                _ => None,
            });
            for (target, head) in told {
                let head = String::from_utf8_lossy(head);
                let own = head.starts_with(&format!("GET /{} ", pod.name)) || head.starts_with("GET /opened ");
                assert!(*target == pod.name && own, "{target}: {head}");
            }
        }
    }
    eventually("the maps are empty", || (entries() == empty).then_some(()));
    eventually("the descriptors are closed", || (descriptors() == descriptors_before).then_some(()));
    assert_eq!(status("Threads"), threads_before);
}

fn in_a_process_of_its_own(test: &str) {
    let mut own = Command::new(std::env::current_exe().unwrap());
    assert!(own.args(["--ignored", "--exact", test, "--nocapture"]).status().unwrap().success());
}

/// A number of `/proc/self/status`.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the kernel holds for the maps and programs that this process has descriptors of, and for the program of each
/// network namespace, which is as large as the others are on average.
fn kernel_memory() -> u64 {
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts: Vec<String> = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
    let number = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    let memory = |with: &str| -> Vec<u64> {
        texts.iter().filter(|text| text.contains(with)).filter_map(|text| number(text, "memlock")).collect()
    };
    let (maps, programs) = (memory("map_type"), memory("prog_type"));
    let each = programs.iter().max().unwrap();
    let of_namespaces = texts.iter().filter(|text| text.contains("netns_ino")).count() as u64;
    maps.iter().sum::<u64>() + programs.iter().sum::<u64>() + of_namespaces * each
}

fn processor_time() -> Duration {
    let of = |text: String| text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let all = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok()).map(of).sum();
    Duration::from_nanos(all)
}
