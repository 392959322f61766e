//! Names that others see: of our labels, and of our object for a workload. The name of an object never changes while its
//! workload lives: Envoy ends all TCP connections of a pod whose Sidecar has another name than before.

use std::fmt::Write;

use super::snapshot::Workload;

/// The label by which a pod is selected, and by nothing else; its value names the workload.
pub const LABEL: &str = "nodetap.io/sidecar";
/// The label of our objects.
pub const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "nodetap");
/// The annotation that tells readers which of their objects ours was made of.
pub const BASE: &str = "nodetap.io/base";
/// The annotation by which a user lets us add hosts to the egress of a Sidecar of theirs: `true`.
pub const MANAGE_EGRESS: &str = "nodetap.io/manage-egress";
/// The annotation in which stands what we have added there: ours, on an object of somebody else's.
pub const ADDED_EGRESS: &str = "nodetap.io/added-egress";
/// What the names of our objects begin with.
pub const PREFIX: &str = "nodetap-";

/// Bytes that a label's value may have.
const LONGEST: usize = 63;
/// Digits of a hash.
const DIGITS: usize = 16;

/// The workload in a label: readable, and its own also where it had to be cut.
pub fn value(workload: &Workload) -> String {
    let whole = format!("{}-{}", workload.kind.to_ascii_lowercase(), workload.name.to_ascii_lowercase());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if whole.len() <= LONGEST && whole.chars().all(fits) && whole.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return whole;
    }
    let mut short: String = whole.chars().filter(|c| fits(*c)).take(LONGEST - DIGITS - 1).collect();
    // Writing to a string does not fail.
    let _ = write!(short, "-{:016x}", fnv(whole.as_bytes()));
    // A kind may be a word of anybody's.
    if short.starts_with(|c: char| c.is_ascii_alphanumeric()) { short } else { short.replacen(['-', '.'], "x", 1) }
}

/// The name of our object for a workload with this value.
pub fn sidecar(value: &str) -> String {
    format!("{PREFIX}{value}")
}

/// FNV-1a: tells apart, hides nothing.
fn fnv(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, name: &str) -> String {
        value(&Workload { kind: kind.into(), name: name.into() })
    }

    #[test]
    fn a_workload_has_one_name_that_is_a_label_and_nobody_elses() {
        assert_eq!(of("Deployment", "web"), "deployment-web");
        assert_eq!(of("StatefulSet", "db.main"), "statefulset-db.main");
        assert_ne!(of("Pod", "web"), of("Deployment", "web"));
        let (long, other) = ("a".repeat(200), format!("{}b", "a".repeat(199)));
        for name in [&long, &other, &"ü-".repeat(40), &"-".repeat(80), &String::new()] {
            let value = of("Deployment", name);
            assert!(value.len() <= LONGEST, "{value}");
            let ends = |c: char| c.is_ascii_alphanumeric();
            assert!(value.starts_with(ends) && value.ends_with(ends), "{value}");
        }
        assert_ne!(of("Deployment", &long), of("Deployment", &other));
    }
}
