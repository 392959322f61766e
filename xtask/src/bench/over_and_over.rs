//! A load of our own: the same thing in several threads, over and over, for a while. The bench's TLS clients, a program of
//! their own, have it too.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How often it was done, and in how many seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) count: u32,
    pub(crate) seconds: f64,
}

/// Does `once` over and over in so many threads, until so many seconds are over.
///
/// # Errors
/// The first failure of a thread.
pub(crate) fn repeat<F>(threads: usize, seconds: u32, once: F) -> Result<Done>
where
    F: Fn() -> Result<()> + Clone + Send + 'static,
{
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds.into());
    let until_end = move || -> Result<u32> {
        let mut count = 0;
        while Instant::now() < end {
            once().with_context(|| format!("after {count}"))?;
            count += 1;
        }
        Ok(count)
    };
    let workers: Vec<_> = (0..threads).map(|_| thread::spawn(until_end.clone())).collect();
    let mut count = 0;
    for worker in workers {
        count += worker.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(Done { count, seconds: start.elapsed().as_secs_f64() })
}
