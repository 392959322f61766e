//! Small programs in Python for containers: what the distribution's interpreter runs as whoever a pod says.

use std::process::Command;

/// Asks a URL through the proxy that is named second, or through none, and prints what it was told.
pub const ASK: &str = "import sys, urllib.request\n\
    proxies = {'http': sys.argv[2]} if len(sys.argv) > 2 else {}\n\
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))\n\
    print(opener.open(sys.argv[1], timeout=10).read().decode())\n";

/// Runs a script.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]).args(arguments);
    python
}
