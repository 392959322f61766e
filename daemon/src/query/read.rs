//! Answers a question from the folder of this node, record by record, in time order; or with what comes, as it comes.
//! Reads files and sleeps: for a thread of its own.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodetap_core::exchange::{Event, UnixMicros};
use nodetap_core::filter::Filter;
use nodetap_core::record::{NoticeKind, NoticeRecord, Time, VERSION};
use nodetap_core::time::rfc3339;

use super::ask::{Ask, At, Messages};
use super::chosen::{Chosen, messages};
use super::wire::Item;
use crate::store::follow::Follower;
use crate::store::read::{Entry, Error, Index, Kind};

/// Records of a page at most, and when nobody says.
pub const PAGE: usize = 10_000;
/// How long a page may take: the controller, and before it the API server, wait for the slowest.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the folder is looked at for what is new.
const POLL: Duration = Duration::from_millis(200);
/// A sign of life when nothing is new.
const QUIET: Duration = Duration::from_secs(10);
/// Records between two looks at the clock.
const LOOK: usize = 256;
/// Records that are named when an id fits more than one.
pub const CANDIDATES: usize = 8;
/// The reason of the notice before records that an id fits all of.
pub const SEVERAL: &str = "several";
/// Damages that are named; the others are counted.
const DAMAGES: usize = 8;

/// Takes what was found; false when nobody reads any more.
pub trait Take {
    fn take(&mut self, item: Item) -> bool;

    /// What was taken should reach its reader now.
    fn flush(&mut self) -> bool;

    /// Does anybody read?
    fn is_wanted(&self) -> bool;
}

/// Why reading ended early, other than that it failed.
struct Unwanted;

/// Answers. Ends when all is said; a watch, when nobody reads.
///
/// # Errors
/// When the folder cannot be read.
pub fn answer(folder: &Path, ask: &Ask, filter: &Filter, out: &mut dyn Take) -> Result<(), Error> {
    let start = Instant::now();
    let oldest = filter.since.max(ask.after.map(|at| at.time));
    // What is new is wanted, and nothing that is there.
    let only_new = ask.watch && ask.tail.unwrap_or_default() == 0 && ask.after.is_none();
    let mut index = Index::read_since(folder, if only_new { Some(now()) } else { oldest })?;
    let mut follower = ask.watch.then(|| Follower::after(&index, folder));
    if !ask.losses && !ask.watch && ask.after.is_none() && losses(&mut index, filter, out)?.is_err() {
        return Ok(());
    }
    let mut page = Page { ask, chosen: Chosen::new(filter, ask.messages), start, said: 0 };
    let told = if only_new { Ok(()) } else { page.tell(&mut index, out)? };
    if told.is_err() || damages(&index, out).is_err() {
        return Ok(());
    }
    drop(index);
    if let Some(follower) = &mut follower {
        follow(follower, filter, out)?;
    }
    out.flush();
    Ok(())
}

struct Page<'a> {
    ask: &'a Ask,
    chosen: Chosen<'a>,
    start: Instant,
    said: usize,
}

impl Page<'_> {
    fn tell(&mut self, index: &mut Index, out: &mut dyn Take) -> Result<Result<(), Unwanted>, Error> {
        if let Some(count) = self.ask.tail {
            return self.last(count, index, out);
        }
        let limit = self.ask.limit.unwrap_or(PAGE).min(PAGE);
        let begin = self.ask.after.map_or(0, |after| index.entries.partition_point(|entry| at(entry) <= after));
        let mut last = self.ask.after;
        for number in begin..index.entries.len() {
            if number % LOOK == 0 && !out.is_wanted() {
                return Ok(Err(Unwanted));
            }
            if let Some(next) = last
                && (self.said >= limit || number > begin && number % LOOK == 0 && self.start.elapsed() > PATIENCE)
            {
                let why = format!("this page ends after {} records; the next one begins at `continue`", self.said);
                let notice = notice("page_end", why, Some(next.to_string()));
                return Ok(if out.take(Item::Notice(notice)) { Ok(()) } else { Err(Unwanted) });
            }
            let Some(entry) = index.entries.get(number).copied() else { break };
            last = Some(at(&entry));
            if let Some(event) = self.wanted(index, entry)?
                && self.say(index, event, out)?.is_err()
            {
                return Ok(Err(Unwanted));
            }
        }
        Ok(Ok(()))
    }

    /// From the end, until there are as many as were asked for; only their places are kept.
    fn last(&mut self, count: usize, index: &mut Index, out: &mut dyn Take) -> Result<Result<(), Unwanted>, Error> {
        let mut found = Vec::new();
        for number in (0..index.entries.len()).rev() {
            let late = number % LOOK == 0 && self.start.elapsed() > PATIENCE;
            if found.len() >= count || late {
                break;
            }
            if number % LOOK == 0 && !out.is_wanted() {
                return Ok(Err(Unwanted));
            }
            let Some(entry) = index.entries.get(number).copied() else { continue };
            if self.wanted(index, entry)?.is_some() {
                found.push(entry);
            }
        }
        for entry in found.into_iter().rev() {
            if let Some(event) = index.event(entry)?
                && self.say(index, event, out)?.is_err()
            {
                return Ok(Err(Unwanted));
            }
        }
        Ok(Ok(()))
    }

    fn wanted(&mut self, index: &mut Index, entry: Entry) -> Result<Option<Event>, Error> {
        if (entry.kind() == Kind::Loss) != self.ask.losses {
            return Ok(None);
        }
        self.chosen.read(index, entry)
    }

    fn say(&mut self, index: &mut Index, event: Event, out: &mut dyn Take) -> Result<Result<(), Unwanted>, Error> {
        let exchange = match &event {
            Event::Exchange(exchange) if self.ask.messages == Messages::Grouped => Some(exchange.id),
            _ => None,
        };
        self.said += 1;
        if !out.take(Item::Record(event)) {
            return Ok(Err(Unwanted));
        }
        let Some(exchange) = exchange else { return Ok(Ok(())) };
        for message in messages(index, exchange) {
            if !out.take(Item::Record(Event::Message(Box::new(message?)))) {
                return Ok(Err(Unwanted));
            }
        }
        Ok(Ok(()))
    }
}

/// The record with this id (or beginning or end of one), with its messages; or the messages alone, when it is not
/// written yet. When several fit: some of them, without their messages.
///
/// # Errors
/// When the folder cannot be read.
pub fn find(folder: &Path, id: &str, filter: &Filter, out: &mut dyn Take) -> Result<(), Error> {
    let mut index = Index::read(folder)?;
    let mut fitting = Vec::new();
    for entry in index.find(id) {
        if fitting.len() <= CANDIDATES
            && let Some(event) = index.event(entry)?.filter(|event| filter.matches(event))
        {
            fitting.push(event);
        }
    }
    let mut open = if fitting.is_empty() { index.find_open(id) } else { Vec::new() };
    open.truncate(CANDIDATES + 1);
    for exchange in &open {
        let mut own = messages(&mut index, *exchange);
        if let Some(message) = own.next() {
            fitting.extend(Some(Event::Message(Box::new(message?))).filter(|event| filter.matches(event)));
        }
    }
    let whole = match (&fitting[..], &open[..]) {
        ([Event::Exchange(exchange)], []) => Some((exchange.id, 0)),
        // Its first message is among what fits.
        ([Event::Message(message)], [_, ..]) => Some((message.exchange, 1)),
        _ => None,
    };
    if fitting.len() > 1 && !out.take(Item::Notice(notice(SEVERAL, format!("{id} fits more than one record"), None))) {
        return Ok(());
    }
    for event in fitting {
        if !out.take(Item::Record(event)) {
            return Ok(());
        }
    }
    if let Some((exchange, said)) = whole {
        for message in messages(&mut index, exchange).skip(said) {
            if !out.take(Item::Record(Event::Message(Box::new(message?)))) {
                return Ok(());
            }
        }
    }
    out.flush();
    Ok(())
}

fn follow(follower: &mut Follower, filter: &Filter, out: &mut dyn Take) -> Result<(), Error> {
    let mut said = Instant::now();
    if !(out.take(Item::Live) && out.flush()) {
        return Ok(());
    }
    loop {
        std::thread::sleep(POLL);
        if !out.is_wanted() {
            return Ok(());
        }
        // What a message is part of may not be written yet: it goes by what it says itself.
        for event in follower.poll()?.into_iter().filter(|event| filter.matches(event)) {
            said = Instant::now();
            if !out.take(Item::Record(event)) {
                return Ok(());
            }
        }
        if said.elapsed() > QUIET {
            said = Instant::now();
            if !out.take(Item::Live) {
                return Ok(());
            }
        }
        if !out.flush() {
            return Ok(());
        }
    }
}

/// Whoever looks at records is told that some are missing.
fn losses(index: &mut Index, filter: &Filter, out: &mut dyn Take) -> Result<Result<(), Unwanted>, Error> {
    let of_pods = Filter { pods: filter.pods.clone(), since: filter.since, ..Filter::default() };
    for number in 0..index.entries.len() {
        let entry = index.entries.get(number).copied().filter(|entry| entry.kind() == Kind::Loss);
        let Some(entry) = entry else { continue };
        if index.event(entry)?.is_some_and(|loss| of_pods.matches(&loss)) {
            let detail = "records were lost: `nodetap ls --losses`, or losses=true, says when and why".to_owned();
            let said = out.take(Item::Notice(notice("losses", detail, None)));
            return Ok(if said { Ok(()) } else { Err(Unwanted) });
        }
    }
    Ok(Ok(()))
}

fn damages(index: &Index, out: &mut dyn Take) -> Result<(), Unwanted> {
    let count = index.warnings.len();
    for (number, warning) in index.warnings.iter().take(DAMAGES).enumerate() {
        let more =
            if number + 1 == DAMAGES && count > DAMAGES { format!(" (and {count} in all)") } else { String::new() };
        let file = warning.path.file_name().unwrap_or_default().to_string_lossy();
        let detail = format!("{file}: {}{more}", warning.damage);
        if !out.take(Item::Notice(notice("node_damaged", detail, None))) {
            return Err(Unwanted);
        }
    }
    Ok(())
}

/// Where a record stands among all.
pub fn place(event: &Event) -> At {
    match event {
        Event::Exchange(exchange) => At { time: exchange.time, id: exchange.id.into() },
        Event::Connection(summary) => At { time: summary.connection.accepted, id: summary.id.into() },
        Event::Message(message) => At { time: message.time, id: message.id.into() },
        Event::Loss(loss) => At { time: loss.time, id: 0 },
    }
}

fn at(entry: &Entry) -> At {
    At { time: entry.time(), id: entry.id().map_or(0, u128::from) }
}

/// Something to say between the records.
pub fn notice(reason: &str, detail: String, next: Option<String>) -> NoticeRecord {
    let time = Time(rfc3339(now()));
    NoticeRecord { v: VERSION, kind: NoticeKind::Notice, time, reason: reason.to_owned(), node: None, detail, next }
}

/// Microseconds since 1970.
pub fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
