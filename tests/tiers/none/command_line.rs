//! Bad input on the command line: one line that says what is wrong, and the exit code that says what kind of wrong.

use std::net::TcpListener;

use nodetap_tests::folder::Folder;
use nodetap_tests::nodetap;
use nodetap_tests::process::{Finished, Process};

fn finished(arguments: &[&str]) -> Finished {
    Process::start(&mut nodetap::command(arguments)).unwrap().finish().unwrap()
}

#[test]
fn an_option_that_does_not_exist_is_named() {
    let finished = finished(&["run", "--no-such-option", "--", "true"]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert!(finished.err.contains("--no-such-option"), "{finished:?}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    for command in ["ls", "export", "tail"] {
        let finished = finished(&[command, "--from", "/nowhere/at/all"]);
        assert_ne!(finished.code(), 0, "{finished:?}");
        assert!(finished.err.contains("/nowhere/at/all"), "{finished:?}");
        assert_eq!(finished.err.trim_end().lines().count(), 1, "{finished:?}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new().unwrap();
    let finished = finished(&[
        "proxy",
        "--reverse",
        &format!("{address}=127.0.0.1:1"),
        "--out",
        folder.join("out").to_str().unwrap(),
    ]);
    assert_ne!(finished.code(), 0, "{finished:?}");
    assert!(finished.err.contains(&address) && finished.err.contains("in use"), "{finished:?}");
}

#[test]
fn a_reverse_proxy_to_itself_is_refused() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let finished = finished(&["proxy", "--reverse", &format!("{free}={free}")]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert!(finished.err.contains("leads back to itself"), "{finished:?}");
}

#[test]
fn a_file_that_is_no_segment_is_named_with_exit_code_2() {
    let folder = Folder::new().unwrap();
    std::fs::write(folder.join("00000001.seg"), b"this is a shopping list, and no segment").unwrap();
    let finished = finished(&["ls", "--from", folder.join("00000001.seg").to_str().unwrap()]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert!(finished.err.contains("00000001.seg"), "{finished:?}");
}

#[test]
fn the_doctor_says_something_about_this_machine_without_privileges() {
    let finished = finished(&["doctor"]);
    assert!(!finished.text().is_empty(), "{finished:?}");
}
