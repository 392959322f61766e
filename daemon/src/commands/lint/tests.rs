//! What is found in manifests, and how it is told.

use clap::Parser;

use super::*;

/// The published system's example, as its page has it.
const PUBLISHED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  annotations:
    sidecar.speedscale.com/inject: "true"
    sidecar.speedscale.com/capture-mode: proxy
    sidecar.speedscale.com/proxy-type: dual
    sidecar.speedscale.com/proxy-protocol: tcp:http
    sidecar.speedscale.com/proxy-host: "localhost"
    sidecar.speedscale.com/proxy-port: "8080"
    sidecar.speedscale.com/tls-out: "true"
spec:
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: app
        image: web:1
        ports: [{containerPort: 8080}]
        env:
        - {name: HTTP_PROXY, value: "http://localhost:4140"}
        - {name: HTTPS_PROXY, value: "http://localhost:4140"}
"#;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    lint: Lint,
}

/// What is written, what is said beside it, and whether all is well.
fn lint(text: &str, more: &[&str]) -> (String, String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    std::fs::write(&file, text).unwrap();
    let words = [&["lint", "-f", file.to_str().unwrap()], more].concat();
    let (mut out, mut aside) = (Vec::new(), Vec::new());
    let well = Cli::try_parse_from(words).unwrap().lint.write(&mut out, &mut aside).unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder.path().to_str().unwrap(), "");
    (said(out), said(aside), well)
}

#[test]
fn the_published_example_is_captured_as_it_is() {
    let (out, aside, well) = lint(PUBLISHED, &[]);
    let line = out.lines().nth(1).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells, ["Deployment/shop/web", "yes", "dual", "4143=8080", "127.0.0.1:4140", "Deployment/web"]);
    assert_eq!((aside.as_str(), well), ("", true));
}

#[test]
fn a_mistake_is_one_line_that_names_where_it_is() {
    let text = PUBLISHED.replace("proxy-type: dual", "proxy-type: daul");
    let (out, aside, well) = lint(&format!("---\nkind: ConfigMap\n---\n{text}"), &[]);
    assert!(!well);
    assert!(out.contains("refused"), "{out}");
    assert_eq!(
        aside,
        "error: /web.yaml:2/Deployment/web/sidecar.speedscale.com/proxy-type: \"daul\" (on Deployment/web) is not \
         accepted; accepted: transparent, reverse, forward, dual; did you mean \"dual\"?\n"
    );
}

#[test]
fn values_that_are_no_text_are_what_the_api_server_would_not_take() {
    let (_, aside, well) = lint(&PUBLISHED.replace("inject: \"true\"", "inject: true"), &[]);
    assert!(!well);
    assert!(
        aside.contains("Deployment/web/sidecar.speedscale.com/inject: its value is a boolean, and must be text"),
        "{aside}"
    );
}

#[test]
fn a_mistake_is_found_though_nobody_asks() {
    let text =
        "kind: Pod\nmetadata: {name: p, annotations: {nodetap.io/proxy-type: daul, nodetap.io/tls-out: 'true'}}\n";
    let (_, aside, well) = lint(text, &[]);
    assert!(!well && aside.contains("Pod/p/nodetap.io/proxy-type"), "{aside}");
    assert!(aside.contains("warning: /web.yaml:1/Pod/p: it has annotations"), "{aside}");
}

#[test]
fn a_namespace_counts_for_its_pods_and_is_wrong_by_itself() {
    let namespace =
        "kind: Namespace\nmetadata: {name: shop, annotations: {nodetap.io/inject: 'true', nodetap.io/injct: 'x'}}\n";
    let pod = "kind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: app}]}\n";
    let (out, aside, well) = lint(&format!("{namespace}---\n{pod}"), &["-n", "other"]);
    assert!(well);
    assert!(out.contains("Pod/shop/p  yes      transparent  what listens  all       namespace shop"), "{out}");
    assert_eq!(aside.lines().count(), 1);
    assert!(
        aside.starts_with("warning: /web.yaml:1/Namespace/shop/nodetap.io/injct: (on namespace shop) is no"),
        "{aside}"
    );
    let (_, aside, well) = lint(&format!("{}---\n{pod}", namespace.replace("'true'", "ja")), &[]);
    assert!(!well);
    assert!(
        aside.lines().filter(|line| line.starts_with("error")).all(|line| line.contains("/Namespace/shop/")),
        "{aside}"
    );
}

#[test]
fn a_cron_job_asks_itself_or_by_its_jobs() {
    let text = "kind: CronJob\nmetadata: {name: c, annotations: {nodetap.io/inject: 'true', nodetap.io/proxy-type: reverse}}\n\
                spec:\n  jobTemplate:\n    metadata: {annotations: {nodetap.io/proxy-type: transparent}}\n    \
                spec: {template: {spec: {hostNetwork: true, containers: [{name: job}]}}}\n";
    let (out, aside, well) = lint(text, &[]);
    assert!(!well && out.contains("CronJob/default/c  refused"), "{out}");
    assert!(aside.contains("CronJob/c: the pod has hostNetwork: true"), "{aside}");
    let (out, ..) = lint(&text.replace("hostNetwork: true, ", ""), &[]);
    assert!(out.contains("yes      transparent"), "{out}");
}

#[test]
fn a_proxy_that_no_program_is_told_of_is_warned_of() {
    let text = PUBLISHED.replace("4140", "3128");
    let (_, aside, well) = lint(&text, &[]);
    assert!(well && aside.contains("names port 4140"), "{aside}");
}

#[test]
fn services_name_ports_too() {
    let service = "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 9090}, {port: 8080}]}\n";
    let text = PUBLISHED.replace("    sidecar.speedscale.com/proxy-port: \"8080\"\n", "");
    let (out, ..) = lint(&format!("{service}---{text}"), &[]);
    assert!(out.contains("4143=8080,4144=9090"), "{out}");
}

#[test]
fn what_cannot_be_read_does_not_hide_the_rest() {
    let (out, aside, well) = lint(&format!("a: [\n---\n- 1\n---\nname: x\n---\n{PUBLISHED}"), &[]);
    assert!(!well && out.contains("Deployment/shop/web"), "{out} {aside}");
    let starts: Vec<_> = aside.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(starts, ["/web.yaml:1", "/web.yaml:2", "/web.yaml:3"], "{aside}");
    let (out, aside, well) = lint("# nothing\n---\n---\n", &[]);
    assert_eq!((out.as_str(), aside.as_str(), well), ("", "", true));
}

#[test]
fn lists_are_looked_into_and_json_is_a_line_each() {
    let text = r#"{"kind": "List", "items": [
        {"kind": "Pod", "metadata": {"name": "a", "annotations": {"nodetap.io/inject": "true"}}, "spec": {"containers": [{"name": "app"}]}},
        {"kind": "Pod", "metadata": {"name": "b", "annotations": {"nodetap.io/inject": "jein"}}},
        {"kind": "ConfigMap", "metadata": {"name": "c"}}]}"#;
    let (out, aside, well) = lint(text, &["-o", "json"]);
    assert!(!well && aside.is_empty());
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["capture"], &lines[0]["config"]["proxy-type"]), (&"yes".into(), &"transparent".into()));
    assert_eq!((&lines[1]["capture"], &lines[1]["errors"][0]["key"]), (&"refused".into(), &"nodetap.io/inject".into()));
}

#[test]
fn every_annotation_is_listed() {
    for more in [&["--keys"][..], &["--keys", "-o", "json"]] {
        let (mut out, mut aside) = (Vec::new(), Vec::new());
        assert!(Cli::try_parse_from([&["lint"], more].concat()).unwrap().lint.write(&mut out, &mut aside).unwrap());
        let out = String::from_utf8(out).unwrap();
        assert!(nodetap_core::pod::keys::KEYS.iter().all(|key| out.contains(key.name)));
    }
    assert!(Cli::try_parse_from(["lint"]).is_err());
}
