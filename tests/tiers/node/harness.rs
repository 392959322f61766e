//! The harness itself: what the other tests of this tier take for granted.

use nodetap_tests::cluster::{Cluster, images, pod};
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, nodetap};

const SAYS: &str = "import http.server\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        def do_GET(self):\n        \
            self.send_response(200); self.send_header('Content-Length', '5'); self.end_headers()\n        \
            self.wfile.write(b'hello')\n\
    server = http.server.HTTPServer(('', 8080), Handler)\n\
    print('it listens', flush=True)\n\
    server.serve_forever()\n";

#[test]
fn a_deployment_runs_from_an_image_of_the_distributions_nginx_and_is_reached_through_its_service() {
    let cluster = Cluster::shared().unwrap();
    let node = cluster.node().unwrap();
    node.import(&images::nginx().unwrap()).unwrap();
    let shop = cluster.namespace().unwrap();
    cluster
        .apply(&format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: {shop}}}, spec: {{\
             replicas: 2, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
             spec: {{containers: [{{name: nginx, image: 'docker.io/local/nginx:1', ports: [{{containerPort: 80}}], \
             readinessProbe: {{httpGet: {{path: /, port: 80}}, periodSeconds: 1}}}}]}}}}}}}}\n---\n\
             {{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: {shop}}}, \
             spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}"
        ))
        .unwrap();
    let pods = node.ready_of(&shop, "web", 2).unwrap();
    let service = cluster.api("GET", &format!("/api/v1/namespaces/{shop}/services/web"), None).unwrap();
    let to = format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
    // From a pod of the node, and from a bare one.
    let stream = eventually(DEADLINE, "the Service", || node.dial_from(&pods[0], to).ok()).unwrap();
    assert_eq!(http::get_over(stream, "/").unwrap(), b"hello from nginx\n");
    let bare = cluster.bare_pod(&pod::manifest(&shop, "bare", &[("app", 0)])).unwrap();
    assert_eq!(http::get_over(bare.dial(to).unwrap(), "/").unwrap(), b"hello from nginx\n");
}

#[test]
fn a_pod_of_the_distributions_python_speaks_through_kubectl_logs_and_has_its_cgroup_in_the_v2_mount() {
    let cluster = Cluster::shared().unwrap();
    let node = cluster.node().unwrap();
    node.import(&images::python("says", SAYS).unwrap()).unwrap();
    let shop = cluster.namespace().unwrap();
    let mut manifest = pod::manifest(&shop, "says", &[("app", 8080)]);
    manifest["spec"]["containers"][0]["image"] = "docker.io/local/says:1".into();
    cluster.apply(&manifest.to_string()).unwrap();
    let pod = node.ready(&shop, "says").unwrap();
    let log = eventually(DEADLINE, "a log", || {
        cluster.kubectl(&["-n", &shop, "logs", "says"]).ok().filter(|log| !log.is_empty())
    });
    assert_eq!(log.unwrap(), "it listens\n");
    let to = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    assert_eq!(http::get_over(cluster.host().dial(to).unwrap(), "/").unwrap(), b"hello");
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().rsplit_once('/').unwrap().1;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let cgroup = cluster.host().cgroups_from_outside().unwrap().join(format!("kubepods/besteffort/pod{uid}/{id}"));
    assert!(cgroup.exists(), "{}", cgroup.display());
}

#[test]
fn the_image_of_nodetap_runs_as_a_pod() {
    let cluster = Cluster::shared().unwrap();
    let node = cluster.node().unwrap();
    let image = nodetap::image().expect("no image: run `cargo xtask image`");
    node.import_archive(&image).unwrap();
    let shop = cluster.namespace().unwrap();
    let mut manifest = pod::manifest(&shop, "nodetap", &[("nodetap", 0)]);
    manifest["spec"]["restartPolicy"] = "Never".into();
    manifest["spec"]["containers"][0]["image"] = concat!("nodetap:", env!("CARGO_PKG_VERSION")).into();
    manifest["spec"]["containers"][0]["args"] = serde_json::json!(["--version"]);
    cluster.apply(&manifest.to_string()).unwrap();
    let said = eventually(DEADLINE, "what it says", || {
        cluster.kubectl(&["-n", &shop, "logs", "nodetap"]).ok().filter(|log| !log.is_empty())
    });
    assert_eq!(said.unwrap(), concat!("nodetap ", env!("CARGO_PKG_VERSION"), "\n"));
}
