//! Traffic in a pod, made by this package's own program: clients that connect again and again, and what became of each
//! attempt.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::inside::Inside;
use super::pod::BarePod;
use crate::process::Stream;
use crate::wait::{DEADLINE, eventually};

/// How long the program may take to answer, and to end.
const ANSWER: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(60);
/// What is begun so soon after something dies may still have been part of it.
const IN_FLIGHT: f64 = 0.05;

/// The program that makes traffic; only tests and programs of the package know where it is.
pub fn traffic(program: &str, words: &[&str]) -> Command {
    let mut program = Command::new(program);
    program.args(words);
    program
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Seconds since 1970.
    pub begun: f64,
    /// The same.
    pub ended: f64,
    /// What the client says.
    pub why: String,
}

impl Failed {
    /// Was it under way when something died at this time?
    pub fn was_open_at(&self, died: f64) -> bool {
        self.begun <= died + IN_FLIGHT && self.ended >= died
    }
}

/// A program in a container that answers each line with one.
#[derive(Debug)]
pub struct Asked {
    process: Inside,
    answers: usize,
}

impl Asked {
    /// In the container `app`. `ready`: the line by which it says that it can be asked, if it does.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(pod: &BarePod<'_>, program: &Command, ready: Option<&str>) -> Result<Self> {
        let process = pod.start("app", program)?;
        if let Some(ready) = ready {
            process.line(Stream::Out, ready, |line| (line == ready).then_some(()))?;
        }
        Ok(Self { process, answers: usize::from(ready.is_some()) })
    }

    /// # Errors
    /// When it does not answer, with what it has complained of.
    pub fn answer(&mut self, question: &str) -> Result<String> {
        self.process.write(format!("{question}\n").as_bytes())?;
        self.answers += 1;
        let answered = eventually(ANSWER, "an answer", || {
            let text = self.process.so_far(Stream::Out);
            text.rsplit_once('\n')?.0.lines().nth(self.answers - 1).map(str::to_owned)
        });
        answered.with_context(|| self.process.so_far(Stream::Err))
    }

    /// Ends its input; the last line that it prints.
    ///
    /// # Errors
    /// When it does not end, or that is no JSON.
    pub fn last(mut self) -> Result<Value> {
        let finished = self.process.finish_within(END)?;
        let last = finished.text().lines().last().and_then(|line| serde_json::from_str(line).ok());
        last.with_context(|| format!("{} {}", finished.text(), finished.err))
    }
}

/// Clients in a container that make so many connections a second, each for one request.
#[derive(Debug)]
pub struct Load(Asked);

impl Load {
    /// `program` makes the traffic; through a forward proxy of the pod's where its port is given.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(program: &str, pod: &BarePod<'_>, to: (&str, u16), rate: u32, proxy: Option<u16>) -> Result<Self> {
        let (to, rate) = (format!("{}:{}", to.0, to.1), rate.to_string());
        let proxy = proxy.map(|port| port.to_string());
        let words: Vec<&str> = ["load", &to, &rate].into_iter().chain(proxy.as_deref()).collect();
        Asked::start(pod, &traffic(program, &words), Some("loading")).map(Self)
    }

    /// Waits until so many more attempts have ended.
    ///
    /// # Errors
    /// When they have not in good time.
    pub fn attempts(&mut self, more: u64) -> Result<()> {
        let before = self.so_far()?;
        eventually(DEADLINE, "attempts of the load", || match self.so_far() {
            Ok(now) if now < before + more => None,
            ended => Some(ended.map(drop)),
        })?
    }

    /// Attempts that have ended.
    ///
    /// # Errors
    /// When it does not say it.
    pub fn so_far(&mut self) -> Result<u64> {
        Ok(self.0.answer("how many?")?.parse()?)
    }

    /// How many attempts there were, and those that failed.
    ///
    /// # Errors
    /// When they do not end, or do not say it.
    pub fn stop(self) -> Result<(u64, Vec<Failed>)> {
        let told = self.0.last()?;
        let failed = told["failed"].as_array().context("no failures")?.iter().map(|one| {
            let why = one[2].as_str().context("no reason")?.to_owned();
            let time = |at: usize| one[at].as_f64().context("no time");
            Ok(Failed { begun: time(0)?, ended: time(1)?, why })
        });
        Ok((told["attempts"].as_u64().context("no attempts")?, failed.collect::<Result<_>>()?))
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
