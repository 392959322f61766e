//! Bars that are times: told always, and held only where the machine has nothing else to do.
#![allow(clippy::print_stderr, reason = "figures are for whoever reads the tests' output")]

/// A bar that is a time or a share of a processor: it is told always, and held against the clock only where the machine
/// has nothing else to do and `NODETAP_BARS` says so (`cargo xtask soak` does).
pub fn bar(met: bool, what: &str) {
    eprintln!("bar {}met: {what}", if met { "" } else { "not " });
    assert!(met || std::env::var_os("NODETAP_BARS").is_none(), "{what}");
}
