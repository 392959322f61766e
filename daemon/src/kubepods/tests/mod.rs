//! Made-up trees of control groups and made-up processes. What needs real ones is in the tiers.

mod find;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

/// The UID of a pod, and how systemd's driver writes it.
fn uid(number: u32) -> String {
    format!("{number:08x}-8b7e-4c55-9a10-6f1e2d3c4b5a")
}

fn id(number: u32) -> String {
    format!("{number:064x}")
}

fn make(root: &Path, path: &str) -> PathBuf {
    let folder = root.join(path);
    fs::create_dir_all(&folder).unwrap();
    folder
}
