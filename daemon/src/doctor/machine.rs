//! This machine: what `nodetap run` needs of it, all at once, each finding with the command that mends it.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv6Addr, TcpListener};
use std::process::ExitCode;
use std::time::SystemTime;

use nodetap_core::ulid::Ulid;
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::probes::Probes;
use crate::trust::ca::{self, Ca};

/// The kernel that all programs need: socket operations that know their network namespace.
const KERNEL: (u32, u32) = (5, 15);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Good(String),
    /// Works, with less.
    Note(String),
    /// Does not work: why, and what to do.
    Bad(String, String),
}

/// Prints the page; exit code 1 when something is wrong.
pub(super) fn run(json: bool) -> ExitCode {
    let findings = examine();
    let wrong = findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Bad(..))).count();
    let mut out = io::stdout().lock();
    if json {
        let lines: Vec<_> = findings.iter().map(Finding::json).collect();
        let _ = writeln!(out, "{}", json!({"machine": lines, "wrong": wrong}));
        return ExitCode::from(u8::from(wrong > 0));
    }
    for finding in &findings {
        let _ = match &finding.verdict {
            Verdict::Good(text) => writeln!(out, "ok    {}: {text}", finding.what),
            Verdict::Note(text) => writeln!(out, "note  {}: {text}", finding.what),
            Verdict::Bad(text, advice) => writeln!(out, "FAIL  {}: {text}\n      do: {advice}", finding.what),
        };
    }
    let _ = match wrong {
        0 => writeln!(out, "`nodetap run -- CMD` works here"),
        _ => writeln!(out, "`nodetap run` does not work here yet; `nodetap proxy` needs none of this"),
    };
    ExitCode::from(u8::from(wrong > 0))
}

impl Finding {
    /// With the words of a pod's page.
    fn json(&self) -> Value {
        let (verdict, text, mend) = match &self.verdict {
            Verdict::Good(text) => ("good", text, None),
            Verdict::Note(text) => ("note", text, None),
            Verdict::Bad(text, advice) => ("wrong", text, Some(advice)),
        };
        let mut line = json!({"topic": self.what, "verdict": verdict, "text": text});
        if let (Some(mend), Some(line)) = (mend, line.as_object_mut()) {
            line.insert("mend".into(), mend.as_str().into());
        }
        line
    }
}

fn examine() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        Finding { what: "kernel", verdict: kernel(release.trim()) },
        Finding { what: "control groups", verdict: control_group() },
        Finding { what: "kernel programs", verdict: programs() },
        Finding { what: "IPv6", verdict: ipv6() },
        Finding { what: "opened TLS", verdict: authority() },
    ]
}

fn kernel(release: &str) -> Verdict {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version >= KERNEL => Verdict::Good(format!("Linux {release}")),
        Some(_) => Verdict::Bad(
            format!("Linux {release} is older than {}.{}", KERNEL.0, KERNEL.1),
            "boot a newer kernel, or record with `nodetap proxy`".into(),
        ),
        None => Verdict::Note(format!("cannot read the version `{release}`")),
    }
}

fn control_group() -> Verdict {
    match Cgroup::make(Ulid::default()) {
        Ok(cgroup) => Verdict::Good(format!("can make groups like {}", cgroup.path().display())),
        Err(error) if error.is_permission() => Verdict::Bad(
            error.to_string(),
            "use sudo, or a group of your own: `systemd-run --user --scope -p Delegate=yes nodetap run …`".into(),
        ),
        Err(error) => Verdict::Bad(error.to_string(), "mount cgroup2: `mount -t cgroup2 none /sys/fs/cgroup`".into()),
    }
}

fn programs() -> Verdict {
    match Probes::load(None) {
        Ok(_) => Verdict::Good("the kernel takes all of them".into()),
        Err(error) if error.is_permission() => Verdict::Bad(
            error.to_string(),
            "use sudo, or grant it once: `sudo setcap cap_bpf,cap_perfmon,cap_net_admin+ep \"$(command -v nodetap)\"`"
                .into(),
        ),
        Err(error) => Verdict::Bad(
            error.to_string(),
            "look for CONFIG_CGROUP_BPF, CONFIG_BPF_SYSCALL and lockdown in this kernel".into(),
        ),
    }
}

fn ipv6() -> Verdict {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => Verdict::Good("there is a loopback address".into()),
        Err(error) => Verdict::Note(format!("no ::1 here ({error}): connections over IPv6 are left alone")),
    }
}

fn authority() -> Verdict {
    let loaded =
        ca::default_directory().and_then(|directory| Ca::load(&directory, SystemTime::now()).map(|_| directory));
    match loaded {
        Ok(directory) => Verdict::Good(format!("there is a certificate authority in {}", directory.display())),
        Err(ca::Error::Missing(_) | ca::Error::NoHome) => {
            Verdict::Good("`run --tls` makes an authority for each run; `nodetap ca init` makes a lasting one".into())
        }
        Err(error) => Verdict::Note(format!("the certificate authority cannot be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_version() {
        assert!(matches!(kernel("6.18.44-fc"), Verdict::Good(_)));
        assert!(matches!(kernel("5.15.0-1"), Verdict::Good(_)));
        assert!(matches!(kernel("5.10.200"), Verdict::Bad(..)));
        assert!(matches!(kernel("?"), Verdict::Note(_)));
    }
}
