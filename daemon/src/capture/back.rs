//! Brings back what went past us: connections that a program of the target accepted in the place of our listener, and that
//! its caller keeps for later requests, are ended, so that the next request makes a new one, which is ours. One on which an
//! answer is owed, or is being given, is not touched.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::look::ids;
use super::namespace::{Namespace, within};
use super::older::Reset;
use super::threads::Asleep;
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
}

/// Ends connections to `ours` that programs in `group` (a control group, and those within it) accepted, each as soon as it
/// rests, for so long. It waits meanwhile: it wants a thread of its own. Those that never rested are told as `busy`. It
/// takes CAP_NET_ADMIN.
///
/// # Errors
/// What the kernel answers; `ENOTSUP` where it was built without CONFIG_INET_DIAG_DESTROY.
pub fn bring_back(
    namespace: &dyn Namespace,
    group: &PathBuf,
    ours: &BTreeSet<SocketAddr>,
    patience: Duration,
) -> io::Result<Reset> {
    let (begun, groups): (Instant, HashSet<u64>) = (Instant::now(), ids(std::slice::from_ref(group)));
    let past = |one: &Connection| ours.contains(&canonical(one.local)) && groups.contains(&one.cgroup);
    let mut left: Vec<Seen> = within(namespace, connections)?
        .into_iter()
        .filter(past)
        .map(|connection| Seen::new(connection, begun))
        .collect();
    let (mut ended, mut last) = (0, None::<Instant>);
    while !left.is_empty() && begun.elapsed() < patience {
        let (round, quiet) = (Instant::now(), quiet_after(begun.elapsed()));
        let mut still = Vec::with_capacity(left.len());
        for mut seen in left {
            let may_end = last.is_none_or(|last| last.elapsed() >= APART);
            match within(namespace, || seen.step(quiet, may_end, group)) {
                Ok(true) => {
                    ended += 1;
                    last = Some(Instant::now());
                }
                Ok(false) => still.push(seen),
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

/// The processes of the pod at the other end of a connection; none where that is elsewhere, or is not shown to us.
fn callers(connection: &Connection, group: &Path) -> io::Result<Vec<u32>> {
    let ends = |one: &Connection| (canonical(one.local), canonical(one.remote));
    let (ours, theirs) = ends(connection);
    let other = |one: &Connection| ends(one) == (theirs, ours);
    let Some(other) = connections()?.into_iter().find(other) else { return Ok(Vec::new()) };
    let its = |path: &PathBuf| path.metadata().is_ok_and(|found| found.ino() == other.cgroup);
    let found = cgroup::within(group).into_iter().find(its);
    let shown = |path: PathBuf| cgroup::processes(&path).into_iter().filter(|pid| *pid != 0).collect();
    Ok(found.map(shown).unwrap_or_default())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Seen {
    fn new(connection: Connection, now: Instant) -> Self {
        Self { connection, since: now, answered: false, sure: false, pause: Duration::ZERO }
    }

    /// Looks once, within the namespace, and ends it if it rests; did it?
    fn step(&mut self, quiet: Duration, may_end: bool, group: &Path) -> io::Result<bool> {
        let now = self.connection.again()?;
        if !self.rests(&now, Instant::now(), quiet) || !may_end {
            return Ok(false);
        }
        if self.since.elapsed() < IDLE && !self.is_let_be(group)? {
            return Ok(false);
        }
        let now = self.connection.again()?;
        if now.received != self.connection.received || now.unread {
            return Ok(false);
        }
        // Nothing in between: what comes now is lost.
        now.destroy().map(|()| true)
    }

    /// Is nobody about to write a request here, as far as can be seen: who has one to read, or has read one?
    fn is_let_be(&self, group: &Path) -> io::Result<bool> {
        let callers = callers(&self.connection, group)?;
        let asleep = Asleep::all(&callers);
        let unseen = callers.is_empty() && self.since.elapsed() >= UNSURE;
        let nothing_to_read = !connections()?.iter().any(|one| one.unread);
        Ok(nothing_to_read && asleep.map_or(unseen, |asleep| asleep.still()))
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
        let mut seen = Seen::new(connection, begun);
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
