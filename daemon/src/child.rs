//! Starts the command: a first process enters the control group, gives up our privileges and becomes the command. So
//! the command is in its group from its first instruction, and nothing of ours runs in it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::unistd::{Gid, Uid, User};
use thiserror::Error;

/// The hidden subcommand that [`start`] calls and [`become_command`] serves.
pub const SUBCOMMAND: &str = "run-in-cgroup";

/// Shells' exit code for a command that was found but cannot be run.
pub const NOT_EXECUTABLE: u8 = 126;
/// Shells' exit code for a command that was not found.
pub const NOT_FOUND: u8 = 127;

/// Why a user is not to be had.
#[derive(Debug, Error)]
pub enum Error {
    #[error("no user `{0}`; give a name or a number that `getent passwd` shows")]
    NoUser(String),
    #[error("only root can run the command as another user; leave --user out, or use sudo")]
    NotRoot,
}

/// Whom the command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub name: String,
    pub home: PathBuf,
}

impl Identity {
    /// `--user`, or else who called sudo; `None`: stay who we are.
    ///
    /// # Errors
    /// When the user does not exist, or we may not become it.
    pub fn choose(wanted: Option<&str>, sudo_uid: Option<&str>) -> Result<Option<Self>, Error> {
        let root = nix::unistd::geteuid().is_root();
        let found = match (wanted, sudo_uid) {
            (Some(wanted), _) => Self::find(wanted).ok_or_else(|| Error::NoUser(wanted.to_owned()))?,
            // A number that sudo set but nobody knows is no reason to fail: stay root, as without sudo.
            (None, Some(uid)) if root => match Self::find(uid) {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if found.uid == nix::unistd::geteuid().as_raw() {
            return Ok(None);
        }
        if root { Ok(Some(found)) } else { Err(Error::NotRoot) }
    }

    fn find(name_or_number: &str) -> Option<Self> {
        let by_number = name_or_number.parse().ok().map(Uid::from_raw);
        let user = User::from_name(name_or_number).ok().flatten();
        let user = user.or_else(|| by_number.and_then(|uid| User::from_uid(uid).ok().flatten()))?;
        Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name, home: user.dir })
    }
}

/// Starts `command` in the group at `cgroup`, with `environment` besides our own and the limits `files` of open files (soft
/// and hard). Standard input, output and error are the command's.
///
/// # Errors
/// When not even the first process can be started; what happens later is an exit code.
pub fn start<'a>(
    command: &[OsString],
    cgroup: &Path,
    identity: Option<&Identity>,
    files: Option<(u64, u64)>,
    environment: impl IntoIterator<Item = &'a (&'static str, OsString)>,
) -> io::Result<Child> {
    let mut first = Command::new("/proc/self/exe");
    first.arg(SUBCOMMAND).arg("--cgroup").arg(cgroup);
    if let Some(identity) = identity {
        first.arg("--as").arg(&identity.name);
    }
    if let Some((soft, hard)) = files {
        first.arg("--files").arg(format!("{soft}:{hard}"));
    }
    first.envs(environment.into_iter().map(|(name, value)| (name, value)));
    first.arg("--").args(command).spawn()
}

/// The first process: returns only when the command could not be started, with the exit code that says so.
pub fn become_command(command: &[OsString], cgroup: &Path, name: Option<&str>, files: Option<(u64, u64)>) -> u8 {
    let Err(error) = enter(cgroup, name, files) else {
        let Some((program, arguments)) = command.split_first() else { return NOT_FOUND };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(identity) = name.and_then(Identity::find) {
            // As sudo does: a program that runs as a user looks for that user's files.
            command.env("HOME", &identity.home).env("USER", &identity.name).env("LOGNAME", &identity.name);
        }
        let error = command.exec();
        let program = program.to_string_lossy();
        return match error.kind() {
            io::ErrorKind::NotFound => {
                complain(&format!("cannot find the command `{program}`: check its spelling, or give a path"));
                NOT_FOUND
            }
            _ => {
                complain(&format!("cannot execute `{program}`: {error}; is it an executable file (chmod +x)?"));
                NOT_EXECUTABLE
            }
        };
    };
    complain(&error);
    NOT_EXECUTABLE
}

fn enter(cgroup: &Path, name: Option<&str>, files: Option<(u64, u64)>) -> Result<(), String> {
    let processes = cgroup.join("cgroup.procs");
    // 0 means the writer itself (cgroups(7)).
    fs::write(&processes, "0").map_err(|error| {
        format!("cannot enter the control group {}: {error}; the group above must be ours too", cgroup.display())
    })?;
    if let Some((soft, hard)) = files {
        let limit = rustix::process::Rlimit { current: Some(soft), maximum: Some(hard) };
        // The command has the limit that it would have without us; if that fails it has a higher one.
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    }
    let Some(name) = name else { return Ok(()) };
    let identity = Identity::find(name).ok_or_else(|| Error::NoUser(name.to_owned()).to_string())?;
    let gid = Gid::from_raw(identity.gid);
    let become_it = || -> nix::Result<()> {
        let name = std::ffi::CString::new(identity.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
        nix::unistd::initgroups(&name, gid)?;
        nix::unistd::setgid(gid)?;
        nix::unistd::setuid(Uid::from_raw(identity.uid))
    };
    become_it().map_err(|error| format!("cannot become the user `{name}`: {error}"))
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "nodetap run: {message}");
}

/// The exit code that a shell would give for this end.
pub fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => signal_exit_code(signal.unwrap_or(0)),
    }
}

/// The exit code that a shell would give for an end by this signal.
pub fn signal_exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
