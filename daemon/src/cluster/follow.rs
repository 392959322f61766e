//! Watches one kind of object for as long as the program lives: a streamed list where the server has it, else pages;
//! waits after failures; begins anew when the server has forgotten where we were. What arrives is cut down to what is
//! needed before the next object is read, so that memory holds one whole object at a time.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;
use super::health::{Call, Health, Trouble};

/// Objects of a page, where lists come in pages.
const PAGE: u32 = 100;
/// A server that does not end a streamed list in this time does not know what one is.
const LISTED: Duration = Duration::from_secs(20);

/// A try that has not failed for so long has succeeded: a watch of what does not change is silent. Longer than a
/// connection may take.
const QUIET: Duration = Duration::from_secs(8);

/// What happened to the objects that are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<V> {
    /// These are all; whatever was known beside them is gone.
    All(Vec<V>),
    /// This one is new or different.
    Applied(V),
    /// This one is gone.
    Gone(V),
}

/// What is watched.
#[derive(Debug)]
pub struct Subject<K> {
    pub api: Api<K>,
    pub call: Call,
    /// A field selector.
    pub fields: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
}

impl<K> Subject<K> {
    fn config(&self, streaming: bool) -> watcher::Config {
        let (fields, labels) = (self.fields.clone(), self.labels.clone());
        let config = watcher::Config { field_selector: fields, label_selector: labels, ..watcher::Config::default() };
        if streaming { config.streaming_lists() } else { config.page_size(PAGE) }
    }
}

/// Follows objects. Ends when `tell` says that nobody listens any more.
pub async fn follow<K, V>(
    subject: Subject<K>,
    health: Health,
    keep: impl Fn(K) -> Option<V>,
    tell: impl AsyncFnMut(Change<V>) -> bool,
) where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let stream = |streaming| watcher(subject.api.clone(), subject.config(streaming));
    drive(stream, subject.call, health, keep, tell).await;
}

/// How one attempt ended.
enum Ended {
    /// Nobody listens.
    Unheard,
    /// The server does not stream lists.
    NotStreamed,
}

async fn drive<O, V, S: Stream<Item = Result<Event<O>, watcher::Error>>>(
    stream: impl Fn(bool) -> S,
    call: Call,
    health: Health,
    keep: impl Fn(O) -> Option<V>,
    mut tell: impl AsyncFnMut(Change<V>) -> bool,
) {
    if let Ended::NotStreamed = read(stream(true), true, call, &health, &keep, &mut tell).await {
        tracing::info!(call = call.word(), "this API server does not stream lists: they are read in pages");
        read(stream(false), false, call, &health, &keep, &mut tell).await;
    }
}

async fn read<O, V>(
    stream: impl Stream<Item = Result<Event<O>, watcher::Error>>,
    streaming: bool,
    call: Call,
    health: &Health,
    keep: &impl Fn(O) -> Option<V>,
    tell: &mut impl AsyncFnMut(Change<V>) -> bool,
) -> Ended {
    let mut stream = pin!(stream);
    let mut backoff = Backoff::default();
    let mut listing: Option<Vec<V>> = None;
    let (mut streamed, mut failed) = (false, false);
    loop {
        let patience = match (streaming && listing.is_some(), failed) {
            (true, _) => Some(LISTED),
            (false, true) => Some(QUIET),
            (false, false) => None,
        };
        let item = match patience {
            None => stream.next().await,
            Some(patience) => match tokio::time::timeout(patience, stream.next()).await {
                Ok(item) => item,
                Err(_) if failed => {
                    // Nothing happens, and nothing fails: it watches again.
                    health.well(call);
                    failed = false;
                    continue;
                }
                Err(_) => return Ended::NotStreamed,
            },
        };
        // kube's watches do not end.
        let Some(item) = item else { return Ended::Unheard };
        let change = match item {
            Ok(event) => {
                health.well(call);
                failed = false;
                backoff.success();
                match event {
                    Event::Init => {
                        listing = Some(Vec::new());
                        continue;
                    }
                    Event::InitApply(object) => {
                        listing.get_or_insert_default().extend(keep(object));
                        continue;
                    }
                    Event::InitDone => {
                        streamed = true;
                        Some(Change::All(listing.take().unwrap_or_default()))
                    }
                    Event::Apply(object) => keep(object).map(Change::Applied),
                    Event::Delete(object) => keep(object).map(Change::Gone),
                }
            }
            Err(error) => {
                let trouble = Trouble::of_watch(&error);
                // What a server answers that does not know `sendInitialEvents`, must not use it, or whose etcd cannot.
                let refused = matches!(trouble.class, "422" | "4xx" | "5xx" | "garbled");
                if streaming && !streamed && refused {
                    return Ended::NotStreamed;
                }
                // Where we were is forgotten: that is how long watches end, and the list that follows is no try again.
                let forgotten = trouble.class == "410";
                let wait = backoff.after_failure(trouble.wait, random());
                health.ill(call, trouble);
                failed = true;
                if !forgotten {
                    tokio::time::sleep(wait).await;
                }
                continue;
            }
        };
        if let Some(change) = change
            && !tell(change).await
        {
            return Ended::Unheard;
        }
    }
}

/// 32 bits from the kernel; none are as good as any, for spreading.
pub fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use kube::core::Status;

    use super::*;

    fn error(code: u16) -> watcher::Error {
        watcher::Error::WatchError(Status { code, ..Status::success() }.boxed())
    }

    async fn changes(events: Vec<Result<Event<u8>, watcher::Error>>, streaming: bool) -> (Vec<Change<u8>>, Health) {
        let (health, mut seen) = (Health::default(), Vec::new());
        let keep = |object: u8| (object < 100).then_some(object);
        let mut tell = async |change| {
            seen.push(change);
            true
        };
        read(stream::iter(events), streaming, Call::Pods, &health, &keep, &mut tell).await;
        (seen, health)
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_told_whole_and_what_is_not_kept_is_not_told() {
        let events = [Event::Init, Event::InitApply(1), Event::InitApply(100), Event::InitApply(2), Event::InitDone];
        let then = [Event::Apply(3), Event::Apply(101), Event::Delete(1)];
        let (seen, health) = changes(events.into_iter().chain(then).map(Ok).collect(), true).await;
        assert_eq!(seen, [Change::All(vec![1, 2]), Change::Applied(3), Change::Gone(1)]);
        assert_eq!(health.troubles(), <Vec<String>>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cannot_stream_is_asked_for_pages() {
        let (health, keep) = (Health::default(), |object: u8| Some(object));
        for code in [422, 500] {
            let events = stream::iter([Ok(Event::Init), Err(error(code))]);
            let mut tell = async |_| true;
            assert!(matches!(read(events, true, Call::Pods, &health, &keep, &mut tell).await, Ended::NotStreamed));
        }
        assert_eq!(health.troubles(), <Vec<String>>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_breaks_off_is_not_told_and_begins_anew() {
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(1)),
            Err(error(500)),
            Ok(Event::Init),
            Ok(Event::InitApply(2)),
            Ok(Event::InitDone),
            Err(error(410)),
            Ok(Event::Init),
            Ok(Event::InitDone),
        ];
        let (seen, health) = changes(events, false).await;
        assert_eq!(seen, [Change::All(vec![2]), Change::All(vec![])]);
        assert_eq!(health.failures(), [("pods", "410", 1), ("pods", "5xx", 1)]);
    }
}
