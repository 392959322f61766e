//! Many pods: how long, how much memory, how much of a processor; pods that come and go; and an API server that is away.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, memory, records};
use serde_json::json;

use crate::support::{annotated, asks, serving};

const PODS: usize = 250;
/// As issue 5 has it; for a program that was built for speed.
const MEMORY: u64 = 45 << 20;

/// Seconds of processor time that a process has used.
fn used(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn two_hundred_and_fifty_pods_are_captured_within_seconds_and_in_little_memory() {
    let cluster = Cluster::up().unwrap();
    let node = Node::new().unwrap();
    let wanted = json!({"nodetap.io/inject": "true"});
    let manifests: Vec<_> = (0..PODS).map(|number| annotated("default", &format!("many-{number}"), &wanted)).collect();
    let pods = cluster.bare_pods(&manifests).unwrap();
    let started = Instant::now();
    let agent = Agent::start(&cluster, &node, 20, &[]).unwrap();
    let all = eventually(Duration::from_secs(60), "all pods", || {
        let targets = agent.targets().ok()?;
        (targets.len() == PODS && targets.iter().all(|target| target["netns"].is_u64())).then(|| started.elapsed())
    });
    let took = all.unwrap();
    agent.until_ready().unwrap();
    let worker = agent.worker().unwrap();
    sleep(Duration::from_secs(5));
    let (before, since) = (used(worker) + used(agent.keeper()), Instant::now());
    sleep(Duration::from_secs(20));
    let busy = (used(worker) + used(agent.keeper()) - before) / since.elapsed().as_secs_f64();
    let resident = memory::resident(worker).unwrap() + memory::resident(agent.keeper()).unwrap();
    println!(
        "{PODS} pods held {took:?} after the start; {} MiB resident, {:.2} % of a processor idle, {} descriptors, {} threads",
        resident >> 20,
        busy * 100.0,
        descriptors(worker),
        threads(worker)
    );
    let optimised = std::env::var_os("NODETAP_OPTIMISED").is_some();
    bar(took < Duration::from_secs(if optimised { 2 } else { 15 }), &format!("all held after {took:?}"));
    assert!(resident < if optimised { MEMORY } else { 4 * MEMORY }, "{} MiB", resident >> 20);
    bar(busy < if optimised { 0.01 } else { 0.05 }, &format!("{busy} of a processor when idle"));
    drop(pods);
    agent.end().unwrap();
}

#[test]
fn pods_that_come_and_go_with_the_same_address_are_told_apart_and_leave_nothing() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let peer = cluster.bare_pod(&nodetap_tests::cluster::pod::manifest(&shop, "peer", &[("app", 8080)])).unwrap();
    let agent = Agent::ready(cluster, &node, 21, &[]).unwrap();
    let wanted = json!({"nodetap.io/inject": "true"});
    let first = cluster.bare_pod(&annotated(&shop, "turn-0", &wanted)).unwrap();
    let number = first.number();
    let mut pod = Some(first);
    let (mut before, mut asked) = ((0, 0), Vec::new());
    for turn in 0..12 {
        let web = match pod.take() {
            Some(pod) => pod,
            None => cluster.bare_pod_as(number, &annotated(&shop, &format!("turn-{turn}"), &wanted)).unwrap(),
        };
        let server = serving(&web, "app");
        agent.until(&web, "capturing").unwrap();
        let at = format!("{}:8080", web.address()).parse().unwrap();
        http::get_over(peer.dial(at).unwrap(), &format!("/turn-{turn}")).unwrap();
        asked.push(format!("turn-{turn}"));
        drop(server);
        web.delete().unwrap();
        let gone = || agent.targets().ok().filter(Vec::is_empty);
        eventually(DEADLINE, "the end of a pod", gone).unwrap();
        if turn == 1 {
            let worker = agent.worker().unwrap();
            before = (descriptors(worker), threads(worker));
        }
    }
    let worker = agent.worker().unwrap();
    let after = eventually(DEADLINE, "as few descriptors and threads as before", || {
        let now = (descriptors(worker), threads(worker));
        (now.0 <= before.0 + 2 && now.1 <= before.1).then_some(now)
    });
    println!("descriptors and threads after two pods: {before:?}, after twelve: {:?}", after.unwrap());
    let found = records::eventually_of_kind(&node.records, "exchange", asked.len()).unwrap();
    for record in found {
        let url = record["request"]["url"].as_str().unwrap();
        assert!(url.ends_with(record["target"]["name"].as_str().unwrap()), "{record}");
    }
    let page = agent.page("/metrics").unwrap();
    assert!(!page.contains("pod=\"turn-"), "{page}");
    agent.end().unwrap();
}

#[test]
fn an_api_server_that_is_away_changes_nothing_for_what_is_captured() {
    let cluster = Cluster::up().unwrap();
    let node = Node::new().unwrap();
    let wanted = json!({"nodetap.io/inject": "true"});
    let web = cluster.bare_pod(&annotated("default", "web", &wanted)).unwrap();
    let peer = cluster.bare_pod(&annotated("default", "peer", &json!({}))).unwrap();
    let (_web, _peer) = (serving(&web, "app"), serving(&peer, "app"));
    let agent = Agent::ready(&cluster, &node, 22, &[]).unwrap();
    agent.until(&web, "capturing").unwrap();
    cluster.api_server_away().unwrap();
    eventually(DEADLINE, "that the agent says so", || {
        agent.page("/readyz").ok().filter(|page| page.contains("API server: "))
    })
    .unwrap();
    let at = format!("{}:8080", web.address()).parse().unwrap();
    http::get_over(peer.dial(at).unwrap(), "/away").unwrap();
    asks(&web, "app", &format!("http://{}:8080/away", peer.address()));
    records::eventually_of_kind(&node.records, "exchange", 2).unwrap();
    cluster.api_server_back().unwrap();
    eventually(Duration::from_secs(60), "that all is well again", || {
        agent.page("/readyz").ok().filter(|page| !page.contains("API server: "))
    })
    .unwrap();
    assert!(agent.metric("nodetap_api_failures_total{call=\"pods\",class=\"unreachable\"}").unwrap() > 0.0);
    web.annotate(&json!({"nodetap.io/inject": "false"})).unwrap();
    eventually(DEADLINE, "that it hears again", || agent.targets().ok().filter(Vec::is_empty)).unwrap();
    agent.end().unwrap();
}
