//! HTTPS that is opened: `nodetap proxy` with a certificate of the user's and `nodetap run --tls`, beside nginx from https
//! to https and mitmdump. Every leg is TLS, and everything in the middle verifies the server.

mod certificates;
mod clients;
mod commands;

use anyhow::Result;

use super::Ground;
use super::bars::Bar;
use super::contest::{Contest, Row, Turn};
use super::lane::{Lane, Start};
use super::proof;
use super::site::Site;
use super::standings::{Figure, Measured, REQUESTS, Standings};
use super::wrk::{self, Load};
use crate::started;

use certificates::Certificates;
use clients::Connections;
use commands::Parts;

/// Seconds of load before each turn, whose figures nobody sees.
const WARM_UP: u32 = 1;
const NGINX: &str = "nginx proxy_pass";
const MITMDUMP: &str = "mitmdump -w";

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Nginx,
    Mitmdump,
    ProxyRecording,
    RunOutbound,
}

impl Row for Kind {
    const ALL: &'static [Self] = &[Kind::Direct, Kind::Nginx, Kind::Mitmdump, Kind::ProxyRecording, Kind::RunOutbound];

    fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Nginx => NGINX,
            Kind::Mitmdump => MITMDUMP,
            Kind::ProxyRecording => "proxy --reverse --tls-…, recording",
            Kind::RunOutbound => "run --tls outbound",
        }
    }

    fn needs_root(self) -> bool {
        self == Kind::RunOutbound
    }
}

#[derive(Debug)]
pub(super) struct Https {
    site: Site,
    certificates: Certificates,
}

impl Contest for Https {
    type Row = Kind;

    const TITLE: &'static str = "HTTPS opened: 1 KiB, TLS 1.3 with P-256 on every leg, one worker everywhere; medians";
    const NOTES: &'static str = "\
req/s to CPU µs: keep-alive, c=16; CPU µs per request, of what stands in the middle. new/s: connections with a full
handshake and one request each, 16 at a time; CPU µs per connection. RSS: after the last round.";
    const FIGURES: &'static [Figure] = &[
        Figure::median("per_second", "req/s", 0),
        Figure::median("p50_us", "p50 µs", 0),
        Figure::median("p99_us", "p99 µs", 0),
        Figure::median("cpu_us_per_request", "CPU µs", 1),
        Figure::median("new_per_second", "new/s", 0),
        Figure::median("cpu_us_per_connection", "CPU µs", 0),
        Figure::last("rss_mib", "RSS MiB", 1),
        Figure::compared("throughput_to_nginx", "÷ nginx", |all, name| all.ratio("per_second", name, NGINX)),
        Figure::compared("new_to_nginx", "new ÷", |all, name| all.ratio("new_per_second", name, NGINX)),
        Figure::compared("throughput_to_mitmdump", "÷ mitmdump", |all, name| all.ratio("per_second", name, MITMDUMP)),
        Figure::compared("new_to_mitmdump", "new ÷", |all, name| all.ratio("new_per_second", name, MITMDUMP)),
    ];

    fn prepare(ground: Ground) -> Result<Self> {
        // Before any load: it may have to be built.
        ground.programs.tls_clients()?;
        let certificates = Certificates::make(ground.folder)?;
        let site = Site::start(ground.folder, 0, Some(&certificates.for_nginx()))?;
        Ok(Self { site, certificates })
    }

    fn lane(&self, kind: Kind, ground: Ground) -> Result<Lane> {
        let own = format!("127.0.0.1:{}", started::free_port()?);
        let parts = Parts { ground, own: &own, upstream: &self.site.address, certificates: &self.certificates };
        let Some(command) = parts.command(kind)? else {
            return Ok(Lane::direct(kind.name(), &self.site.address));
        };
        let (called, start) = match kind {
            Kind::RunOutbound => (&self.site.address, Start::WithShell),
            _ => (&own, Start::Alone),
        };
        Lane::start(kind.name(), called, command, start, ground.folder)
    }

    fn turn(&self, kind: Kind, lane: &mut Lane, turn: Turn) -> Result<Measured> {
        let seconds = turn.ground.extent.seconds;
        let warm_up = load(lane, WARM_UP)?;
        let (kept, cpu) = lane.used_during(|kept: &Load| kept.requests, |lane| load(lane, seconds))?;
        let (new, cpu_new) = lane.used_during(
            |new: &Connections| new.count,
            |lane| clients::connect(turn.ground, lane, kind, &self.certificates),
        )?;
        let mut measured = Measured::from([
            ("per_second", kept.per_second),
            ("p50_us", kept.p50),
            ("p99_us", kept.p99),
            ("new_per_second", new.per_second),
            (REQUESTS, warm_up.requests + kept.requests + new.count),
        ]);
        measured.extend(cpu.map(|cpu| ("cpu_us_per_request", cpu)));
        measured.extend(cpu_new.map(|cpu| ("cpu_us_per_connection", cpu)));
        measured.extend(lane.memory()?.map(|(now, _)| ("rss_mib", now)));
        if matches!(kind, Kind::ProxyRecording | Kind::RunOutbound) && turn.is_last {
            let site = format!("https://{}", lane.called);
            let records = turn.ground.records(kind);
            measured.insert(proof::RECORDED, proof::seek(turn.ground, lane, &records, &["--insecure"], &site)?);
        }
        Ok(measured)
    }

    fn bars(standings: &Standings) -> Vec<Bar> {
        let recording = Kind::ProxyRecording.name();
        let run = Kind::RunOutbound.name();
        let kept = |name, to| standings.ratio("per_second", name, to);
        let new = |name, to| standings.ratio("new_per_second", name, to);
        vec![
            Bar::at_least("req/s: proxy recording ÷ mitmdump", 30.0, kept(recording, MITMDUMP)),
            Bar::at_least("req/s: run --tls ÷ mitmdump", 30.0, kept(run, MITMDUMP)),
            Bar::at_least("req/s: proxy recording ÷ nginx", 0.8, kept(recording, NGINX)),
            Bar::at_least("req/s: run --tls ÷ nginx", 0.8, kept(run, NGINX)),
            Bar::at_least("new connections/s: proxy recording ÷ mitmdump", 10.0, new(recording, MITMDUMP)),
            Bar::at_least("new connections/s: run --tls ÷ mitmdump", 10.0, new(run, MITMDUMP)),
        ]
    }

    fn check(standings: &Standings) -> Result<()> {
        proof::check(standings)
    }
}

fn load(lane: &mut Lane, seconds: u32) -> Result<Load> {
    let url = format!("https://{}/1k", lane.called);
    wrk::load(lane, &wrk::arguments(16, seconds, &url))
}
