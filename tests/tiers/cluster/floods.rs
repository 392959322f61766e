//! One pod floods: the others are as fast as the same flood leaves them where nothing is captured, what is kept of it has a
//! limit, and what is refused is counted.

use nodetap_tests::agent::{Agent, Node};
use nodetap_tests::bars::bar;
use nodetap_tests::cluster::Cluster;
use nodetap_tests::cluster::load::{Asked, traffic};
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::memory;
use nodetap_tests::wait::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::support::{TRAFFIC, annotated, answering};

/// How long one measurement takes, in milliseconds, after the flood has gone on for a while; and measurements with and
/// without capture in turn.
const MEASURED: u32 = 2000;
const BEFORE: u32 = 300;
const ROUNDS: usize = 5;
/// Calls of the others, a second: who is served beside a flood has no flood of its own.
const RATE: u32 = 200;
/// The bar: what the calls of others may take beside what they take beside the same flood without capture.
const SLOWER: f64 = 1.3;
/// What `deploy/` lets an agent have.
const MEMORY: u64 = 256 << 20;
/// Connections of a pod that pass through at a time, and those that the flood of connections holds.
const ALLOWED: usize = 256;
const HELD: usize = 512;
/// The floods, and how much of each a second: together with whoever answers it is more than half of what two processors
/// can do, and not more than they can do, because where nothing is left nobody could be faster than anybody.
const FLOODS: [(&str, u32); 4] = [("connections", 1500), ("heads", 10_000), ("bodies", 2000), ("slow", 5000)];

/// Milliseconds that all but one in a hundred calls took at most.
fn p99(caller: &mut Asked) -> f64 {
    caller.answer(&BEFORE.to_string()).unwrap();
    let told: Value = serde_json::from_str(&caller.answer(&MEASURED.to_string()).unwrap()).unwrap();
    told["p99_us"].as_f64().unwrap() / 1000.0
}

/// A client of one pod, which is asked for times.
fn calling(from: &BarePod<'_>, to: &BarePod<'_>) -> Asked {
    let words = ["ask", &format!("{}:8080", to.address()), &RATE.to_string()];
    Asked::start(from, &traffic(TRAFFIC, &words), None).unwrap()
}

/// What a flood came to.
fn flooded(from: &BarePod<'_>, words: &[&str], meanwhile: impl FnOnce()) -> Value {
    let flood = Asked::start(from, &traffic(TRAFFIC, &[&["flood"], words].concat()), Some("flooding")).unwrap();
    meanwhile();
    flood.last().unwrap()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn one_pod_floods_and_the_others_are_as_fast_as_without_capture() {
    let cluster = Cluster::shared().unwrap();
    let (shop, node) = (cluster.namespace().unwrap(), Node::new().unwrap());
    let (inject, nothing) = (json!({"nodetap.io/inject": "true"}), json!({}));
    let named = |name: &str, annotations: &Value| annotated(&shop, name, annotations);
    let manifests = [
        named("noisy", &inject),
        named("quiet", &inject),
        named("noisy-free", &nothing),
        named("quiet-free", &nothing),
        pod::manifest(&shop, "sink", &[("app", 8080)]),
        pod::manifest(&shop, "caller", &[("app", 8080)]),
    ];
    let pods = cluster.bare_pods(&manifests).unwrap();
    let [noisy, quiet, noisy_free, quiet_free, sink, caller] = &pods[..] else { panic!("six pods") };
    let _servers = [quiet, quiet_free, sink].map(answering);
    let agent = Agent::ready(cluster, &node, 23, &["--pod-connections", &ALLOWED.to_string()]).unwrap();
    agent.until(noisy, "capturing").unwrap();
    agent.until(quiet, "capturing").unwrap();
    let (mut with, mut without) = (calling(caller, quiet), calling(caller, quiet_free));
    println!("nobody floods: {:.2} ms with capture, {:.2} ms without", p99(&mut with), p99(&mut without));
    let (to, held) = (format!("{}:8080", sink.address()), HELD.to_string());
    let mut refused = 0.0;
    for (kind, rate) in FLOODS {
        let rate = rate.to_string();
        let mut words = vec![kind, &to, &rate];
        words.extend((kind == "connections").then_some(held.as_str()));
        let (mut captured, mut free) = (Vec::new(), Vec::new());
        let (mut done, mut done_free) = (Value::Null, Value::Null);
        for _ in 0..ROUNDS {
            done_free = flooded(noisy_free, &words, || free.push(p99(&mut without)));
            done = flooded(noisy, &words, || captured.push(p99(&mut with)));
            refused += done["refused"].as_f64().unwrap();
        }
        println!("{words:?}: p99 {captured:.2?} with capture ({done}), {free:.2?} ms without ({done_free})");
        let (captured, free) = (median(captured), median(free));
        let what = format!("{kind}: p99 {captured:.2} ms, {free:.2} ms without capture: {:.2} times", captured / free);
        bar(captured <= free * SLOWER, &what);
    }
    let (worker, count) = (agent.worker().unwrap(), "nodetap_exchanges_dropped_total{");
    let (peak, now) = (memory::peak(worker).unwrap(), memory::resident(worker).unwrap());
    println!("{} MiB resident at most, {} MiB now; {refused} connections refused", peak >> 20, now >> 20);
    assert!(peak < MEMORY, "{} MiB", peak >> 20);
    assert!(refused > 0.0);
    let labels = format!("namespace=\"{shop}\",pod=\"noisy\",reason=\"too_many_connections\"}}");
    eventually(DEADLINE, "all refusals counted", || {
        let counted = agent.metric(&format!("{count}{labels}")).ok()?;
        (counted == refused).then_some(())
    })
    .unwrap();
    let page = agent.page("/metrics").unwrap();
    let lost = page.lines().filter(|line| line.starts_with(count) && line.contains("pod=\"quiet\""));
    assert_eq!(lost.collect::<Vec<_>>(), <Vec<&str>>::new(), "the flood takes nobody else's records");
    agent.end().unwrap();
}
