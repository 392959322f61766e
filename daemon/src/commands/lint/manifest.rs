//! Manifests: files of YAML or JSON documents, cut into objects, and of each what matters here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Objects that one document may be a list of.
const MOST_ITEMS: usize = 10_000;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    /// Counted from 1.
    pub(super) document: usize,
}

/// An object of a manifest, or why a document is none.
pub(super) type Document = (Place, Result<Object, String>);

/// What every object has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    /// Read when the kind is known.
    pub(super) spec: Value,
    items: Vec<Object>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    pub(super) namespace: Option<String>,
    /// Values that are no text are mistakes, and reported.
    annotations: Option<BTreeMap<String, Value>>,
    pub(super) labels: Option<BTreeMap<String, Value>>,
}

impl Metadata {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().or(self.generate_name.as_deref()).unwrap_or_default()
    }

    /// Annotations with text, and those that have something else.
    pub(super) fn annotations(&self) -> (BTreeMap<String, String>, Vec<(String, &'static str)>) {
        let (mut texts, mut others) = (BTreeMap::new(), Vec::new());
        for (key, value) in self.annotations.iter().flatten() {
            let what = match value {
                Value::String(text) => {
                    texts.insert(key.clone(), text.clone());
                    continue;
                }
                Value::Null => "nothing",
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number",
                Value::Array(_) | Value::Object(_) => "a structure",
            };
            others.push((key.clone(), what));
        }
        (texts, others)
    }
}

/// What a workload makes pods of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    pub(super) metadata: Metadata,
    pub(super) spec: PodSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkloadSpec {
    pub(super) template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CronJobSpec {
    pub(super) job_template: JobTemplate,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct JobTemplate {
    pub(super) metadata: Metadata,
    pub(super) spec: WorkloadSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) host_network: bool,
    pub(super) runtime_class_name: Option<String>,
    pub(super) containers: Option<Vec<ContainerSpec>>,
    pub(super) init_containers: Option<Vec<ContainerSpec>>,
    pub(super) ephemeral_containers: Option<Vec<ContainerSpec>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerSpec {
    pub(super) name: String,
    pub(super) image: Option<String>,
    pub(super) restart_policy: Option<String>,
    pub(super) ports: Option<Vec<PortSpec>>,
    pub(super) command: Option<Vec<Value>>,
    pub(super) args: Option<Vec<Value>>,
    pub(super) env: Option<Vec<Variable>>,
    pub(super) env_from: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortSpec {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Variable {
    pub(super) value: Option<Value>,
    pub(super) value_from: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceSpec {
    pub(super) selector: Option<BTreeMap<String, Value>>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort {
    pub(super) port: u16,
    /// A number, or the name of a container's port.
    pub(super) target_port: Option<Value>,
    pub(super) protocol: Option<String>,
}

/// The objects of a file. Documents are cut as kubectl cuts them, at lines that begin with `---`, so that a mistake in
/// one of them does not hide the others.
pub(super) fn documents(file: &str, text: &str) -> Vec<Document> {
    let mut found = Vec::new();
    for (index, text) in split(text).into_iter().enumerate() {
        let place = Place { file: file.to_owned(), document: index + 1 };
        match serde_saphyr::from_str::<Value>(text) {
            // Nothing but comments.
            Ok(Value::Null) => {}
            Ok(value) => object(&place, value, &mut found),
            Err(error) => found.push((place, Err(format!("no YAML: {}", error.without_snippet())))),
        }
    }
    found
}

fn object(place: &Place, value: Value, found: &mut Vec<Document>) {
    match serde_json::from_value::<Object>(value) {
        Ok(object) if object.kind.ends_with("List") => {
            found.extend(object.items.into_iter().take(MOST_ITEMS).map(|item| (place.clone(), Ok(item))));
        }
        Ok(object) if object.kind.is_empty() => found.push((place.clone(), Err("it has no kind".into()))),
        Ok(object) => found.push((place.clone(), Ok(object))),
        Err(error) => found.push((place.clone(), Err(format!("no object of Kubernetes: {error}")))),
    }
}

fn split(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut documents, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            let before = text.get(start..at).unwrap_or_default();
            // What stands before the first mark is a document only when it says something.
            if !documents.is_empty()
                || before.lines().any(|line| !line.trim().is_empty() && !line.starts_with(['#', '%']))
            {
                documents.push(before);
            } else if start == 0 {
                documents.clear();
            }
            start = at;
        }
        at += line.len();
    }
    documents.push(text.get(start..).unwrap_or_default());
    documents
}
