//! The folder of bundles.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodetap_core::ulid::Ulid;

use crate::trust::folder::TrustFolder;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A control group as a folder, with a process in it or without.
fn group(home: &Path, populated: u8) -> PathBuf {
    let path = home.join(format!("group-{populated}"));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("cgroup.events"), format!("populated {populated}\nfrozen 0\n")).unwrap();
    path
}

fn file() -> [(PathBuf, Vec<u8>); 1] {
    [(PathBuf::from("certs/x.0"), b"text".to_vec())]
}

#[test]
fn everybody_can_read_it_and_it_goes_with_its_value() {
    let home = tempfile::tempdir().unwrap();
    let folder = TrustFolder::make(home.path(), Ulid::from(1), Path::new("/no/group")).unwrap();
    folder.write(&file().into()).unwrap();
    let path = folder.path().to_owned();
    assert_eq!((mode(&path), mode(&path.join("certs")), mode(&path.join("certs/x.0"))), (0o755, 0o755, 0o644));
    drop(folder);
    assert!(!path.exists());
}

#[test]
fn it_stays_while_something_of_the_command_runs_and_is_swept_later() {
    let home = tempfile::tempdir().unwrap();
    let group = group(home.path(), 1);
    let folder = TrustFolder::make(home.path(), Ulid::from(1), &group).unwrap();
    let path = folder.path().to_owned();
    drop(folder);
    assert!(path.exists());
    let next = || drop(TrustFolder::make(home.path(), Ulid::from(2), Path::new("/no/group")).unwrap());
    next();
    assert!(path.exists(), "something of its command runs");
    fs::write(group.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    next();
    assert!(!path.exists());
}

#[test]
fn one_that_is_in_use_is_not_swept_nor_is_what_is_not_ours() {
    let home = tempfile::tempdir().unwrap();
    let gone = group(home.path(), 0);
    let folder = TrustFolder::make(home.path(), Ulid::from(1), &gone).unwrap();
    let foreign = home.path().join("nodetap-trust-of-somebody");
    fs::create_dir(&foreign).unwrap();
    let link = home.path().join(format!("nodetap-trust-{}", Ulid::from(3)));
    std::os::unix::fs::symlink(&foreign, &link).unwrap();
    drop(TrustFolder::make(home.path(), Ulid::from(2), &gone).unwrap());
    assert!(folder.path().exists() && foreign.exists() && link.exists());
}

#[test]
fn a_name_that_somebody_took_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("elsewhere")).unwrap();
    let name = format!("nodetap-trust-{}", Ulid::from(1));
    std::os::unix::fs::symlink(home.path().join("elsewhere"), home.path().join(name)).unwrap();
    assert!(TrustFolder::make(home.path(), Ulid::from(1), Path::new("/no/group")).is_err());
}

#[test]
fn runs_that_begin_at_once_do_not_sweep_each_other() {
    let home = tempfile::tempdir().unwrap();
    let begin = |first: u128| {
        for number in 0..300 {
            let folder = TrustFolder::make(home.path(), Ulid::from(first + number), Path::new("/no/group")).unwrap();
            folder.write(&file().into()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for runner in 1..=4 {
            scope.spawn(move || begin(runner * 1000));
        }
    });
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
