//! Where the tree of control groups (version 2) is mounted: at `/sys/fs/cgroup`, beside version 1 at
//! `/sys/fs/cgroup/unified`, or, in a container, wherever the node's was mounted.

use std::path::PathBuf;

/// From `/proc/self/mountinfo` (proc(5)): every mount of it, that which shows most of it first.
pub(super) fn mounted(table: &str) -> Vec<PathBuf> {
    let mut found: Vec<(usize, PathBuf)> = table
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (after.split(' ').next() == Some("cgroup2")).then(|| (hidden(root), PathBuf::from(plain(point))))
        })
        .collect();
    found.sort_by_key(|(hidden, _)| *hidden);
    found.into_iter().map(|(_, point)| point).collect()
}

/// How far a mount's root is from that of the tree, as far as one can tell: a control group namespace writes what lies
/// above its own group as `/..`.
fn hidden(root: &str) -> usize {
    const FROM_HERE: usize = 1000;
    let parts = root.split('/').filter(|part| !part.is_empty());
    parts.fold(FROM_HERE, |depth, part| if part == ".." { depth.saturating_sub(1) } else { depth + 1 })
}

/// Spaces and the like are written in octal.
fn plain(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(table: &str) -> Vec<String> {
        mounted(table).into_iter().map(|point| point.display().to_string()).collect()
    }

    #[test]
    fn the_tree_is_found_beside_version_1_and_alone() {
        let hybrid = "25 22 0:21 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            26 25 0:22 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
            27 25 0:23 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n";
        assert_eq!(points(hybrid), ["/sys/fs/cgroup/unified"]);
        assert_eq!(points("30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"), ["/sys/fs/cgroup"]);
        assert_eq!(points("27 25 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), [] as [String; 0]);
    }

    #[test]
    fn in_a_container_the_nodes_mount_goes_before_its_own() {
        let table = "30 22 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
            31 22 0:26 /../../.. /host/cgroup\\040tree ro - cgroup2 cgroup rw\n\
            32 22 0:26 /sub /part ro - cgroup2 cgroup rw\n";
        assert_eq!(points(table), ["/host/cgroup tree", "/sys/fs/cgroup", "/part"]);
    }
}
