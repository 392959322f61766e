//! The harness itself: what the other tests of this tier take for granted.

use std::process::Command;

use nodetap_tests::cluster::{Cluster, Reach, pod};
use nodetap_tests::http;
use nodetap_tests::leftovers;
use nodetap_tests::process::{Process, Stream};
use nodetap_tests::wait::{DEADLINE, eventually};

/// Serves one file over IPv4 and IPv6.
const SERVE: &str = "import http.server, socket, sys\n\
    class Server(http.server.ThreadingHTTPServer):\n    address_family = socket.AF_INET6\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        def do_GET(self):\n        \
            body = ('you are ' + self.client_address[0]).encode()\n        \
            self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n        \
            self.wfile.write(body)\n\
    server = Server(('::', 8080), Handler)\n\
    print('listening', flush=True)\nserver.serve_forever()\n";

fn server() -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", SERVE]);
    python
}

#[test]
fn a_bare_pod_is_reached_through_its_service_and_sees_who_calls() {
    let cluster = Cluster::shared().unwrap();
    let shop = cluster.namespace().unwrap();
    let web = cluster.bare_pod(&pod::manifest(&shop, "web", &[("app", 8080)])).unwrap();
    let caller = cluster.bare_pod(&pod::manifest(&shop, "caller", &[("app", 0)])).unwrap();
    let serving = web.start("app", &server()).unwrap();
    serving.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    let made = cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {shop}}}, \
             spec: {{selector: {{app: web}}, ipFamilyPolicy: RequireDualStack, ports: [{{port: 80, targetPort: 8080}}]}}}}"
        ))
        .unwrap();
    assert_eq!(made, "service/web created\n");
    let service = cluster.api("GET", &format!("/api/v1/namespaces/{shop}/services/web"), None).unwrap();
    for (index, own) in [(0, format!("::ffff:{}", caller.address())), (1, caller.address6())] {
        let address = service["spec"]["clusterIPs"][index].as_str().unwrap();
        let to = if index == 0 { format!("{address}:80") } else { format!("[{address}]:80") };
        let to = to.parse().unwrap();
        let stream = eventually(DEADLINE, "the Service", || caller.dial(to).ok()).unwrap();
        let answer = String::from_utf8(http::get_over(stream, "/").unwrap()).unwrap();
        assert_eq!(answer, format!("you are {own}"));
    }
}

#[test]
fn a_program_in_a_container_stands_in_its_cgroup_and_its_pods_namespace() {
    let cluster = Cluster::shared().unwrap();
    let shop = cluster.namespace().unwrap();
    let mut web = cluster.bare_pod(&pod::manifest(&shop, "web", &[("app", 8080), ("other", 0)])).unwrap();
    let mut serving = web.start("app", &server()).unwrap();
    serving.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    assert_eq!(leftovers::cgroup_of(serving.pid()), web.cgroup("app").ok());
    let namespace =
        |place: &str| std::fs::metadata(place).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).unwrap();
    let of_program = format!("/proc/{}/ns/net", serving.pid());
    assert_eq!(namespace(&of_program), namespace(&web.netns().display().to_string()));
    let before = web.object().unwrap();
    let status = &before["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().unwrap().strip_prefix("containerd://").unwrap();
    assert!(web.cgroup("app").unwrap().ends_with(id));

    web.restart("app").unwrap();
    assert!(eventually(DEADLINE, "the program's end", || serving.has_ended().then_some(())).is_ok());
    let after = web.object().unwrap();
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 1);
    assert_ne!(after["status"]["containerStatuses"][0]["containerID"], status["containerID"]);
    assert_eq!(after["status"]["containerStatuses"][1], before["status"]["containerStatuses"][1]);

    // Held open: the number of one that is gone may be given to the next.
    let held = std::fs::File::open(web.netns()).unwrap();
    let old = namespace(&web.netns().display().to_string());
    web.renew_sandbox().unwrap();
    assert_ne!(namespace(&web.netns().display().to_string()), old);
    drop(held);
    let (cgroup, address) = (web.cgroup("").unwrap(), web.address());
    assert!(cgroup.exists());
    let number = web.number();
    web.delete().unwrap();
    assert!(!cgroup.exists());
    let again = cluster.bare_pod_as(number, &pod::manifest(&shop, "next", &[("app", 0)])).unwrap();
    assert_eq!(again.address(), address);
}

#[test]
fn a_pod_with_users_of_its_own_runs_programs_as_root_of_nothing_else() {
    let cluster = Cluster::shared().unwrap();
    let shop = cluster.namespace().unwrap();
    let mut manifest = pod::manifest(&shop, "users", &[("app", 0)]);
    manifest["spec"]["hostUsers"] = false.into();
    let users = cluster.bare_pod(&manifest).unwrap();
    let mut show = Command::new("/bin/sh");
    show.args(["-c", "id -u; cat /proc/self/uid_map; ip -br addr show eth0"]);
    let shown = users.start("app", &show).unwrap().finish().unwrap().text();
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[0..2], ["0", "0"], "{shown}");
    assert_ne!(words[2], "0", "{shown}");
    assert!(shown.contains(&users.address()), "{shown}");
}

#[test]
fn a_user_outside_may_do_what_rbac_says_and_the_audit_log_tells() {
    let cluster = Cluster::shared().unwrap();
    let shop = cluster.namespace().unwrap();
    let kubeconfig = cluster.kubeconfig_for(&format!("alice-{shop}"), None, Reach::Outside).unwrap();
    let kubectl = nodetap_tests::installed::kubernetes().unwrap().join("kubectl");
    let pods = |namespace: &str| {
        let mut command = Command::new(&kubectl);
        command.arg("--kubeconfig").arg(&kubeconfig).args(["-n", namespace, "get", "pods", "-o", "name"]);
        Process::start(&mut command).unwrap().finish().unwrap()
    };
    assert!(pods(&shop).err.contains("forbidden"));
    let user = format!("--user=alice-{shop}");
    cluster.kubectl(&["-n", &shop, "create", "rolebinding", "reads", "--clusterrole=view", &user]).unwrap();
    eventually(DEADLINE, "the right to read", || (pods(&shop).code() == 0).then_some(())).unwrap();
    assert!(pods("default").err.contains("forbidden"));
    let audit = cluster.audit().unwrap();
    let hers = audit.iter().filter(|event| event["user"]["username"] == format!("alice-{shop}").as_str());
    assert!(hers.filter(|event| event["verb"] == "list").count() >= 3);
}

#[test]
fn the_api_server_streams_lists() {
    let cluster = Cluster::shared().unwrap();
    let path = "/api/v1/services?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                &allowWatchBookmarks=true&timeoutSeconds=1";
    let events = cluster.api("GET", path, None).unwrap().to_string();
    assert!(events.contains("ADDED") && events.contains("k8s.io/initial-events-end"), "{events}");
}

#[test]
fn many_pods_are_made_in_one_go_and_a_cluster_that_ends_leaves_nothing() {
    let cluster = Cluster::up().unwrap();
    let manifests: Vec<_> =
        (0..50).map(|number| pod::manifest("default", &format!("many-{number}"), &[("app", 8080)])).collect();
    let pods = cluster.bare_pods(&manifests).unwrap();
    let addresses: std::collections::BTreeSet<String> = pods.iter().map(pod::BarePod::address).collect();
    assert_eq!(addresses.len(), 50);
    assert_eq!(
        std::fs::read_to_string(pods[49].cgroup("").unwrap().join("cgroup.events")).unwrap().lines().next(),
        Some("populated 1")
    );
    cluster.api_server_away().unwrap();
    let path = pods[49].path();
    eventually(DEADLINE, "no API server", || cluster.api("GET", path, None).is_err().then_some(())).unwrap();
    cluster.api_server_back().unwrap();
    assert_eq!(pods[49].object().unwrap()["status"]["phase"], "Running");
    let (folder, cgroups) = (cluster.host().folder().to_path_buf(), cluster.host().cgroups_from_outside().unwrap());
    assert!(folder.exists() && cgroups.exists());
    // What a panic would do: no pod is deleted one by one.
    pods.into_iter().for_each(std::mem::forget);
    drop(cluster);
    assert!(!folder.exists() && !cgroups.exists());
    let groups = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!groups.contains(&*folder.to_string_lossy()));
}
