//! What Kubernetes clients read before they ask: which groups, versions and resources there are; and how errors are said.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::query::{GROUP, VERSION};

/// Media types of aggregated discovery, the newest first (KEP-3352).
const AGGREGATED: [&str; 2] = ["v2", "v2beta1"];

/// `/apis`, in the plain form.
pub(super) fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_body()]})
}

/// `/apis/GROUP`
pub(super) fn group() -> Value {
    let mut group = group_body();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    group
}

fn group_body() -> Value {
    let version = json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

/// `/apis/GROUP/VERSION`
pub(super) fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [{
            "name": "exchanges",
            "singularName": "exchange",
            "namespaced": true,
            "kind": "Exchange",
            "verbs": ["get", "list", "watch"],
        }],
    })
}

/// `/apis` in one document, with its media type, when `accept` asks for that.
pub(super) fn aggregated(accept: &str) -> Option<(Value, String)> {
    let asks = |range: &str, version: &str| {
        let parts: Vec<&str> = range.split(';').map(str::trim).collect();
        let version = format!("v={version}");
        parts.first() == Some(&"application/json")
            && ["g=apidiscovery.k8s.io", "as=APIGroupDiscoveryList", &version].iter().all(|part| parts.contains(part))
    };
    let version = AGGREGATED.into_iter().find(|version| accept.split(',').any(|range| asks(range, version)))?;
    let resource = json!({
        "resource": "exchanges",
        "responseKind": {"group": GROUP, "version": VERSION, "kind": "Exchange"},
        "scope": "Namespaced",
        "singularResource": "exchange",
        "verbs": ["get", "list", "watch"],
    });
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": [{
            "metadata": {"name": GROUP, "creationTimestamp": null},
            "versions": [{"version": VERSION, "resources": [resource], "freshness": "Current"}],
        }],
    });
    Some((document, format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")))
}

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) message: String,
    /// Seconds after which it may be tried again.
    pub(super) retry: Option<u32>,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: None }
    }

    /// As a metav1.Status.
    pub(super) fn document(&self) -> Value {
        let reason = match self.code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalError",
        };
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": reason,
            "code": self.code.as_u16(),
        });
        if let Some(seconds) = self.retry {
            status["details"] = json!({"retryAfterSeconds": seconds});
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_one_document_gets_the_newest_form_that_it_names() {
        let one = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let old = "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io";
        assert_eq!(aggregated(&format!("{old},{one},application/json")).unwrap().1, one);
        assert_eq!(aggregated(old).unwrap().0["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert!(aggregated("application/json, */*").is_none());
    }

    #[test]
    fn a_refusal_is_a_status_that_kubernetes_clients_understand() {
        let refusal = Refusal { retry: Some(5), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "later") };
        let status: kube::core::Status = serde_json::from_value(refusal.document()).unwrap();
        assert_eq!((status.code, status.message.as_str(), status.reason.as_str()), (429, "later", "TooManyRequests"));
        assert_eq!(status.details.unwrap().retry_after_seconds, 5);
    }
}
