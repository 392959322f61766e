//! The API before real agents' servers, each with a folder of its own; the API server is played by a client with its
//! front-proxy certificate.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use nodetap_core::exchange::{Event, Target, TargetKind};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::agents::{Agent, Agents};
use super::api::{Api, Ready};
use super::certificates::unkept;
use super::front_proxy::FrontProxy;
use super::metrics::Answers;
use crate::query::identity::{AGENT_NAME, Identity};
use crate::query::tests::{exchange, write, write_as};
use crate::trust::{Ca, pem};

const SERVICE: &str = "nodetap-controller.nodetap.svc";
const SHOP: &str = "/apis/capture.nodetap.io/v1alpha1/namespaces/shop/exchanges";

/// A segment that is younger than any other.
const NEWER: &str = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ.seg";

/// An exchange of a pod in `namespace`.
fn of(namespace: &str, number: u64) -> Event {
    let Event::Exchange(mut exchange) = exchange(number) else { unreachable!() };
    let connection = Arc::make_mut(&mut exchange.connection);
    let command = Target::command("web-1");
    let pod = Target { kind: TargetKind::Pod, namespace: Some(namespace.to_owned()), ..Target::clone(&command) };
    connection.target = Arc::new(pod);
    Event::Exchange(exchange)
}

fn authority(name: &str) -> Ca {
    Ca::generate(name, 30, SystemTime::now(), 1).unwrap()
}

struct Cluster {
    address: SocketAddr,
    ours: Ca,
    front: Identity,
    stranger: Identity,
    folders: BTreeMap<String, TempDir>,
    agents: watch::Sender<Option<Agents>>,
    _ready: watch::Sender<Option<Ready>>,
    _identities: Vec<watch::Sender<Option<Arc<rustls::ServerConfig>>>>,
}

impl Cluster {
    /// A node each; `None`: its agent does not answer.
    async fn start(nodes: &[(&str, Option<Vec<Event>>)]) -> Self {
        let (ours, proxies) = (authority("ours"), authority("front-proxy-ca"));
        let (mut folders, mut agents, mut identities) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (node, events) in nodes {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            if let Some(events) = events {
                let folder = tempfile::tempdir().unwrap();
                write(folder.path(), events);
                let config = unkept(&ours, AGENT_NAME, vec![ServerAuth]).serving().unwrap();
                let (tell, identity) = watch::channel(Some(Arc::new(config)));
                tokio::spawn(crate::query::serve(listener, folder.path().to_owned(), identity));
                folders.insert((*node).to_owned(), folder);
                identities.push(tell);
            }
            let pod = format!("agent-{node}");
            agents.push(Agent { node: (*node).to_owned(), pod, address: Some(address) });
        }
        let identity = unkept(&ours, SERVICE, vec![ServerAuth, ClientAuth]);
        let data = [
            ("requestheader-client-ca-file", pem::encode(&proxies.chain)),
            ("requestheader-allowed-names", r#"["nodetap-controller-tls"]"#.to_owned()),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ];
        let data = data.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        let map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        let front_proxy = Arc::new(FrontProxy::read(&map).unwrap());
        let serving = Arc::new(front_proxy.serving(&identity).unwrap());
        let ready = Ready { serving, asking: Arc::new(identity.asking().unwrap()), front_proxy };
        let (ready_tx, ready) = watch::channel(Some(ready));
        let (agents_tx, agents) = watch::channel(Some(Arc::new(agents)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Api::new(ready, agents, Answers::default()).serve(listener));
        let front = unkept(&proxies, "front", vec![ClientAuth]);
        let stranger = unkept(&authority("strangers"), "front", vec![ClientAuth]);
        let (agents, identities) = (agents_tx, identities);
        Self { address, ours, front, stranger, folders, agents, _ready: ready_tx, _identities: identities }
    }

    fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(self.ours.chain.iter().cloned());
        let builder = ClientConfig::builder_with_provider(crate::query::identity::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        match identity {
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.private_key().unwrap()).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }

    async fn send(
        &self,
        identity: Option<&Identity>,
        request: hyper::http::request::Builder,
    ) -> Option<Response<Incoming>> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(SERVICE).unwrap();
        let stream = TlsConnector::from(Arc::new(self.tls(identity))).connect(name, stream).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = request.header("Host", SERVICE).body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.ok()
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("X-Remote-User", "jane");
        Answer::read(self.send(Some(&self.front), request).await.unwrap()).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    warnings: Vec<String>,
    text: String,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Self {
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
        let status = response.status().as_u16();
        let body = tokio::time::timeout(Duration::from_secs(20), response.into_body().collect()).await.unwrap();
        let text = String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap();
        Self { status, warnings, text }
    }

    fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What was asked for, or the reason of what was said instead.
    fn names(&self) -> Vec<String> {
        self.lines().iter().map(name).collect()
    }
}

fn name(line: &Value) -> String {
    match line["kind"].as_str() {
        Some("exchange") => line["request"]["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned(),
        Some("notice") => format!("{} {}", line["reason"].as_str().unwrap(), line["node"].as_str().unwrap_or("-")),
        _ => line.to_string(),
    }
}

#[tokio::test]
async fn the_nodes_read_as_one_in_time_order_and_one_namespace_is_all_there_is() {
    let one = vec![of("shop", 1), of("bank", 2), of("shop", 5)];
    let two = vec![of("shop", 3), of("shop", 4), of("bank", 6), exchange(7)];
    let cluster = Cluster::start(&[("n1", Some(one)), ("n2", Some(two))]).await;
    assert_eq!(cluster.get(SHOP).await.names(), ["1", "3", "4", "5"]);
    assert_eq!(cluster.get(&SHOP.replace("shop", "bank")).await.names(), ["2", "6"]);
    assert_eq!(cluster.get(&SHOP.replace("shop", "empty")).await.names(), <Vec<String>>::new());
    assert_eq!(cluster.get(&format!("{SHOP}?tail=2")).await.names(), ["4", "5"]);
    assert_eq!(cluster.get(&format!("{SHOP}?grep=GET+/%5B35%5D&method=get")).await.names(), ["3", "5"]);
    assert_eq!(cluster.get(&format!("{SHOP}?pod=web-2")).await.names(), <Vec<String>>::new());
    // Namespaces are of the path.
    assert_eq!(cluster.get(&format!("{SHOP}?namespace=bank")).await.status, 400);
}

#[tokio::test]
async fn pages_of_all_nodes_put_together_are_all_records_once() {
    let even = (0..40).step_by(2).map(|number| of("shop", number)).collect();
    let rest = (0..40).skip(1).step_by(2).map(|number| of("shop", number)).collect();
    let cluster = Cluster::start(&[("n1", Some(even)), ("n2", Some(rest)), ("n3", Some(vec![]))]).await;
    let (mut all, mut next) = (Vec::new(), String::new());
    for page in 0.. {
        assert!(page < 8, "pages without end");
        let answer = cluster.get(&format!("{SHOP}?limit=7{next}")).await;
        all.extend(answer.names().into_iter().filter(|name| name != "page_end -"));
        match answer.lines().last().filter(|line| line["reason"] == "page_end") {
            Some(end) => next = format!("&continue={}", end["continue"].as_str().unwrap()),
            None => break,
        }
    }
    assert_eq!(all, (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_in_the_answer_and_before_it() {
    let cluster = Cluster::start(&[("n1", Some(vec![of("shop", 1)])), ("n2", None)]).await;
    let answer = cluster.get(SHOP).await;
    assert_eq!(answer.names(), ["node_failed n2", "1"]);
    assert!(answer.warnings[0].starts_with("299 - \"node n2: the agent agent-n2 cannot be asked"), "{answer:?}");
    let har: Value = serde_json::from_str(&cluster.get(&format!("{SHOP}?format=har")).await.text).unwrap();
    assert_eq!(har["log"]["entries"].as_array().unwrap().len(), 1);
    assert!(har["log"]["comment"].as_str().unwrap().starts_with("node n2: its records are missing"), "{har}");
    // Not there, as far as anybody knows: that is not "not found".
    let answer = cluster.get(&format!("{SHOP}/ZZZ")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let nobody = Cluster::start(&[("n1", None)]).await;
    assert_eq!(nobody.get(SHOP).await.status, 503);
}

#[tokio::test]
async fn one_record_is_found_on_whichever_node_it_is_and_only_in_its_namespace() {
    let cluster =
        Cluster::start(&[("n1", Some(vec![of("shop", 1)])), ("n2", Some(vec![of("shop", 2), of("bank", 3)]))]).await;
    let id = |answer: &Answer, line: usize| answer.lines()[line]["id"].as_str().unwrap().to_owned();
    let all = cluster.get(SHOP).await;
    assert_eq!(cluster.get(&format!("{SHOP}/{}", id(&all, 1))).await.names(), ["2"]);
    assert_eq!(cluster.get(&format!("{SHOP}/{}", &id(&all, 0)[18..].to_lowercase())).await.names(), ["1"]);
    let both = cluster.get(&format!("{SHOP}/{}", &id(&all, 0)[..6])).await;
    assert_eq!((both.status, both.lines()[0]["reason"].as_str().unwrap()), (409, "Conflict"));
    let foreign = id(&cluster.get(&SHOP.replace("shop", "bank")).await, 0);
    let hidden = cluster.get(&format!("{SHOP}/{foreign}")).await;
    assert_eq!((hidden.status, hidden.lines()[0]["kind"].as_str().unwrap()), (404, "Status"));
}

#[tokio::test]
async fn a_watch_tells_what_comes_on_all_nodes_and_ends_in_its_time() {
    let cluster = Cluster::start(&[("n1", Some(vec![of("shop", 1)])), ("n2", Some(vec![of("shop", 2)]))]).await;
    let request = Request::get(format!("{SHOP}?watch=true&tail=1&timeoutSeconds=3")).header("X-Remote-User", "jane");
    let mut body = cluster.send(Some(&cluster.front), request).await.unwrap().into_body();
    let (mut text, mut added) = (String::new(), false);
    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        if !std::mem::replace(&mut added, true) {
            write_as(cluster.folders["n1"].path(), NEWER, &[of("shop", 8), of("bank", 9)]);
            write_as(cluster.folders["n2"].path(), NEWER, &[of("shop", 7)]);
        }
    }
    let mut names: Vec<String> = text.lines().map(|line| name(&serde_json::from_str(line).unwrap())).collect();
    assert_eq!((names.remove(0), names.pop().unwrap()), ("2".to_owned(), "watch_end -".to_owned()));
    names.sort();
    assert_eq!(names, ["7", "8"]);
}

#[tokio::test]
async fn a_watch_goes_over_to_the_agent_that_takes_another_ones_place() {
    let cluster = Cluster::start(&[("n1", None), ("n2", Some(vec![]))]).await;
    let request = Request::get(format!("{SHOP}?watch=true&timeoutSeconds=6")).header("X-Remote-User", "jane");
    let response = cluster.send(Some(&cluster.front), request).await.unwrap();
    let agents = cluster.agents.borrow().clone().unwrap();
    let working = Agent { node: "n1".into(), ..agents[1].clone() };
    cluster.agents.send_replace(Some(Arc::new(vec![working])));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    write_as(cluster.folders["n2"].path(), NEWER, &[of("shop", 3)]);
    let names = Answer::read(response).await.names();
    assert_eq!(
        (names.last().unwrap().as_str(), names.iter().filter(|name| *name == "3").count()),
        ("watch_end -", 1),
        "{names:?}"
    );
}

#[tokio::test]
async fn whoever_is_not_the_api_server_gets_no_answer() {
    let cluster = Cluster::start(&[("n1", Some(vec![of("shop", 1)]))]).await;
    let request = || Request::get(SHOP).header("X-Remote-User", "system:masters");
    let refused = Answer::read(cluster.send(None, request()).await.unwrap()).await;
    assert_eq!((refused.status, refused.lines()[0]["reason"].as_str().unwrap()), (401, "Unauthorized"));
    assert!(cluster.send(Some(&cluster.stranger), request()).await.is_none(), "a certificate of another authority");
    let own = unkept(&cluster.ours, "x", vec![ClientAuth]);
    assert!(cluster.send(Some(&own), request()).await.is_none(), "a certificate of our own authority");
    let nameless = Answer::read(cluster.send(Some(&cluster.front), Request::get(SHOP)).await.unwrap()).await;
    assert_eq!(nameless.status, 401, "no user");
    // The kubelet has no certificate.
    assert_eq!(Answer::read(cluster.send(None, Request::get("/readyz")).await.unwrap()).await.text, "ok\n");
}

#[tokio::test]
async fn an_agent_answers_nobody_who_is_not_the_controller() {
    let cluster = Cluster::start(&[("n1", Some(vec![of("shop", 1)]))]).await;
    let agent = cluster.agents.borrow().clone().unwrap()[0].clone();
    let ask = crate::query::Ask { namespace: Some("shop".into()), ..crate::query::Ask::default() };
    let open = async |identity: Identity| {
        let tls = Arc::new(identity.asking().unwrap());
        let question = super::source::Question { ask: ask.clone(), id: None, tls };
        match super::source::Source::open(&agent, &question).await {
            Ok(mut source) => source.next().await.is_some_and(|item| item.is_ok()),
            Err(_) => false,
        }
    };
    assert!(open(unkept(&cluster.ours, SERVICE, vec![ServerAuth, ClientAuth])).await);
    assert!(!open(unkept(&cluster.ours, AGENT_NAME, vec![ServerAuth])).await, "another agent");
    assert!(!open(unkept(&authority("ours"), SERVICE, vec![ServerAuth, ClientAuth])).await, "another authority");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_as_kubernetes_does() {
    let cluster = Cluster::start(&[("n1", Some(vec![]))]).await;
    for (path, status, part) in [
        (format!("{SHOP}?colour=red"), 400, "colour"),
        (format!("{SHOP}?fieldSelector=metadata.name%3Dx"), 400, "fieldSelector"),
        (format!("{SHOP}?grep=%28"), 400, "regular expression"),
        (format!("{SHOP}?watch=true&format=har"), 400, "HAR"),
        (format!("{SHOP}?format=xml"), 400, "format"),
        (format!("{SHOP}/x/y"), 404, "resource"),
        ("/apis/capture.nodetap.io/v1alpha1/exchanges".to_owned(), 404, "namespace"),
        ("/openapi/v2".to_owned(), 404, "resource"),
    ] {
        let answer = cluster.get(&path).await;
        let status_object: kube::core::Status = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.status, status_object.code), (status, status), "{path}");
        assert!(status_object.message.contains(part), "{path}: {status_object:?}");
    }
    let post = Request::post(SHOP).header("X-Remote-User", "jane");
    assert_eq!(cluster.send(Some(&cluster.front), post).await.unwrap().status().as_u16(), 405);
    let resources = cluster.get("/apis/capture.nodetap.io/v1alpha1").await;
    assert_eq!(resources.lines()[0]["resources"][0]["name"], "exchanges");
}
