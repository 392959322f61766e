//! What the demo shows: nginx before a service that calls another, a client over IPv4 and one over IPv6. It runs inside
//! `nodetap run` and knows nothing of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::started::{self, Folder, Started};

/// Starts the servers, lets the clients call, and ends the servers.
pub(crate) fn play() -> Result<()> {
    let folder = Folder::new("scene")?;
    let (stock, shop, front) = (started::free_port()?, started::free_port()?, started::free_port()?);
    let service = folder.0.join("service.py");
    std::fs::write(&service, include_str!("service.py"))?;
    let _stock = python(&service, &["stock", &stock.to_string()])?;
    let _shop = python(&service, &["shop", &shop.to_string(), &stock.to_string()])?;
    let servers = format!(
        "server {{ listen 127.0.0.1:{front}; listen [::1]:{front};\n\
         location / {{ proxy_pass http://127.0.0.1:{shop}; proxy_http_version 1.1; }} }}"
    );
    let _nginx = Started::new(&mut started::nginx(&folder.0, "front", &servers)?)?;
    // Nobody calls before there is somebody to answer: a destination that has refused is left alone for a while. nginx
    // writes this file once it listens.
    let listens = folder.0.join("front/pid");
    started::until("nginx to listen", || listens.exists())?;
    for place in [format!("127.0.0.1:{front}"), format!("[::1]:{front}")] {
        let base = format!("http://{place}");
        curl(&[&format!("{base}/items?q=socks"), &format!("{base}/items/1")])?;
        curl(&["--compressed", &format!("{base}/items/2")])?;
        curl(&["-I", &format!("{base}/items/3")])?;
        curl(&["-d", "item=1&count=2", &format!("{base}/orders")])?;
        curl(&[&format!("{base}/missing")])?;
    }
    Ok(())
}

fn python(service: &Path, arguments: &[&str]) -> Result<Started> {
    let mut command = Command::new("/usr/bin/python3");
    let mut started = Started::new(command.arg(service).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(started.child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    ensure!(line == "listening\n", "a service did not come up");
    Ok(started)
}

fn curl(arguments: &[&str]) -> Result<String> {
    process::output(Command::new("curl").args(["-sS", "--max-time", "10"]).args(arguments)).context("a client failed")
}
