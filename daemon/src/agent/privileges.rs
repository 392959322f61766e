//! The capabilities that an agent needs (capabilities(7)), looked at before it asks the one that runs for the node: what
//! could not do its work must not take the place of what does it.

use rustix::thread::{CapabilitySet, capabilities};

use super::Failure;

/// Without these it does not begin: capability, and what would stop.
const NEEDED: [(CapabilitySet, &str, &str); 2] = [
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN", "no pod's network namespace can be entered, and no kernel program loaded"),
    (CapabilitySet::SYS_PTRACE, "SYS_PTRACE", "no pod's network namespace can be found"),
];
/// Without these it does less.
const USED: [(CapabilitySet, &str, &str); 1] =
    [(CapabilitySet::NET_ADMIN, "NET_ADMIN", "reset-older-connections closes none, and what went past us stays there")];

/// Looks at those that we have.
///
/// # Errors
/// When one is missing without which nothing can be captured.
pub(super) fn check() -> Result<(), Failure> {
    let ours = capabilities(None).map_err(|errno| Failure::internal("read our capabilities")(errno.into()))?;
    for text in missing(ours.effective, &USED) {
        tracing::warn!("{text}");
    }
    let missing: Vec<_> = missing(ours.effective, &NEEDED).collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::Privileges(missing.join("; "))) }
}

fn missing(ours: CapabilitySet, wanted: &[(CapabilitySet, &str, &str)]) -> impl Iterator<Item = String> {
    let missing = wanted.iter().filter(move |(capability, ..)| !ours.contains(*capability));
    missing.map(|(_, name, what)| {
        format!("the capability {name} is missing: {what}; add it to the container's securityContext")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_stops() {
        let one = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        let found: Vec<_> = missing(one, &NEEDED).collect();
        assert!(found.len() == 1 && found[0].starts_with("the capability SYS_PTRACE is missing"), "{found:?}");
        assert_eq!(missing(one, &USED).count(), 0);
        assert_eq!(missing(CapabilitySet::empty(), &NEEDED).count(), 2);
    }
}
