//! What names mean that annotations leave alone. They are resolved on a thread of their own, because a resolver may be
//! silent for long; meanwhile, and when it knows nothing, they mean what they meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nodetap_core::pod::config::Config;

/// How long what a name means is taken for known.
const AGE: Duration = Duration::from_secs(30);
/// Names whose meaning is remembered.
const MOST: usize = 1024;
/// Addresses of one name.
const ADDRESSES: usize = 64;

/// What a name means, or why that is not known.
pub(in crate::agent) type Meaning = Result<BTreeSet<IpAddr>, String>;

/// What is known of names.
#[derive(Debug)]
pub(super) struct Names {
    known: BTreeMap<String, Known>,
    /// Nothing when there is no thread that could resolve.
    asking: Option<SyncSender<String>>,
}

#[derive(Debug)]
struct Known {
    asked: Instant,
    addresses: BTreeSet<IpAddr>,
    /// The last answer was none.
    failed: Option<String>,
}

impl Names {
    /// `tell` is called on the resolving thread for each answer; `false`: nobody listens.
    pub(super) fn start(tell: impl Fn(String, Meaning) -> bool + Send + 'static) -> Self {
        let (asking, asked) = sync_channel(MOST);
        let thread = std::thread::Builder::new().name("nodetap-names".into());
        let asking = match thread.spawn(move || resolve_all(&asked, tell)) {
            Ok(_) => Some(asking),
            Err(error) => {
                tracing::error!(%error, "no thread to resolve names: what is left alone by name is captured");
                None
            }
        };
        Self { known: BTreeMap::new(), asking }
    }

    /// What a name means, as far as is known; it is asked for anew when that was long ago.
    pub(super) fn meaning(&mut self, name: &str) -> BTreeSet<IpAddr> {
        if !self.known.contains_key(name) && self.known.len() >= MOST {
            let Some(oldest) = self.known.iter().min_by_key(|(_, known)| known.asked) else { return BTreeSet::new() };
            let oldest = oldest.0.clone();
            self.known.remove(&oldest);
        }
        let is_due = self.known.get(name).is_none_or(|known| known.asked.elapsed() >= AGE);
        // With a full queue it is asked for the next time.
        if is_due && self.asking.as_ref().is_some_and(|asking| asking.try_send(name.to_owned()).is_ok()) {
            let asked = Instant::now();
            let never = Known { asked, addresses: BTreeSet::new(), failed: None };
            self.known.entry(name.to_owned()).or_insert(never).asked = asked;
        }
        self.known.get(name).map(|known| known.addresses.clone()).unwrap_or_default()
    }

    /// The resolver has answered. Does the name mean something else now, or is more or less known of it?
    pub(super) fn tell(&mut self, name: &str, meaning: Meaning) -> bool {
        let Some(known) = self.known.get_mut(name) else { return false };
        let (addresses, failed) = match meaning {
            Ok(addresses) => (addresses, None),
            Err(why) => (known.addresses.clone(), Some(why)),
        };
        let is_news = known.addresses != addresses || known.failed != failed;
        (known.addresses, known.failed) = (addresses, failed);
        is_news
    }

    /// Names of a configuration that are not known, one sentence each.
    pub(super) fn problems(&self, config: &Config) -> BTreeSet<String> {
        let why = |name: &&String| self.known.get(*name).and_then(|known| known.failed.as_ref());
        let failed = names(config).filter_map(|name| Some((name, why(&name)?)));
        failed.map(|(name, why)| format!("{name}, which is to be left alone, cannot be resolved: {why}")).collect()
    }
}

/// Names that a configuration leaves alone.
pub(super) fn names(config: &Config) -> impl Iterator<Item = &String> {
    config.inbound.hosts.iter().chain(&config.outbound.hosts)
}

fn resolve_all(asked: &Receiver<String>, tell: impl Fn(String, Meaning) -> bool) {
    while let Ok(name) = asked.recv() {
        let found = (name.as_str(), 0u16).to_socket_addrs();
        let meaning = match found {
            Ok(found) => Ok(found.map(|address| address.ip()).take(ADDRESSES).collect()),
            Err(error) => Err(error.to_string()),
        };
        if !tell(name, meaning) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_name_means_what_it_meant_until_something_else_is_known() {
        let (told, answers) = channel();
        let mut names = Names::start(move |name, meaning| told.send((name, meaning)).is_ok());
        assert!(names.meaning("localhost").is_empty());
        let (name, meaning) = answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(names.tell(&name, meaning.clone()) && !names.tell(&name, meaning));
        let known = names.meaning("localhost");
        assert!(known.iter().any(IpAddr::is_loopback), "{known:?}");
        assert!(names.tell("localhost", Err("no answer".into())));
        assert_eq!(names.meaning("localhost"), known);
        assert!(names.tell("localhost", Ok(BTreeSet::new())) && names.meaning("localhost").is_empty());
        assert!(!names.tell("another", Ok(known)));
    }
}
