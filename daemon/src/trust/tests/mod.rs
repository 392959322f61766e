//! Tests of certificates, stores and plans in values and in files of their own.

mod authority;
mod environment;
mod folder;
mod served;
mod stores;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Ca;

/// 2026-11-23.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_392_000)
}

fn ca(name: &str) -> Ca {
    Ca::generate(name, 10, now(), 7).unwrap()
}
