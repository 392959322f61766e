//! What only these tests have in common.

use serde_json::Value;

/// The program that makes traffic.
pub(crate) const TRAFFIC: &str = env!("CARGO_BIN_EXE_nodetap-traffic");

/// What was said to be asked for, whatever the request's own id is.
pub(crate) fn without_ids(mut told: Value) -> Value {
    if let Some(heads) = told["heads"].as_object_mut() {
        heads.retain(|name, _| {
            !["x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid"].contains(&name.as_str())
        });
    }
    told
}
