//! The two files, read as the C library reads them: what it does not understand it passes over. No I/O.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverOpts};
use hickory_resolver::proto::rr::Name;

/// Name servers that are believed (MAXNS).
const SERVERS: usize = 3;
/// Domains of a search list that are believed.
const DOMAINS: usize = 32;
/// Limits of resolv.conf(5): RES_MAXNDOTS, RES_MAXRETRANS in seconds, RES_MAXRETRY.
const NDOTS: usize = 15;
const TIMEOUT: u64 = 30;
const ATTEMPTS: usize = 5;
/// Addresses of one name that are believed.
const ADDRESSES: usize = 64;

/// `/etc/hosts`: addresses by lower-case name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words {
                let addresses = hosts.entry(plain(name)).or_default();
                if addresses.len() < ADDRESSES {
                    addresses.push(address);
                }
            }
        }
        Self(hosts)
    }

    pub(super) fn get(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.0.get(&plain(name)).cloned()
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// `/etc/resolv.conf`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    /// Tries in all.
    pub(super) attempts: usize,
    pub(super) rotate: bool,
    pub(super) edns0: bool,
    pub(super) use_tcp: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            edns0: false,
            use_tcp: false,
        }
    }
}

impl ResolvConf {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut read = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // A zone says by which device a link-local server is asked; that is not to be had here.
                Some("nameserver") if read.servers.len() < SERVERS => {
                    read.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last of them counts.
                Some("search") => read.search = words.take(DOMAINS).map(str::to_owned).collect(),
                Some("domain") => read.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| read.option(option)),
                _ => {}
            }
        }
        if read.servers.is_empty() {
            read.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        read
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u64>()) {
            ("ndots", Ok(value)) => self.ndots = usize::try_from(value).unwrap_or(NDOTS).min(NDOTS),
            ("timeout", Ok(value)) => self.timeout = Duration::from_secs(value.clamp(1, TIMEOUT)),
            ("attempts", Ok(value)) => self.attempts = usize::try_from(value).unwrap_or(ATTEMPTS).clamp(1, ATTEMPTS),
            ("rotate", _) => self.rotate = true,
            ("edns0", _) => self.edns0 = true,
            ("use-vc", _) => self.use_tcp = true,
            _ => {}
        }
    }

    /// The names to ask for.
    pub(super) fn search(&self) -> Search {
        let domains = self.search.iter().filter_map(|domain| Name::from_str_relaxed(domain).ok()).collect();
        Search { domains, ndots: self.ndots }
    }

    /// The servers, in turn.
    pub(super) fn name_servers(&self, port: u16) -> impl Iterator<Item = NameServerConfig> {
        self.servers.iter().map(move |address| {
            let mut server =
                if self.use_tcp { NameServerConfig::tcp(*address) } else { NameServerConfig::udp_and_tcp(*address) };
            for connection in &mut server.connections {
                connection.port = port;
            }
            server
        })
    }

    /// Of the resolver of one server: one try (a datagram that is not answered is sent again meanwhile), nothing cached, no
    /// other files.
    pub(super) fn options(&self) -> ResolverOpts {
        let mut options = ResolverOpts::default();
        options.timeout = self.timeout;
        // There the first try is no attempt.
        options.attempts = 0;
        options.edns0 = self.edns0;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.num_concurrent_reqs = 1;
        // From the range that the network namespace has for it, as everybody's.
        options.os_port_selection = true;
        options
    }
}

/// What stands behind a name that does not end in a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    domains: Vec<Name>,
    ndots: usize,
}

/// A name as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) name: Name,
    /// It is the name itself, with nothing behind it.
    pub(super) as_is: bool,
}

impl Search {
    /// The names to ask for, in turn, each once (resolv.conf(5), `search` and `ndots`).
    pub(super) fn candidates(&self, name: &Name) -> Vec<Candidate> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() {
            return vec![Candidate { name: whole, as_is: true }];
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let listed = self.domains.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let (ahead, behind) = if dots >= self.ndots { (Some(&whole), None) } else { (None, Some(&whole)) };
        let mut candidates: Vec<Candidate> = Vec::new();
        for name in ahead.cloned().into_iter().chain(listed).chain(behind.cloned()) {
            if candidates.iter().all(|before| before.name != name) {
                // The list may name the root.
                candidates.push(Candidate { as_is: name == whole, name });
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text = b"# comment\n; another\nnameserver 10.0.0.10\nnameserver nonsense\nnameserver fd00::1\n\
                     nameserver 1.1.1.1\nnameserver 2.2.2.2\ndomain first.example\n\
                     search ns.svc.cluster.local svc.cluster.local\tcluster.local\n\
                     options ndots:5 timeout:99 attempts:0 rotate unknown edns0\nsortlist 1.2.3.4\n";
        let expected = ResolvConf {
            servers: vec!["10.0.0.10".parse().unwrap(), "fd00::1".parse().unwrap(), "1.1.1.1".parse().unwrap()],
            search: vec!["ns.svc.cluster.local".into(), "svc.cluster.local".into(), "cluster.local".into()],
            ndots: 5,
            timeout: Duration::from_secs(30),
            attempts: 1,
            rotate: true,
            edns0: true,
            use_tcp: false,
        };
        assert_eq!(ResolvConf::parse(text), expected);
    }

    #[test]
    fn without_a_name_server_this_host_is_asked() {
        for text in [&b""[..], b"nameserver\n", b"\xff\xfe\0"] {
            assert_eq!(ResolvConf::parse(text).servers, [IpAddr::from([127, 0, 0, 1])], "{text:?}");
        }
    }

    #[test]
    fn hosts_are_found_by_every_name_whatever_its_case() {
        let hosts = Hosts::parse(b"10.0.0.1 Web web.example # old.example\n::1 web\nnonsense x\n10.0.0.2\n");
        assert_eq!(hosts.get("WEB.example."), Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(hosts.get("web").unwrap().len(), 2);
        assert_eq!((hosts.get("old.example"), hosts.get("x")), (None, None));
    }
}
