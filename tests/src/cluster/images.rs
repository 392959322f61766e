//! Images of real programs, made of what the distribution's packages have installed on this machine, and of programs that
//! the tests build: there is no registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nodetap_oci::Image;

use crate::peers;

/// Where nginx looks for what it is to do; [`nginx`] puts a server there that listens on port 80.
pub const NGINX_CONF: &str = "/etc/nginx/nginx.conf";
const NGINX: &str = "daemon off; worker_processes 1; error_log /dev/stderr; pid /tmp/nginx.pid;\n\
    events { worker_connections 1024; }\n\
    http { access_log off; client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;\n\
    uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;\n\
    server { listen 80; listen [::]:80; location / { default_type text/plain; return 200 \"hello from nginx\\n\"; } } }\n";
/// Users that programs look for.
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";

/// An image with nothing but users and a folder for temporary files; its reference is `docker.io/local/NAME:1`.
pub fn empty(name: &str) -> Image {
    Image::new(&format!("docker.io/local/{name}:1"))
        .bytes("/etc/passwd", USERS, 0o644)
        .bytes("/etc/group", GROUPS, 0o644)
        .bytes("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644)
        .folder("/tmp", 0o1777)
}

/// `docker.io/local/nginx:1`.
///
/// # Errors
/// When nginx is not installed.
pub fn nginx() -> Result<Image> {
    let nginx = installed("/usr/sbin/nginx")?;
    empty("nginx")
        .entrypoint(&["/usr/sbin/nginx", "-c", NGINX_CONF])
        .bytes(NGINX_CONF, NGINX, 0o644)
        .folder("/var/log/nginx", 0o755)
        .folder("/var/lib/nginx", 0o755)
        .program(&nginx, &nginx)
}

/// `docker.io/local/NAME:1`: Python with its standard library, and a script that is run.
///
/// # Errors
/// When Python is not installed.
pub fn python(name: &str, script: &str) -> Result<Image> {
    let link = installed("/usr/bin/python3")?;
    let program = link.canonicalize()?;
    let version = program.file_name().context("no name")?.to_string_lossy().into_owned();
    let unneeded = |folder: &str| {
        ["__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo"]
            .contains(&folder)
            || folder.starts_with("config-")
    };
    empty(name)
        .entrypoint(&["/usr/bin/python3", "-B", "/srv/main.py"])
        .bytes("/srv/main.py", script, 0o644)
        .link(&link, &version)
        .program(&program, &program)?
        .tree(&PathBuf::from("/usr/lib").join(&version), &unneeded)
}

/// `docker.io/local/NAME:1`: one program of this machine, with its libraries, which is run.
///
/// # Errors
/// When it cannot be read.
pub fn program(name: &str, file: &Path) -> Result<Image> {
    empty(name).entrypoint(&["/usr/bin/program"]).program("/usr/bin/program", file)
}

/// What containerd starts first in every pod.
pub(super) fn pause() -> Result<Image> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pause.go");
    Image::new(PAUSE).entrypoint(&["/pause"]).file("/pause", &peers::go(&source)?)
}

/// The reference of [`pause`].
pub(super) const PAUSE: &str = "docker.io/local/pause:1";

fn installed(file: &str) -> Result<PathBuf> {
    let file = PathBuf::from(file);
    file.exists()
        .then_some(())
        .with_context(|| format!("{} is not installed: run `cargo xtask setup --for test`", file.display()))?;
    Ok(file)
}
