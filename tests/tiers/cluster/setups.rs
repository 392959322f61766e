//! What we write beside what users have, in the judgement of those who read it: the API server by Istio's schema, Istio's
//! own validation, and its analysis, which must find nothing that it did not find without us. The set-ups are a table,
//! `setups.yaml`; what is made of each is what the dry run prints. It refuses to know how that is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use nodetap_tests::cluster::{Cluster, NODE};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{installed, nodetap};
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("setups.yaml");
const SIDECARS: &str = "/apis/networking.istio.io/v1/namespaces";
const BASE: &str = "nodetap.io/base";

/// The root namespace, and hosts that are to be reached.
type Settings = (String, Vec<String>);

/// A row, with its namespace and the root namespace that holds for it.
struct Setup {
    row: Value,
    namespace: String,
    root: String,
}

fn setups() -> Vec<Setup> {
    let rows: Vec<Value> = serde_saphyr::from_str(TABLE).unwrap();
    let setup = |(number, row): (usize, Value)| {
        let root = if row["root"].is_null() { "istio-system".to_owned() } else { format!("root-{number}") };
        Setup { row, namespace: format!("setup-{number}"), root }
    };
    rows.into_iter().enumerate().map(setup).collect()
}

impl Setup {
    fn name(&self) -> &str {
        self.row["name"].as_str().unwrap()
    }

    /// Everything but Sidecars.
    fn make(&self, cluster: &Cluster) {
        let labels = json!({"labels": {"istio-injection": "enabled"}});
        cluster.namespace_named(&self.namespace, &labels).unwrap();
        if !self.row["root"].is_null() {
            cluster.namespace_named(&self.root, &labels).unwrap();
        }
        let http = json!({"web": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        let services = self.row.get("services").unwrap_or(&http);
        for (name, differs) in services.as_object().unwrap() {
            let mut spec = json!({"selector": {"app": "web"}});
            merge(&mut spec, differs);
            let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
            let path = format!("/api/v1/namespaces/{}/services", self.namespace);
            cluster.api("POST", &path, Some(&service)).unwrap_or_else(|error| panic!("{}: {error:#}", self.name()));
        }
        let more = self.row["more"].as_array().into_iter().flatten().cloned();
        let more = more.map(|mut object| {
            object["metadata"]["namespace"] = json!(self.namespace);
            object
        });
        let more: Vec<Value> = more.collect();
        if !more.is_empty() {
            cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": more}).to_string()).unwrap();
        }
        let one = json!([{}]);
        for pod in self.row.get("pods").unwrap_or(&one).as_array().unwrap() {
            self.make_pod(cluster, pod);
        }
    }

    fn make_pod(&self, cluster: &Cluster, differs: &Value) {
        let ports = json!([{"name": "web", "containerPort": 8080}]);
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "app", "ports": ports}, {"name": "istio-proxy"}]},
        });
        for part in ["metadata", "spec"] {
            merge(&mut pod[part], differs.get(part).unwrap_or(&json!({})));
        }
        for list in ["containers", "initContainers"] {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(|container| container["image"] = json!("none"));
        }
        if let Some(workload) = differs["workload"].as_str() {
            pod["metadata"]["ownerReferences"] = json!([self.owner(cluster, workload)]);
        }
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let mut pod = cluster.api("POST", &path, Some(&pod)).unwrap();
        let one = json!({"8080": 4143});
        let listeners = differs.get("listeners").unwrap_or(&one).as_object().unwrap().iter();
        let listeners = listeners.map(|(application, port)| {
            let application: u16 = application.parse().unwrap();
            json!({"for": "inbound", "port": port, "application": application, "addresses": ["127.0.0.1", "::1"]})
        });
        let said = json!({"mode": "dual", "listeners": listeners.collect::<Vec<_>>()}).to_string();
        let addresses = differs.get("addresses").cloned().unwrap_or_else(|| json!(["10.9.0.9"]));
        let ips: Vec<Value> = addresses.as_array().unwrap().iter().map(|ip| json!({"ip": ip})).collect();
        let ready = if differs["ready"] == false { "False" } else { "True" };
        pod["status"] = json!({"phase": "Running", "podIP": addresses[0], "podIPs": ips, "conditions": [
            {"type": "Ready", "status": ready},
            {"type": "nodetap.io/Capturing", "status": "True", "reason": "Capturing", "message": said},
        ]});
        let path = format!("{path}/{}/status", pod["metadata"]["name"].as_str().unwrap());
        cluster.api("PUT", &path, Some(&pod)).unwrap();
    }

    /// What pods belong to: of a kind that nobody here acts upon.
    fn owner(&self, cluster: &Cluster, name: &str) -> Value {
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        let found = cluster.api("GET", &format!("{path}/{name}"), None);
        let found = found.or_else(|_| cluster.api("POST", &path, Some(&json!({"metadata": {"name": name}})))).unwrap();
        let uid = &found["metadata"]["uid"];
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": true})
    }

    /// Those of users, of one part of the row.
    fn make_sidecars(&self, cluster: &Cluster, part: &str) {
        let theirs = self.row[part].as_object().cloned().unwrap_or_default();
        theirs.iter().for_each(|(name, spec)| self.make_sidecar(cluster, &self.namespace, name, spec));
    }

    fn make_sidecar(&self, cluster: &Cluster, namespace: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": name}, "spec": spec,
        });
        let made = cluster.api("POST", &format!("{SIDECARS}/{namespace}/sidecars"), Some(&object));
        made.unwrap_or_else(|error| panic!("{}: {error:#}", self.name()));
    }

    fn hosts(&self) -> Vec<String> {
        let hosts = self.row["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        hosts.map(str::to_owned).collect()
    }

    /// What a controller is told of it.
    fn settings(&self) -> Settings {
        (self.root.clone(), self.hosts())
    }

    /// What a plan says of this namespace.
    fn of<'a>(&self, plan: &'a Value, part: &str) -> Vec<&'a Value> {
        let is_here = |one: &&Value| {
            [&one["namespace"], &one["metadata"]["namespace"]].iter().any(|said| **said == self.namespace.as_str())
        };
        plan[part].as_array().unwrap().iter().filter(is_here).collect()
    }

    /// A plan as the table writes it.
    fn outcome(&self, plan: &Value) -> String {
        let ours: Vec<String> = self.of(plan, "sidecars").into_iter().map(line).collect();
        let reasons: BTreeSet<&str> =
            self.of(plan, "findings").into_iter().map(|one| one["reason"].as_str().unwrap()).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        let all = if reasons.is_empty() {
            ours.join(" || ")
        } else {
            format!("{} || {}", ours.join(" || "), reasons.join(" "))
        };
        all.trim().to_owned()
    }

    /// What is not about inbound ports is that of what ours was made of; and where that is nothing, it says so.
    fn repeats_its_base(&self, cluster: &Cluster, ours: &Value) {
        let base = ours["metadata"]["annotations"][BASE].as_str();
        let mut wanted = base.map_or_else(Map::new, |base| {
            let (namespace, name) = base.split_once('/').unwrap();
            let base = cluster.api("GET", &format!("{SIDECARS}/{namespace}/sidecars/{name}"), None).unwrap();
            base["spec"].as_object().unwrap().clone()
        });
        wanted.entry("egress").or_insert_with(|| json!([{"hosts": ["*/*"]}]));
        let mut is = ours["spec"].as_object().unwrap().clone();
        for inbound in ["ingress", "workloadSelector"] {
            wanted.remove(inbound);
            is.remove(inbound);
        }
        if !self.hosts().is_empty() {
            // The table says what is in it.
            wanted.remove("egress");
            is.remove("egress");
        }
        assert_eq!(is, wanted, "{}", self.name());
    }
}

/// One of ours as the table writes it.
fn line(ours: &Value) -> String {
    let port = |entry: &Value| {
        let protocol = entry["port"]["protocol"].as_str().filter(|said| !said.is_empty()).unwrap_or("-");
        let endpoint = entry["defaultEndpoint"].as_str().map(|said| format!(">{}", said.replace("127.0.0.1:", "")));
        format!("{} {protocol}{}", entry["port"]["number"], endpoint.unwrap_or_default())
    };
    let all = |of: &Value| of.as_array().unwrap().clone();
    let ports: Vec<String> = all(&ours["spec"]["ingress"]).iter().map(port).collect();
    let hosts = all(&ours["spec"]["egress"]);
    let hosts: Vec<&str> =
        hosts.iter().flat_map(|one| one["hosts"].as_array().unwrap()).filter_map(Value::as_str).collect();
    let policy = ours["spec"]["outboundTrafficPolicy"]["mode"].as_str();
    let policy = policy.map_or_else(String::new, |mode| format!(" | {mode}"));
    format!("{} | {}{policy}", ports.join(", "), hosts.join(" "))
}

fn full_name(of: &Value) -> String {
    let text = |name: &str| of["metadata"][name].as_str().unwrap().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

/// All of them; the API server's times are whole seconds.
fn make(cluster: &Cluster, setups: &[Setup]) {
    setups.iter().for_each(|setup| setup.make(cluster));
    for setup in setups {
        setup.make_sidecars(cluster, "older");
        if !setup.row["root"].is_null() {
            setup.make_sidecar(cluster, &setup.root, "default", &setup.row["root"]);
        }
    }
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let then = second();
    eventually(DEADLINE, "another second", || (second() > then).then_some(())).unwrap();
    setups.iter().for_each(|setup| setup.make_sidecars(cluster, "sidecars"));
}

/// As a merge patch.
fn merge(to: &mut Value, differs: &Value) {
    let Some(differs) = differs.as_object() else { return *to = differs.clone() };
    if !to.is_object() {
        *to = json!({});
    }
    for (key, value) in differs {
        match value {
            Value::Null => drop(to.as_object_mut().unwrap().remove(key)),
            value => merge(&mut to[key], value),
        }
    }
}

/// `nodetap controller --dry-run`.
fn plan(cluster: &Cluster, root: &str, hosts: &[String]) -> Value {
    let mut command: Command = nodetap::command(&["controller", "--dry-run", "-o", "json"]);
    command.args(["--istio-root-namespace", root]).arg("--kubeconfig").arg(cluster.kubeconfig());
    command.args(hosts.iter().flat_map(|host| ["--egress-host", host.as_str()]));
    let done = cluster.host().enter_network(&command).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// What Istio's analysis finds in the cluster: the code, and about what.
fn analysis(cluster: &Cluster) -> BTreeSet<String> {
    let mut command = Command::new(installed::istio().unwrap().join("istioctl"));
    command.args(["analyze", "--all-namespaces", "--output", "json", "--output-threshold", "Info", "--kubeconfig"]);
    let done = cluster.host().enter_network(command.arg(cluster.kubeconfig())).output().unwrap();
    // Its exit code says that there is something, which is what we look at.
    let found: Result<Vec<Value>, _> = serde_json::from_slice(&done.stdout);
    let found = found.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)));
    let one = |one: &Value| format!("{} {}: {}", one["code"], one["origin"], one["message"]).replace('"', "");
    found.iter().map(one).collect()
}

fn validated(cluster: &Cluster, file: &Path) {
    let mut command = Command::new(installed::istio().unwrap().join("istioctl"));
    command.arg("validate").arg("-f").arg(file).arg("--kubeconfig").arg(cluster.kubeconfig());
    let done = cluster.host().enter_network(&command).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).to_lowercase();
    assert!(done.status.success() && !said.contains("warning"), "{said}");
}

#[test]
fn what_we_write_beside_what_users_have_is_taken_by_kubernetes_and_istio_and_changes_nothing_but_inbound_ports() {
    let cluster = Cluster::up().unwrap();
    let resources = installed::istio().unwrap().join("crds.yaml");
    cluster.kubectl(&["apply", "--server-side", "-f", resources.to_str().unwrap()]).unwrap();
    cluster.namespace_named("istio-system", &json!({})).unwrap();
    cluster.bare_node().unwrap();
    let setups = setups();
    make(&cluster, &setups);

    let mut plans: BTreeMap<Settings, Value> = BTreeMap::new();
    for setup in &setups {
        plans.entry(setup.settings()).or_insert_with_key(|(root, hosts)| plan(&cluster, root, hosts));
    }
    let plan_of = |setup: &Setup| &plans[&setup.settings()];
    let differ: Vec<String> = setups
        .iter()
        .map(|setup| (setup, setup.outcome(plan_of(setup))))
        .filter(|(setup, outcome)| setup.row["expect"] != outcome.as_str())
        .map(|(setup, outcome)| format!("{}: {outcome} is not {}", setup.name(), setup.row["expect"]))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let ours: Vec<&Value> = setups.iter().flat_map(|setup| setup.of(plan_of(setup), "sidecars")).collect();
    assert!(setups.len() > 60 && ours.len() > 40, "{} of {}", ours.len(), setups.len());
    for setup in &setups {
        setup.of(plan_of(setup), "sidecars").into_iter().for_each(|ours| setup.repeats_its_base(&cluster, ours));
    }

    // By the schema and its rules, by Istio's own, and by what it makes of them all together.
    let file = cluster.host().folder().join("ours.yaml");
    std::fs::write(&file, ours.iter().map(|one| format!("---\n{one}\n")).collect::<String>()).unwrap();
    let path = file.to_str().unwrap();
    let apply = ["apply", "--server-side", "--validate=strict", "-f", path];
    cluster.kubectl(&[&apply[..], &["--dry-run=server"]].concat()).unwrap();
    validated(&cluster, &file);
    let before = analysis(&cluster);
    cluster.kubectl(&apply).unwrap();
    for setup in &setups {
        for label in setup.of(plan_of(setup), "labels") {
            let path = format!("/api/v1/namespaces/{}/pods/{}", setup.namespace, label["pod"].as_str().unwrap());
            let patch = json!({"metadata": {"labels": {"nodetap.io/sidecar": label["value"]}}});
            cluster.api("PATCH", &path, Some(&patch)).unwrap();
        }
    }
    let after = analysis(&cluster);
    // What it says of a user's object it says of ours, which repeats that.
    let of_base = |found: &str| {
        let ours = ours.iter().find(|ours| found.contains(&format!(" Sidecar {}:", full_name(ours))))?;
        let base = ours["metadata"]["annotations"][BASE].as_str()?;
        Some(before.contains(&found.replace(&full_name(ours), base)))
    };
    let new: Vec<&String> = after.difference(&before).filter(|found| of_base(found) != Some(true)).collect();
    assert!(new.is_empty(), "{new:#?}");
    println!(
        "{} of ours in {} set-ups; Istio finds {} things, with and without them",
        ours.len(),
        setups.len(),
        after.len()
    );

    // It would have found a conflict.
    let mine = json!({"workloadSelector": {"labels": {"app": "web"}}, "egress": [{"hosts": ["./*"]}]});
    setups[0].make_sidecar(&cluster, &setups[0].namespace, "mine", &mine);
    let found = analysis(&cluster);
    let of_ours = format!("IST0110 Sidecar {}/nodetap-pod-web:", setups[0].namespace);
    assert!(found.iter().any(|one| one.starts_with(&of_ours)), "{found:#?}");
}
