//! What is new on all nodes, as it comes: each node has a task that asks it, and asks again when it went away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nodetap_core::exchange::Event;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::agents::{Agent, Agents};
use super::merge::{Last, Out, Unread, failed, of_node, weight};
use super::source::{Failed, Question, Source};
use crate::cluster::backoff::Backoff;
use crate::query::read::notice;
use crate::query::wire::Item;

/// How long nodes may take for what is there already; what comes later is told as new.
const BACKLOG: Duration = Duration::from_secs(25);
/// Bytes of what is new already while others still search.
const WAITING: usize = 16 << 20;
/// What was heard and not told yet.
const HEARD: usize = 64;
/// A sign of life when nothing is new.
const QUIET: Duration = Duration::from_secs(10);

/// What a task heard of its node.
#[derive(Debug)]
enum Heard {
    Item(Item),
    Failed(Failed),
    Back,
}

/// Tasks of nodes. Dropping it ends them.
#[derive(Debug)]
struct Ears {
    by_node: BTreeMap<String, (Agent, AbortHandle)>,
    heard: mpsc::Sender<(String, Heard)>,
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.by_node.values().for_each(|(_, task)| task.abort());
    }
}

impl Ears {
    /// Listens to these agents, and to no others.
    fn turn_to(&mut self, agents: &[Agent], question: &Question) {
        self.by_node.retain(|node, (agent, task)| {
            let stays = agents.iter().any(|one| one.node == *node && one == agent);
            if !stays {
                task.abort();
            }
            stays
        });
        for agent in agents {
            if !self.by_node.contains_key(&agent.node) {
                let task = tokio::spawn(listen(agent.clone(), question.clone(), self.heard.clone()));
                self.by_node.insert(agent.node.clone(), (agent.clone(), task.abort_handle()));
            }
        }
    }
}

async fn listen(agent: Agent, mut question: Question, heard: mpsc::Sender<(String, Heard)>) {
    let (mut backoff, mut away) = (Backoff::default(), false);
    let tell = async |what| heard.send((agent.node.clone(), what)).await.is_ok();
    loop {
        let error = match Source::open(&agent, &question).await {
            Err(error) => error,
            Ok(mut source) => {
                if away && !tell(Heard::Back).await {
                    return;
                }
                away = false;
                loop {
                    match source.next().await {
                        Some(Ok(item)) => {
                            backoff.success();
                            if !tell(Heard::Item(item)).await {
                                return;
                            }
                        }
                        Some(Err(error)) => break error,
                        None => break Failed("its answer has ended".to_owned()),
                    }
                }
            }
        };
        if !away && !tell(Heard::Failed(error)).await {
            return;
        }
        away = true;
        // What was there before was told, or is lost to this watch.
        question.ask.tail = Some(0);
        tokio::time::sleep(backoff.after_failure(None, u32::MAX)).await;
    }
}

/// Tells the last records, then what comes, for as long as `lasts`.
///
/// # Errors
/// When nobody reads any more.
pub(super) async fn watch(
    mut agents: watch::Receiver<Option<Agents>>,
    mut question: Question,
    lasts: Duration,
    out: &mut Out,
) -> Result<(), Unread> {
    let end = Instant::now() + lasts;
    let (heard, mut hear) = mpsc::channel(HEARD);
    let mut ears = Ears { by_node: BTreeMap::new(), heard };
    let first = agents.borrow_and_update().clone().unwrap_or_default();
    ears.turn_to(&first, &question);
    backlog(&first, question.ask.tail.unwrap_or_default(), &mut hear, out).await?;
    question.ask.tail = Some(0);
    out.put(Item::Live).await?;
    out.flush().await?;
    loop {
        let closed = out.pieces.clone();
        tokio::select! {
            () = tokio::time::sleep_until(end.into()) => {
                out.say(notice("watch_end", format!("a watch lasts for {} s: ask again", lasts.as_secs()), None)).await?;
                return Ok(());
            }
            () = closed.closed() => return Err(Unread),
            changed = agents.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = agents.borrow_and_update().clone().unwrap_or_default();
                ears.turn_to(&now, &question);
            }
            said = tokio::time::timeout(QUIET, hear.recv()) => match said {
                Ok(Some((node, heard))) => {
                    tell(&node, heard, out).await?;
                    // What has come meanwhile goes along.
                    while let Ok((node, heard)) = hear.try_recv() {
                        tell(&node, heard, out).await?;
                    }
                    out.flush().await?;
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    out.put(Item::Live).await?;
                    out.flush().await?;
                }
            },
        }
    }
}

async fn tell(node: &str, heard: Heard, out: &mut Out) -> Result<(), Unread> {
    match heard {
        Heard::Item(Item::Live) => Ok(()),
        Heard::Item(Item::Notice(said)) => out.say(of_node(node, said)).await,
        Heard::Item(record) => out.put(record).await,
        Heard::Failed(error) => out.say(failed(node, &error)).await,
        Heard::Back => {
            let detail = "it answers again: what it recorded meanwhile is not told here".to_owned();
            out.say(of_node(node, notice("node_back", detail, None))).await
        }
    }
}

/// What is there already, of all nodes together; ends when each has said that what follows is new, or has failed.
async fn backlog(
    agents: &[Agent],
    count: usize,
    hear: &mut mpsc::Receiver<(String, Heard)>,
    out: &mut Out,
) -> Result<(), Unread> {
    let deadline = Instant::now() + BACKLOG;
    let mut pending: BTreeSet<String> = agents.iter().map(|agent| agent.node.clone()).collect();
    let mut last: BTreeMap<String, Last> = BTreeMap::new();
    let (mut new, mut bytes): (Vec<Event>, usize) = (Vec::new(), 0);
    while !pending.is_empty() {
        let Ok(Some((node, heard))) = tokio::time::timeout_at(deadline.into(), hear.recv()).await else { break };
        match heard {
            Heard::Item(Item::Live) => drop(pending.remove(&node)),
            Heard::Item(Item::Record(event)) if pending.contains(&node) => {
                last.entry(node).or_insert_with(|| Last::new(count)).push(event);
            }
            Heard::Item(Item::Record(event)) => {
                bytes += weight(&event);
                new.push(event);
                if bytes > WAITING {
                    break;
                }
            }
            failed @ Heard::Failed(_) => {
                pending.remove(&node);
                tell(&node, failed, out).await?;
            }
            other => tell(&node, other, out).await?,
        }
    }
    let mut all = Last::new(count);
    last.into_values().for_each(|one| all.join(one));
    all.put(out).await?;
    for event in new {
        out.put(Item::Record(event)).await?;
    }
    Ok(())
}
