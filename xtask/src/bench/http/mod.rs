//! HTTP/1.1 with connections that are kept: `nodetap proxy` and `nodetap run`, with a recorder in peace and in trouble,
//! beside nginx and mitmdump.

mod commands;
mod kind;

use anyhow::{Context, Result, ensure};

use super::Ground;
use super::bars::Bar;
use super::contest::{Contest, Row, Turn};
use super::lane::{Lane, Start};
use super::site::Site;
use super::standings::{Figure, Measured, REQUESTS, Standings};
use super::wrk::{self, Load};
use crate::started;

use commands::Parts;
use kind::Kind;

/// Seconds of load before each turn, whose figures nobody sees: buffers, caches and branches as under lasting load, and
/// what is to be in the recorder's way is.
const WARM_UP: u32 = 1;

#[derive(Debug)]
pub(super) struct Http {
    site: Site,
}

impl Contest for Http {
    type Row = Kind;

    const TITLE: &'static str = "HTTP: 1 KiB keep-alive, one worker everywhere; medians";
    const NOTES: &'static str = "\
CPU µs: per request at c=16, of the process in the middle. RSS: after the last round. ÷ nginx: req/s at c=16 to
nginx proxy_pass. added ÷: what the path adds to the p50 of the direct one at c=1, to what nginx proxy_pass adds.";
    const FIGURES: &'static [Figure] = &[
        Figure::median("c1_per_second", "c=1 req/s", 0),
        Figure::median("c1_p50_us", "p50 µs", 0),
        Figure::median("c1_p99_us", "p99 µs", 0),
        Figure::median("c16_per_second", "c=16", 0),
        Figure::median("c16_p50_us", "p50 µs", 0),
        Figure::median("c16_p99_us", "p99 µs", 0),
        Figure::median("download_mib_per_second", "MiB/s", 0),
        Figure::median("cpu_us_per_request", "CPU µs", 1),
        Figure::last("rss_mib", "RSS MiB", 1),
        Figure::last("peak_rss_mib", "peak", 1),
        Figure::compared("throughput_to_nginx_c16", "÷ nginx", throughput),
        Figure::compared("added_p50_to_nginx_c1", "added ÷", added),
    ];

    fn prepare(ground: Ground) -> Result<Self> {
        Ok(Self { site: Site::start(ground.folder, ground.extent.mebibytes, None)? })
    }

    fn lane(&self, kind: Kind, ground: Ground) -> Result<Lane> {
        let own = format!("127.0.0.1:{}", started::free_port()?);
        let parts = Parts { ground, own: &own, upstream: &self.site.address, root: &self.site.root };
        let Some(command) = parts.command(kind)? else {
            return Ok(Lane::direct(kind.name(), &self.site.address));
        };
        let (called, start) = match kind {
            Kind::RunOutbound => (&self.site.address, Start::WithShell),
            Kind::RunUnread => (&own, Start::Unread(parts.fifo())),
            _ => (&own, Start::Alone),
        };
        Lane::start(kind.name(), called, command, start, ground.folder)
    }

    fn turn(&self, kind: Kind, lane: &mut Lane, turn: Turn) -> Result<Measured> {
        let undisturbed = !kind.is_disturbed();
        let mut measured = Measured::new();
        let mut requests = load(lane, 16, WARM_UP)?.requests;
        if undisturbed {
            let c1 = load(lane, 1, turn.ground.extent.seconds)?;
            measured.extend([("c1_per_second", c1.per_second), ("c1_p50_us", c1.p50), ("c1_p99_us", c1.p99)]);
            requests += c1.requests;
        }
        let (c16, cpu) =
            lane.used_during(|c16: &Load| c16.requests, |lane| load(lane, 16, turn.ground.extent.seconds))?;
        measured.extend([("c16_per_second", c16.per_second), ("c16_p50_us", c16.p50), ("c16_p99_us", c16.p99)]);
        measured.extend(cpu.map(|cpu| ("cpu_us_per_request", cpu)));
        measured.insert(REQUESTS, requests + c16.requests);
        // mitmproxy keeps a whole body in memory: once, at the end, is enough to see how long that takes.
        if undisturbed && (kind != Kind::Mitmdump || turn.is_last) {
            measured.insert("download_mib_per_second", fetch(lane)?);
        }
        if let Some((now, peak)) = lane.memory()? {
            measured.extend([("rss_mib", now), ("peak_rss_mib", peak)]);
        }
        Ok(measured)
    }

    fn bars(standings: &Standings) -> Vec<Bar> {
        let run = Kind::RunInbound.name();
        let tail = |kind: Kind| standings.ratio("c16_p99_us", kind.name(), run);
        vec![
            Bar::at_least("req/s at c=16: run inbound ÷ nginx proxy_pass", 0.95, throughput(standings, run)),
            Bar::at_most("added p50 at c=1: run inbound ÷ nginx proxy_pass", 1.5, added(standings, run)),
            Bar::at_most("p99 at c=16: full disk ÷ undisturbed", 1.2, tail(Kind::RunFullDisk)),
            Bar::at_most("p99 at c=16: sink that does not read ÷ undisturbed", 1.2, tail(Kind::RunUnread)),
        ]
    }

    fn check(standings: &Standings) -> Result<()> {
        let is_disturbed = |name| Kind::ALL.iter().any(|kind| kind.name() == name && kind.is_disturbed());
        let spared = standings.rows.iter().filter(|row| is_disturbed(row.name) && !row.losses.any());
        let calm: Vec<&str> = spared.map(|row| row.name).collect();
        ensure!(calm.is_empty(), "nothing was lost, so nothing was in the recorder's way: {}", calm.join(" · "));
        Ok(())
    }
}

fn load(lane: &mut Lane, connections: u32, seconds: u32) -> Result<Load> {
    let url = format!("http://{}/1k", lane.called);
    wrk::load(lane, &wrk::arguments(connections, seconds, &url))
}

fn fetch(lane: &mut Lane) -> Result<f64> {
    let url = format!("http://{}/large", lane.called);
    let arguments = ["-sS", "-f", "-o", "/dev/null", "-w", "%{speed_download}", &url].map(str::to_owned);
    let text = lane.client("curl", &arguments)?;
    let speed: f64 = text.trim().parse().with_context(|| format!("{}: curl printed {text:?}", lane.name))?;
    Ok(speed / f64::from(1 << 20))
}

/// A row's requests per second to nginx's, at 16 connections.
fn throughput(standings: &Standings, name: &str) -> Option<f64> {
    standings.ratio("c16_per_second", name, Kind::Nginx.name())
}

/// What a row adds to the median latency of the direct path at one connection, to what nginx adds. `None` also when the
/// measurement was so disturbed that nginx seems to add nothing.
fn added(standings: &Standings, name: &str) -> Option<f64> {
    let p50 = |name| standings.value(name, "c1_p50_us");
    let direct = p50(Kind::Direct.name())?;
    let nginx = p50(Kind::Nginx.name())? - direct;
    (nginx > 0.0).then_some((p50(name)? - direct) / nginx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::standings;

    fn row(kind: Kind, p50: f64, per_second: f64, p99: f64) -> (&'static str, Measured) {
        (kind.name(), Measured::from([("c1_p50_us", p50), ("c16_per_second", per_second), ("c16_p99_us", p99)]))
    }

    fn standings(rows: &[(&'static str, Measured)]) -> Standings {
        let rows: Vec<_> = rows.iter().map(|(name, round)| (*name, std::slice::from_ref(round))).collect();
        standings::of(Http::FIGURES, &rows)
    }

    #[test]
    fn the_bars_compare_what_they_name() {
        let standings = standings(&[
            row(Kind::Direct, 40.0, 200.0, 100.0),
            row(Kind::Nginx, 60.0, 100.0, 100.0),
            row(Kind::RunInbound, 70.0, 95.0, 100.0),
            row(Kind::RunFullDisk, 70.0, 95.0, 121.0),
        ]);
        let bars = Http::bars(&standings);
        let values: Vec<Option<f64>> = bars.iter().map(|bar| bar.value).collect();
        assert_eq!(values, [Some(0.95), Some(1.5), Some(1.21), None]);
        let met: Vec<Option<bool>> = bars.iter().map(Bar::met).collect();
        assert_eq!(met, [Some(true), Some(true), Some(false), None]);
    }

    #[test]
    fn what_nginx_does_not_add_is_no_measure() {
        let standings = standings(&[row(Kind::Direct, 40.0, 1.0, 1.0), row(Kind::Nginx, 40.0, 1.0, 1.0)]);
        assert_eq!(added(&standings, Kind::Nginx.name()), None);
    }

    #[test]
    fn a_row_whose_recorder_was_to_be_in_trouble_and_was_not_is_told() {
        let calm = standings(&[row(Kind::RunFullDisk, 1.0, 1.0, 1.0)]);
        assert!(Http::check(&calm).unwrap_err().to_string().contains("full disk"));
        assert!(Http::check(&standings(&[row(Kind::RunInbound, 1.0, 1.0, 1.0)])).is_ok());
    }
}
