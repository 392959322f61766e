//! nodetap's automation.
fn main() {}
