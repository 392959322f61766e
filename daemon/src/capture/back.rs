//! Brings back what went past us: connections that a program of the target accepted in the place of our listener, and that
//! its caller keeps for later requests, are ended, so that the next request makes a new one, which is ours. One on which an
//! answer is owed, or is being given, is not touched, nor one whose caller is awake: it may have read a request that it is
//! about to write there. It refuses to know what requests and answers are.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::look::by_id;
use super::namespace::{Namespace, within};
use super::older::Reset;
use super::threads::{self, Look};
use crate::cgroup;
use crate::netlink::connections::{Connection, connections};

/// Between two looks at a connection.
const LOOK: Duration = Duration::from_millis(1);
/// One on which nothing was seen, and nothing has happened for so long, is in nobody's hands.
const IDLE: Duration = Duration::from_secs(1);
/// One that was seen to be answered has to be quiet for so long. The more a connection is used, the likelier it is that its
/// caller takes it in the moment that it ends: those that are used least go first, and what is asked for is halved again
/// and again, because a caller that has another one in their place uses the rest less …
const QUIET: Duration = Duration::from_millis(250);
const HALVED: Duration = Duration::from_millis(500);
const LEAST: Duration = Duration::from_millis(3);
/// … but not below this where it is not sure what was the last, or nobody can say whether its caller sleeps …
const UNSURE: Duration = Duration::from_millis(50);
/// … and where answers pause, not before so many times as long.
const TIMES: u32 = 4;
/// Whether its caller sleeps does not matter any more: one that never sleeps uses its other connections.
const FORCED: Duration = Duration::from_secs(2);
/// Between the ends of two.
const APART: Duration = Duration::from_millis(10);

/// A connection, and what was seen of it.
#[derive(Debug)]
struct Seen {
    connection: Connection,
    since: Instant,
    /// Bytes went out since others came; nothing before any did.
    answered: bool,
    /// … and these did not come in the same moment, so that they may be the next request.
    sure: bool,
    /// The longest pause within an answer.
    pause: Duration,
    /// The control group of whoever is at the other end, if that is in the pod.
    caller: Option<PathBuf>,
}

/// What a look at a connection came to.
enum Step {
    Ended,
    /// It rests, but its caller may be about to use it.
    Left,
    Busy,
}

/// Ends connections to `ours` that programs in `group` (a control group, and those within it) accepted, each as soon as it
/// rests, for so long. It waits meanwhile: it wants a thread of its own. Those that never rested are told as `busy`. It
/// takes CAP_NET_ADMIN.
///
/// # Errors
/// What the kernel answers; `ENOTSUP` where it was built without CONFIG_INET_DIAG_DESTROY.
pub fn bring_back(
    namespace: &dyn Namespace,
    group: &Path,
    ours: &BTreeSet<SocketAddr>,
    patience: Duration,
) -> io::Result<Reset> {
    let (begun, groups) = (Instant::now(), by_id(group));
    let past = |one: &&Connection| ours.contains(&canonical(one.local)) && groups.contains_key(&one.cgroup);
    let all = within(namespace, connections)?;
    let ends = |one: &Connection| (canonical(one.local), canonical(one.remote));
    let others: HashMap<_, u64> = all.iter().map(|one| (ends(one), one.cgroup)).collect();
    let caller = |one: &Connection| {
        let (here, there) = ends(one);
        groups.get(others.get(&(there, here))?).cloned()
    };
    let mut left: Vec<Seen> = all.iter().filter(past).map(|one| Seen::new(*one, caller(one), begun)).collect();
    let (mut ended, mut last) = (0, None::<Instant>);
    while !left.is_empty() && begun.elapsed() < patience {
        let (round, quiet) = (Instant::now(), quiet_after(begun.elapsed()));
        let mut may_end = last.is_none_or(|last| last.elapsed() >= APART);
        let mut still = Vec::with_capacity(left.len());
        for mut seen in left {
            match within(namespace, || seen.step(quiet, may_end)) {
                Ok(Step::Ended) => {
                    ended += 1;
                    (last, may_end) = (Some(Instant::now()), false);
                }
                Ok(Step::Left) => {
                    // The others are mostly of the same caller.
                    may_end = false;
                    still.push(seen);
                }
                Ok(Step::Busy) => still.push(seen),
                // It ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        left = still;
        // At most a fifth of a processor, however many there are.
        std::thread::sleep(LOOK.max(round.elapsed() * 4));
    }
    Ok(Reset { ended, busy: left.len() })
}

/// For how long a connection that was answered has to be quiet, so long after we have begun.
fn quiet_after(elapsed: Duration) -> Duration {
    let times = u32::try_from(elapsed.as_millis() / HALVED.as_millis()).unwrap_or(u32::MAX);
    QUIET.checked_div(1u32.checked_shl(times).unwrap_or(u32::MAX)).map_or(LEAST, |quiet| quiet.max(LEAST))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Seen {
    fn new(connection: Connection, caller: Option<PathBuf>, now: Instant) -> Self {
        Self { connection, since: now, answered: false, sure: false, pause: Duration::ZERO, caller }
    }

    /// Looks once, within the namespace, and ends it if it rests.
    fn step(&mut self, quiet: Duration, may_end: bool) -> io::Result<Step> {
        let now = self.connection.again()?;
        if !self.rests(&now, Instant::now(), quiet) || !may_end {
            return Ok(Step::Busy);
        }
        let for_so_long = now.idle.max(self.since.elapsed());
        let callers = self.caller.as_deref().map(cgroup::processes).unwrap_or_default();
        let asleep = match threads::look(&callers) {
            Look::Asleep(asleep) => Some(asleep),
            Look::Unknown if for_so_long >= UNSURE => None,
            Look::Unknown | Look::Awake if for_so_long >= FORCED => None,
            Look::Unknown | Look::Awake => return Ok(Step::Left),
        };
        let now = self.connection.again()?;
        if now.received != self.connection.received || now.unread {
            return Ok(Step::Busy);
        }
        if asleep.is_some_and(|asleep| !asleep.still()) {
            return Ok(Step::Left);
        }
        // Nothing in between: what comes now is lost.
        now.destroy().map(|()| Step::Ended)
    }

    fn rests(&mut self, now: &Connection, at: Instant, wanted: Duration) -> bool {
        let came = now.received != self.connection.received;
        let went = now.sent != self.connection.sent;
        let quiet = at.duration_since(self.since);
        self.connection = *now;
        if came || went {
            if went && !came && self.answered {
                self.pause = self.pause.max(quiet);
            }
            // Both at once: nearly always a request and its answer.
            self.answered = went;
            self.sure = !came;
            self.since = at;
            return false;
        }
        let idle = now.idle >= IDLE && !now.owes;
        let least = if self.sure { LEAST } else { UNSURE };
        let paused = self.answered && !now.unread && quiet >= wanted.max(least).max(self.pause.saturating_mul(TIMES));
        idle || paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_after(steps: &[(u64, u64, u64)]) -> bool {
        let at = "127.0.0.1:1".parse().unwrap();
        let connection = Connection::of(at, at);
        let begun = Instant::now();
        let mut seen = Seen::new(connection, None, begun);
        let mut rests = false;
        for (millis, received, sent) in steps {
            let mut now = connection;
            (now.received, now.sent, now.owes) = (*received, *sent, true);
            rests = seen.rests(&now, begun + Duration::from_millis(*millis), LEAST);
        }
        rests
    }

    #[test]
    fn what_is_used_least_goes_first_and_in_the_end_nearly_everything_may() {
        let after = |millis| quiet_after(Duration::from_millis(millis));
        assert_eq!([after(0), after(499), after(500), after(1_000)].map(|it| it.as_millis()), [250, 250, 125, 62]);
        assert_eq!([after(3_900), after(60_000)], [LEAST; 2]);
    }

    #[test]
    fn one_rests_when_its_answer_has_ended_and_not_while_it_is_owed_or_given() {
        assert!(seen_after(&[(1, 10, 0), (2, 10, 20), (6, 10, 20)]), "answered");
        assert!(!seen_after(&[(1, 10, 0), (200, 10, 0)]), "owed");
        assert!(!seen_after(&[(1, 10, 0), (2, 10, 20), (4, 10, 20)]), "just now");
        assert!(!seen_after(&[(1, 10, 20), (40, 10, 20)]), "nobody knows what came first");
        assert!(seen_after(&[(1, 10, 20), (52, 10, 20)]), "an answer would have come");
        assert!(!seen_after(&[(1, 10, 0), (2, 10, 20), (52, 10, 40), (152, 10, 40)]), "it pauses within its answers");
        assert!(seen_after(&[(1, 10, 0), (2, 10, 20), (52, 10, 40), (300, 10, 40)]), "a longer pause");
    }
}
