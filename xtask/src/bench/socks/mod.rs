//! SOCKS5: `nodetap proxy --forward` beside microsocks and dante, under a client of our own.

mod client;
mod commands;

use anyhow::{Context, Result};

use super::Ground;
use super::bars::Bar;
use super::contest::{Contest, Row, Turn};
use super::lane::{Lane, Start};
use super::over_and_over::Done;
use super::proof;
use super::site::Site;
use super::standings::{Figure, Measured, REQUESTS, Standings};
use crate::started;

use client::Route;

/// Seconds of load before each turn, whose figures nobody sees.
const WARM_UP: u32 = 1;
/// Connections at a time.
const THREADS: usize = 16;
const MICROSOCKS: &str = "microsocks";
const DANTE: &str = "dante";

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Microsocks,
    Dante,
    ProxyRecording,
}

impl Row for Kind {
    const ALL: &'static [Self] = &[Kind::Direct, Kind::Microsocks, Kind::Dante, Kind::ProxyRecording];

    fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Microsocks => MICROSOCKS,
            Kind::Dante => DANTE,
            Kind::ProxyRecording => "proxy --forward, recording",
        }
    }
}

#[derive(Debug)]
pub(super) struct Socks {
    site: Site,
}

impl Contest for Socks {
    type Row = Kind;

    const TITLE: &'static str = "SOCKS5 without authentication, all processors for everyone; medians";
    const NOTES: &'static str = "\
MiB/s: one download; CPU ms/GiB of what stands in the middle. conn/s: connect, negotiate, GET of 1 KiB, close, 16 at a
time; CPU µs per connection. RSS: after the last round, of a family of processes as divided among them.";
    const FIGURES: &'static [Figure] = &[
        Figure::median("download_mib_per_second", "MiB/s", 0),
        Figure::median("cpu_ms_per_gib", "ms/GiB", 0),
        Figure::median("connections_per_second", "conn/s", 0),
        Figure::median("cpu_us_per_connection", "CPU µs", 0),
        Figure::last("rss_mib", "RSS MiB", 1),
        Figure::compared("download_to_microsocks", "÷ micro", |all, name| all.ratio(BULK, name, MICROSOCKS)),
        Figure::compared("download_to_dante", "÷ dante", |all, name| all.ratio(BULK, name, DANTE)),
        Figure::compared("connections_to_microsocks", "conn ÷ micro", |all, name| all.ratio(NEW, name, MICROSOCKS)),
        Figure::compared("connections_to_dante", "conn ÷ dante", |all, name| all.ratio(NEW, name, DANTE)),
    ];

    fn prepare(ground: Ground) -> Result<Self> {
        Ok(Self { site: Site::start(ground.folder, ground.extent.mebibytes, None)? })
    }

    fn lane(&self, kind: Kind, ground: Ground) -> Result<Lane> {
        let port = started::free_port()?;
        let (command, start) = match kind {
            Kind::Direct => return Ok(Lane::direct(kind.name(), &self.site.address)),
            Kind::Microsocks => (commands::microsocks(port)?, Start::Alone),
            Kind::Dante => (commands::dante(port, ground.folder)?, Start::Family),
            Kind::ProxyRecording => (commands::forward(port, ground, &ground.records(kind))?, Start::Alone),
        };
        Lane::start(kind.name(), &format!("127.0.0.1:{port}"), command, start, ground.folder)
    }

    fn turn(&self, kind: Kind, lane: &mut Lane, turn: Turn) -> Result<Measured> {
        let site = self.site.address.parse().context("the site has no IPv4 address")?;
        let proxy = if kind == Kind::Direct { None } else { Some(lane.called.parse().context("no address")?) };
        let route = Route { proxy, site };
        let extent = turn.ground.extent;
        let named = |result: Result<_>| result.with_context(|| format!("through {}", kind.name()));
        let warm_up = named(client::connections(route, WARM_UP, THREADS))?;
        // A GiB is the request whose cost is told.
        let gibibytes = |_: &f64| extent.mebibytes as f64 / 1024.0;
        let (download, cpu_of_download) =
            lane.used_during(gibibytes, |_| client::download(route, extent.mebibytes << 20).context(kind.name()))?;
        let (new, cpu) = lane.used_during(
            |new: &Done| new.count.into(),
            |_| named(client::connections(route, extent.seconds, THREADS)),
        )?;
        let requests = f64::from(warm_up.count + new.count + 1);
        let mut measured =
            Measured::from([(BULK, download), (NEW, f64::from(new.count) / new.seconds), (REQUESTS, requests)]);
        measured.extend(cpu_of_download.map(|micros| ("cpu_ms_per_gib", micros / 1e3)));
        measured.extend(cpu.map(|cpu| ("cpu_us_per_connection", cpu)));
        measured.extend(lane.memory()?.map(|(now, _)| ("rss_mib", now)));
        if kind == Kind::ProxyRecording && turn.is_last {
            let (records, proxy) = (turn.ground.records(kind), lane.called.clone());
            let site = format!("http://{}", self.site.address);
            measured.insert(proof::RECORDED, proof::seek(turn.ground, lane, &records, &["--socks5", &proxy], &site)?);
        }
        Ok(measured)
    }

    fn bars(standings: &Standings) -> Vec<Bar> {
        let ratio = |key, to| standings.ratio(key, Kind::ProxyRecording.name(), to);
        vec![
            Bar::at_least("MiB/s: recording ÷ microsocks", 1.0, ratio(BULK, MICROSOCKS)),
            Bar::at_least("MiB/s: recording ÷ dante", 1.0, ratio(BULK, DANTE)),
            Bar::at_least("connections/s: recording ÷ microsocks", 1.0, ratio(NEW, MICROSOCKS)),
            Bar::at_least("connections/s: recording ÷ dante", 1.0, ratio(NEW, DANTE)),
        ]
    }

    fn check(standings: &Standings) -> Result<()> {
        proof::check(standings)
    }
}

const BULK: &str = "download_mib_per_second";
const NEW: &str = "connections_per_second";
