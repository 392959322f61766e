//! The command lines of the SOCKS proxies. None writes a log of what passes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::Ground;
use crate::process;

/// Every version of it says each connection, and not every one knows `-q`.
pub(super) fn microsocks(port: u16) -> Result<Command> {
    let program = process::find("microsocks").context("no microsocks")?;
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2> /dev/null"]).arg(program);
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    Ok(command)
}

/// dante keeps to the user that starts it: changing users costs it, and a user's own need not be root.
pub(super) fn dante(port: u16, folder: &Path) -> Result<Command> {
    let user = process::output(Command::new("id").arg("-un"))?;
    let user = user.trim();
    let settings = format!(
        "errorlog: {log}\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
         clientmethod: none\nsocksmethod: none\nuser.privileged: {user}\nuser.unprivileged: {user}\n\
         client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n",
        log = folder.join("dante.log").display()
    );
    let file = folder.join("danted.conf");
    std::fs::write(&file, settings)?;
    let mut command = Command::new(process::find("danted").context("no danted")?);
    command.arg("-f").arg(&file).arg("-p").arg(folder.join("danted.pid"));
    Ok(command)
}

pub(super) fn forward(port: u16, ground: Ground, records: &Path) -> Result<Command> {
    let mut command = Command::new(ground.programs.nodetap()?);
    command.args(["proxy", "--quiet", "--forward", &format!("127.0.0.1:{port}"), "--out"]).arg(records);
    Ok(command)
}
