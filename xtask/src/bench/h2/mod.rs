//! HTTP/2 without TLS, with prior knowledge: `nodetap proxy` beside nghttpx, under h2load.

mod h2load;

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Ground;
use super::bars::Bar;
use super::contest::{Contest, Row, Turn};
use super::lane::{Lane, Start};
use super::proof;
use super::site;
use super::standings::{Figure, Measured, REQUESTS, Standings};
use crate::process;
use crate::started::{self, Started};

use h2load::Load;

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Nghttpx,
    Proxy,
    ProxyRecording,
}

impl Row for Kind {
    const ALL: &'static [Self] = &[Kind::Direct, Kind::Nghttpx, Kind::Proxy, Kind::ProxyRecording];

    fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Nghttpx => "nghttpx -n1",
            Kind::Proxy => "proxy --reverse, no records",
            Kind::ProxyRecording => "proxy --reverse, recording",
        }
    }
}

/// The server at the end of all paths: an nghttpd of one thread with a file of 1 KiB.
#[derive(Debug)]
pub(super) struct H2 {
    _server: Started,
    address: String,
}

impl Contest for H2 {
    type Row = Kind;

    const TITLE: &'static str = "HTTP/2 without TLS: 1 KiB, h2load -c 32 -m 32, one worker everywhere; medians";
    const NOTES: &'static str = "\
failed: of all rounds. mean ms: of a request, of 1024 at a time. CPU µs: per request, of what stands in the middle.
RSS: after the last round.";
    const FIGURES: &'static [Figure] = &[
        Figure::median("per_second", "req/s", 0),
        Figure::sum("failed", "failed"),
        Figure::median("mean_ms", "mean ms", 2),
        Figure::median("cpu_us_per_request", "CPU µs", 1),
        Figure::last("rss_mib", "RSS MiB", 1),
        Figure::compared("throughput_to_nghttpx", "÷ nghttpx", throughput),
    ];

    fn prepare(ground: Ground) -> Result<Self> {
        let root = site::files(ground.folder, 0)?;
        let port = started::free_port()?.to_string();
        let mut command = Command::new(process::find("nghttpd").context("no nghttpd")?);
        command.args(["--no-tls", "-n1", "-a", "127.0.0.1", "-d", &root, &port]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Started::new(&mut command)?;
        let address = format!("127.0.0.1:{port}");
        started::listening(&address)?;
        Ok(Self { _server: server, address })
    }

    fn lane(&self, kind: Kind, ground: Ground) -> Result<Lane> {
        let port = started::free_port()?;
        let own = format!("127.0.0.1:{port}");
        let (command, start) = match kind {
            Kind::Direct => return Ok(Lane::direct(kind.name(), &self.address)),
            // It forks, whatever the number of its workers.
            Kind::Nghttpx => (self.nghttpx(port)?, Start::Family),
            Kind::Proxy | Kind::ProxyRecording => (self.reverse(kind, &own, ground)?, Start::Alone),
        };
        Lane::start(kind.name(), &own, command, start, ground.folder)
    }

    fn turn(&self, kind: Kind, lane: &mut Lane, turn: Turn) -> Result<Measured> {
        let warm_up = h2load::load(lane, turn.ground.extent.requests / 10)?;
        let (load, cpu) =
            lane.used_during(|load: &Load| load.requests, |lane| h2load::load(lane, turn.ground.extent.requests))?;
        let mut measured = Measured::from([
            ("per_second", load.per_second),
            ("failed", load.failed + warm_up.failed),
            ("mean_ms", load.mean),
            (REQUESTS, load.requests + warm_up.requests),
        ]);
        measured.extend(cpu.map(|cpu| ("cpu_us_per_request", cpu)));
        measured.extend(lane.memory()?.map(|(now, _)| ("rss_mib", now)));
        if kind == Kind::ProxyRecording && turn.is_last {
            let site = format!("http://{}", lane.called);
            let records = turn.ground.records(kind);
            let found = proof::seek(turn.ground, lane, &records, &["--http2-prior-knowledge"], &site)?;
            measured.insert(proof::RECORDED, found);
        }
        Ok(measured)
    }

    fn check(standings: &Standings) -> Result<()> {
        proof::check(standings)
    }

    fn bars(standings: &Standings) -> Vec<Bar> {
        let recording = Kind::ProxyRecording.name();
        vec![
            Bar::at_most("failed requests: recording", 0.0, standings.value(recording, "failed")),
            Bar::at_least("req/s: recording ÷ nghttpx", 0.9, throughput(standings, recording)),
        ]
    }
}

impl H2 {
    fn nghttpx(&self, port: u16) -> Result<Command> {
        let mut command = Command::new(process::find("nghttpx").context("no nghttpx")?);
        let upstream = self.address.replace(':', ",");
        command.args(["--conf=/dev/null", "-n1", "--accesslog-file=/dev/null", "--errorlog-file=/dev/null"]);
        command.arg(format!("--frontend=127.0.0.1,{port};no-tls")).arg(format!("--backend={upstream};;proto=h2"));
        Ok(command)
    }

    fn reverse(&self, kind: Kind, own: &str, ground: Ground) -> Result<Command> {
        let mut command = Command::new(ground.programs.nodetap()?);
        command.args(["proxy", "--workers", "1", "--quiet", "--reverse", &format!("{own}={}", self.address)]);
        command.args((kind == Kind::Proxy).then_some("--no-record")).arg("--out").arg(ground.records(kind));
        Ok(command)
    }
}

/// A row's requests per second to nghttpx's.
fn throughput(standings: &Standings, name: &str) -> Option<f64> {
    standings.ratio("per_second", name, Kind::Nghttpx.name())
}
