//! The program under test: where it was built.

use std::path::PathBuf;
use std::process::Command;

/// `NODETAP_BIN`, else the `nodetap` that was built beside this test binary, else the one on the `PATH`.
pub fn binary() -> PathBuf {
    std::env::var_os("NODETAP_BIN").map(PathBuf::from).or_else(beside).unwrap_or_else(|| PathBuf::from("nodetap"))
}

/// The archive of nodetap's container image: `NODETAP_IMAGE`, else the one that stands in the build's folder. `cargo xtask
/// test` writes it, and so does `cargo xtask image`.
pub fn image() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let noted = std::env::var_os("NODETAP_IMAGE").map(PathBuf::from);
    noted.or_else(|| {
        test.ancestors().skip(1).take(4).map(|folder| folder.join("nodetap-image.tar")).find(|file| file.is_file())
    })
}

/// `nodetap ARG…`, free of what the environment of whoever runs the tests says about records and colours.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("XDG_STATE_HOME").env_remove("SUDO_USER").env("NO_COLOR", "1");
    command
}

/// `target/debug/deps/kernel-…` stands below `target/debug/nodetap`.
fn beside() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    test.ancestors().skip(1).take(2).map(|folder| folder.join("nodetap")).find(|file| file.is_file())
}
