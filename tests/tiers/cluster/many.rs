//! Many pods: how long, how much memory, how much of a processor; pods that come and go; and an API server that is away.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::pod::BarePod;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, memory, records};
use serde_json::{Value, json};

use crate::support::{all_answering, annotated, asks, serving};

const PODS: usize = 250;
/// How long it is watched while it rests.
const REST: Duration = Duration::from_secs(20);
/// The bar, for a program that was built for speed.
const MEMORY: u64 = 45 << 20;

/// Pods that come and go together; and for how long others follow them with their addresses, in a soak and else. What a
/// pod costs the test (control groups, a namespace, a cable, three calls to the API server, two programs) is what bounds
/// how many a second there are.
const AT_A_TIME: usize = 20;
const LANES: [&str; 3] = ["one", "other", "third"];
const CHURNED: Duration = Duration::from_secs(60);
const SOAKED: Duration = Duration::from_secs(300);

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
    let worker = agent.worker().unwrap();
    let spent = used(worker);
    agent.until_ready().unwrap();
    // What it has to tell the API server of them is told.
    let is_told = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "nodetap.io/Capturing"))
    };
    eventually(Duration::from_secs(60), "all conditions", || {
        let list = cluster.api("GET", "/api/v1/namespaces/default/pods", None).ok()?;
        (list["items"].as_array()?.iter().filter(|pod| is_told(pod)).count() == PODS).then_some(())
    })
    .unwrap();
    let (before, since) = (used(worker) + used(agent.keeper()), Instant::now());
    // What is measured is what it does while nothing happens.
    sleep(REST);
    let busy = (used(worker) + used(agent.keeper()) - before) / since.elapsed().as_secs_f64();
    let resident = memory::resident(worker).unwrap() + memory::resident(agent.keeper()).unwrap();
    let divided = memory::proportional(worker).unwrap() + memory::proportional(agent.keeper()).unwrap();
    println!(
        "{PODS} pods held {took:?} after the start, for {spent} s of a processor; {} MiB resident ({} with what both \
         processes share counted once), {:.2} % of a processor idle, {} descriptors, {} threads",
        resident >> 20,
        divided >> 20,
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

/// Pods that come, answer once, and go, again and again with the same addresses; how many there were.
fn churn(shop: &str, lane: &str, agent: &Agent, peer: &BarePod<'_>, lasts: Duration) -> usize {
    let (cluster, wanted) = (Cluster::shared().unwrap(), json!({"nodetap.io/inject": "true"}));
    let named = |turn: usize| -> Vec<Value> {
        (0..AT_A_TIME).map(|number| annotated(shop, &format!("{lane}-{turn}-{number}"), &wanted)).collect()
    };
    let mut pods = cluster.bare_pods(&named(0)).unwrap();
    let numbers: Vec<u32> = pods.iter().map(BarePod::number).collect();
    let (mut asked, begun) = (0, Instant::now());
    for turn in 0.. {
        let servers = all_answering(&pods);
        agent.until_all(&pods, "capturing").unwrap();
        for (number, web) in pods.iter().enumerate() {
            let at = format!("{}:8080", web.address()).parse().unwrap();
            http::get_over(peer.dial(at).unwrap(), &format!("/{lane}-{turn}-{number}")).unwrap();
        }
        asked += pods.len();
        drop(servers);
        let uids: Vec<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        BarePod::delete_all(pods).unwrap();
        let is_theirs = |target: &Value| uids.iter().any(|uid| target["uid"] == uid.as_str());
        let gone = || agent.targets().ok().filter(|targets| !targets.iter().any(is_theirs));
        eventually(DEADLINE, "the end of pods", gone).unwrap();
        if begun.elapsed() >= lasts {
            break;
        }
        pods = cluster.bare_pods_as(&numbers, &named(turn + 1)).unwrap();
    }
    asked
}

#[test]
fn pods_that_come_and_go_with_the_same_address_are_told_apart_and_leave_nothing() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (&cluster.namespace().unwrap(), Node::new().unwrap());
    let peer = &cluster.bare_pod(&nodetap_tests::cluster::pod::manifest(shop, "peer", &[("app", 8080)])).unwrap();
    let running = Agent::ready(cluster, &node, 21, &[]).unwrap();
    let agent = &running;
    let lasts = if std::env::var_os("NODETAP_BARS").is_some() { SOAKED } else { CHURNED };
    let worker = agent.worker().unwrap();
    // Until there is what stays.
    let first = churn(shop, "first", agent, peer, Duration::ZERO);
    let (before, spent, begun) = ((descriptors(worker), threads(worker)), used(worker), Instant::now());
    let later: usize = std::thread::scope(|scope| {
        LANES.map(|lane| scope.spawn(move || churn(shop, lane, agent, peer, lasts))).map(|lane| lane.join().unwrap())
    })
    .iter()
    .sum();
    let (took, spent) = (begun.elapsed().as_secs_f64(), used(worker) - spent);
    let after = eventually(DEADLINE, "as few descriptors and threads as before", || {
        let now = (descriptors(worker), threads(worker));
        (now.0 <= before.0 + 2 && now.1 <= before.1).then_some(now)
    });
    println!(
        "{later} pods, {:.1} a second, {:.1} ms of a processor of the agent for each; descriptors and threads after the \
         first {first} {before:?}, after all {:?}",
        later as f64 / took,
        spent * 1e3 / later as f64,
        after.unwrap()
    );
    let found = records::eventually_of_kind(&node.records, "exchange", first + later).unwrap();
    for record in found {
        let url = record["request"]["url"].as_str().unwrap();
        assert!(url.ends_with(record["target"]["name"].as_str().unwrap()), "{record}");
    }
    let page = agent.page("/metrics").unwrap();
    let of_churn = ["first"].iter().chain(&LANES).any(|lane| page.contains(&format!("pod=\"{lane}-")));
    assert!(!of_churn, "{page}");
    running.end().unwrap();
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
