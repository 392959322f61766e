//! A Deployment exactly as the published page has it: nothing of it was written for us.

use std::path::Path;
use std::process::Command;

use nodetap_tests::cluster::images;
use nodetap_tests::cluster::inside::Inside;
use nodetap_tests::cluster::pod::{self, BarePod};
use nodetap_tests::folder::Folder;
use nodetap_tests::process::Stream;
use nodetap_tests::wait::{DEADLINE, eventually};
use nodetap_tests::{http, https, peers, records};
use serde_json::{Value, json};

use crate::deployed::Deployed;

/// What the pod calls, by the name in its `hostAliases`: HTTP on 8000, HTTPS on 8443; either answers with the path.
const PAY: &str = "import http.server, ssl, sys, threading\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        protocol_version = 'HTTP/1.1'\n    \
        def do_GET(self):\n        \
            body = self.path.encode()\n        \
            self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n        \
            self.wfile.write(body)\n    \
        def log_message(self, *_):\n        pass\n\
    class Server(http.server.ThreadingHTTPServer):\n    \
        def handle_error(self, *_):\n        pass\n\
    plain, secure = Server(('', 8000), Handler), Server(('', 8443), Handler)\n\
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
    context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)\n\
    threading.Thread(target=plain.serve_forever, daemon=True).start()\n\
    print('listening', flush=True)\nsecure.serve_forever()\n";
const NAME: &str = "pay.example";

fn pay(pod: &BarePod<'_>, certificate: &Path) -> Inside {
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", PAY]).arg(certificate.join("leaf.pem")).arg(certificate.join("leaf.key"));
    let server = pod.start("app", &server).unwrap();
    server.line(Stream::Out, "that it listens", |line| (line == "listening").then_some(())).unwrap();
    server
}

/// A root that only this organisation has, as a file of agent and controller: what a user does who has one.
fn with_root(objects: &mut Vec<Value>, root: &str) {
    for object in objects.iter_mut() {
        let Some(pod) = object.pointer_mut("/spec/template/spec") else { continue };
        let mount = json!({"name": "roots", "mountPath": "/etc/pki/tls/certs", "readOnly": true});
        append(&mut pod["containers"][0]["volumeMounts"], mount);
        append(&mut pod["volumes"], json!({"name": "roots", "configMap": {"name": "roots"}}));
    }
    objects.push(roots("nodetap", root));
}

fn append(list: &mut Value, value: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(value),
        None => *list = json!([value]),
    }
}

fn roots(namespace: &str, root: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "roots", "namespace": namespace},
        "data": {"roots.pem": root}})
}

/// The Deployment: `protocol` and `proxy` are the published page's two ways, `trust` is a ConfigMap and a key in it.
fn web(namespace: &str, address: &str, protocol: &str, proxy: &str, trust: (&str, &str)) -> Value {
    let env = [("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy), ("SSL_CERT_FILE", &format!("/etc/trusted/{}", trust.1))];
    let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace, "annotations": {
            "sidecar.speedscale.com/inject": "true",
            "sidecar.speedscale.com/capture-mode": "proxy",
            "sidecar.speedscale.com/proxy-type": "dual",
            "sidecar.speedscale.com/proxy-protocol": protocol,
            "sidecar.speedscale.com/proxy-host": "localhost",
            "sidecar.speedscale.com/proxy-port": "8080",
            "sidecar.speedscale.com/tls-out": "true",
        }},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "hostAliases": [{"ip": address, "hostnames": [NAME]}],
                "containers": [{
                    "name": "web", "image": "docker.io/local/caller:1", "ports": [{"containerPort": 8080}], "env": env,
                    "volumeMounts": [{"name": "trusted", "mountPath": "/etc/trusted"}],
                }],
                "volumes": [{"name": "trusted", "configMap": {"name": trust.0}}],
            },
        }},
    })
}

/// Asks the pod on its reverse proxy's port to call somebody.
fn calls(client: &BarePod<'_>, web: &Value, url: &str) -> anyhow::Result<String> {
    let at = format!("{}:4143", web["status"]["podIP"].as_str().unwrap()).parse()?;
    let answer = http::get_over(client.dial(at)?, &format!("/call?url={url}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The exchanges of a pod, as direction, way and the end of the URL.
fn seen(folder: &Path, pod: &Value, count: usize) -> Vec<[String; 3]> {
    let own = |record: &Value| record["kind"] == "exchange" && record["target"]["name"] == pod["metadata"]["name"];
    let found = eventually(DEADLINE, "exchanges", || {
        let found: Vec<Value> = records::records(folder).ok()?.into_iter().filter(own).collect();
        (found.len() >= count).then_some(found)
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |record: &Value| {
        let url = text(&record["request"]["url"]);
        [text(&record["direction"]), text(&record["via"]), url.rsplit_once('/').map_or(url.clone(), |end| end.1.into())]
    };
    let mut told: Vec<_> = found.unwrap().iter().map(told).collect();
    told.sort();
    told
}

#[test]
fn a_deployment_as_published_is_recorded_in_and_out_and_its_https_once_it_trusts_us() {
    let folder = Folder::new().unwrap();
    https::issue_for(&folder, &[NAME]).unwrap();
    let root = std::fs::read_to_string(folder.join("roots.pem")).unwrap();
    let deployed = Deployed::up(|objects| with_root(objects, &root));
    let cluster = &deployed.cluster;
    let caller = peers::go(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/caller.go")).unwrap();
    cluster.node().unwrap().import(&images::program("caller", &caller).unwrap()).unwrap();
    let shop = cluster.namespace().unwrap();
    let other = cluster.bare_pod(&pod::manifest(&shop, "pay", &[("app", 0)])).unwrap();
    let _pay = pay(&other, &folder);
    let says = |url: &str| format!("http://{NAME}:8000/{url}");
    let says_secretly = |url: &str| format!("https://{NAME}:8443/{url}");

    // It trusts what its organisation trusts, and nobody has told it of us.
    let http = ("tcp:http", "http://localhost:4140");
    deployed.apply(&[roots(&shop, &root), web(&shop, &other.address(), http.0, http.1, ("roots", "roots.pem"))]);
    let first = deployed.captured(&shop, "web");
    assert_eq!(calls(&other, &first, &says("plain")).unwrap(), "/plain");
    let mut failures = Vec::new();
    let answer = loop {
        match calls(&other, &first, &says_secretly("secret")) {
            Ok(answer) => break answer,
            Err(error) => failures.push(format!("{error:#}")),
        }
        assert!(failures.len() <= 2, "{failures:?}");
    };
    println!("HTTPS that does not trust us is tunnelled after {} failures", failures.len());
    assert_eq!(answer, "/secret");
    let records = deployed.records();
    let out = |way: &str, path: &str| ["outbound".to_owned(), way.to_owned(), path.to_owned()];
    let found = seen(&records, &first, 3 + failures.len());
    let inbound = found.iter().filter(|[direction, way, _]| direction == "inbound" && way == "reverse").count();
    assert_eq!(inbound, 2 + failures.len(), "{found:?}");
    assert_eq!(found.iter().filter(|one| one[0] == "outbound").collect::<Vec<_>>(), [&out("forward-http", "plain")]);
    let connections = records::eventually_of_kind(&records, "connection", 1).unwrap();
    let passed = connections.iter().filter(|one| one["tls"]["passthrough"].is_string()).count();
    assert!(passed > 0, "{connections:?}");

    // Told of us: from the first call on.
    let label = json!({"metadata": {"labels": {"nodetap.io/trust-bundle": "true"}}});
    cluster.api("PATCH", &format!("/api/v1/namespaces/{shop}"), Some(&label)).unwrap();
    let trust = ("nodetap-trust-bundle", "ca-bundle.crt");
    deployed.apply(&[web(&shop, &other.address(), http.0, http.1, trust)]);
    let second = renewed(&deployed, &shop, &first);
    assert_eq!(calls(&other, &second, &says_secretly("opened")).unwrap(), "/opened");
    assert!(seen(&records, &second, 2).contains(&out("forward-connect", "opened")));

    let socks = ("tcp:socks", "socks5://localhost:4140");
    deployed.apply(&[web(&shop, &other.address(), socks.0, socks.1, trust)]);
    let third = renewed(&deployed, &shop, &second);
    assert_eq!(calls(&other, &third, &says("plain")).unwrap(), "/plain");
    assert_eq!(calls(&other, &third, &says_secretly("opened")).unwrap(), "/opened");
    let found = seen(&records, &third, 4);
    assert!(found.contains(&out("forward-socks5", "plain")) && found.contains(&out("forward-socks5", "opened")));
    assert_eq!(found.iter().filter(|one| one[0] == "inbound").count(), 2, "{found:?}");
}

/// Another pod has taken the place of this one, and is captured.
fn renewed(deployed: &Deployed, namespace: &str, before: &Value) -> Value {
    let other = eventually(DEADLINE, "another pod", || {
        let pod = deployed.captured(namespace, "web");
        (pod["metadata"]["uid"] != before["metadata"]["uid"]).then_some(pod)
    });
    other.unwrap()
}
