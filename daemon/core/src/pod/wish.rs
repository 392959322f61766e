//! All keys of a pod together: what holds where nothing is said, and what does not fit together refused.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::annotations::Said;
use super::config::{Config, IN_PORT, Ignore, KeyPair, ListenPort, OUT_PORT, ProxyType, Resolution};
use super::keys::{Handling, PROXY_PROTOCOLS};
use super::network::Network;
use super::precedence::Merged;
use super::refusal::{Refusal, Remark};
use super::value::Here;
use super::value::{Networks, Value};

/// What is to become of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Nobody asks for it.
    NotAsked,
    Refused(Vec<Refusal>),
    Capture(Box<Config>),
}

impl Wish {
    /// Reads the keys together; remarks about keys that do nothing here are added to `remarks`.
    pub fn of(merged: &Merged, remarks: &mut Vec<Remark>) -> Self {
        let read = Reader(merged);
        let unclear = || {
            let about = |refusal: &&Refusal| {
                matches!(refusal, Refusal::Resolved(_)) || refusal.key().is_some_and(|key| key.ends_with("/inject"))
            };
            merged.refusals.iter().filter(about).cloned().collect::<Vec<_>>()
        };
        if !read.flag("inject") {
            // Whether it is asked for is itself not clear: that is no `no`.
            let unclear = unclear();
            return if unclear.is_empty() { Self::NotAsked } else { Self::Refused(unclear) };
        }
        let mut refusals = merged.refusals.clone();
        let config = read.config();
        refusals.extend(read.contradictions(&config));
        if !refusals.is_empty() {
            return Self::Refused(refusals);
        }
        remarks.extend(read.idle(&config));
        Self::Capture(Box::new(config))
    }
}

struct Reader<'a>(&'a Merged);

impl Reader<'_> {
    fn said(&self, name: &str) -> Option<&Said> {
        self.0.keys.get(name)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.said(name).map(|said| &said.value)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    fn word(&self, name: &str) -> Option<&'static str> {
        if let Some(Value::Word(word)) = self.value(name) { Some(*word) } else { None }
    }

    fn text(&self, name: &str) -> Option<String> {
        if let Some(Value::Text(text)) = self.value(name) { Some(text.clone()) } else { None }
    }

    fn list(&self, name: &str) -> Option<BTreeSet<String>> {
        if let Some(Value::List(list)) = self.value(name) { Some(list.clone()) } else { None }
    }

    fn port(&self, name: &str, default: u16) -> ListenPort {
        match self.said(name) {
            Some(Said { value: Value::Port(port), written, .. }) => {
                ListenPort { port: *port, said: Some(written.clone()) }
            }
            _ => ListenPort { port: default, said: None },
        }
    }

    fn pair(&self, secret: &str, private: &str, public: &str) -> Option<KeyPair> {
        Some(KeyPair {
            secret: self.text(secret)?,
            private: self.text(private).unwrap_or_else(|| "tls.key".into()),
            public: self.text(public).unwrap_or_else(|| "tls.crt".into()),
        })
    }

    fn ignore(&self, networks: &str, hosts: &str, ports: &str) -> Ignore {
        let mut ignore = Ignore::default();
        match self.value(networks) {
            Some(Value::Networks(Networks::All)) => ignore.all = true,
            Some(Value::Networks(Networks::These(these))) => ignore.networks.clone_from(these),
            _ => {}
        }
        if let Some(Value::Hosts(hosts)) = self.value(hosts) {
            for host in hosts {
                match host.parse::<IpAddr>() {
                    Ok(address) => drop(ignore.networks.insert(Network::host(address))),
                    Err(_) => drop(ignore.hosts.insert(host.clone())),
                }
            }
        }
        if let Some(Value::PortSet(ports)) = self.value(ports) {
            ignore.ports.clone_from(ports);
        }
        ignore
    }

    fn config(&self) -> Config {
        Config {
            proxy_type: match self.word("proxy-type") {
                Some("reverse") => ProxyType::Reverse,
                Some("forward") => ProxyType::Forward,
                Some("dual") => ProxyType::Dual,
                _ => ProxyType::Transparent,
            },
            ports: if let Some(Value::Ports(ports)) = self.value("proxy-port") { Some(ports.clone()) } else { None },
            upstream: if let Some(Value::Here(here)) = self.value("proxy-host") { *here } else { Here::Localhost },
            in_port: self.port("proxy-in-port", IN_PORT),
            out_port: self.port("proxy-out-port", OUT_PORT),
            tls_out: self.flag("tls-out"),
            tls_in: self.pair("tls-in-secret", "tls-in-private", "tls-in-public"),
            tls_mutual: self.pair("tls-mutual-secret", "tls-mutual-private", "tls-mutual-public"),
            inbound: self.ignore("ignore-src-ips", "ignore-src-hosts", "ignore-inbound-ports"),
            outbound: self.ignore("ignore-dst-ips", "ignore-dst-hosts", "ignore-outbound-ports"),
            ignore_loopback: self.flag("ignore-loopback"),
            track_loopback: self.flag("track-loopback"),
            capture_node_traffic: self.flag("capture-node-traffic"),
            host_resolution: match self.word("host-resolution") {
                Some("standard") => Resolution::Standard,
                Some("none") => Resolution::None,
                _ => Resolution::Smart,
            },
            kube_api: self.flag("kube-api-support"),
            reset_older_connections: self.flag("reset-older-connections"),
            record_labels: self.list("record-labels").unwrap_or_default(),
            containers: self.list("containers").filter(|names| !names.is_empty()),
        }
    }

    /// Values that are right one by one and cannot be had together.
    fn contradictions(&self, config: &Config) -> Vec<Refusal> {
        let mut found = Vec::new();
        let mut refuse = |name: &str, why: String| {
            if let Some(said) = self.said(name) {
                let (key, value, on) = (said.written.clone(), said.text.clone(), said.on.clone());
                found.push(Refusal::Together { key, value, on, why });
            }
        };
        let kind = config.proxy_type;
        let fitting: &[&str] = match kind {
            ProxyType::Transparent => &PROXY_PROTOCOLS,
            ProxyType::Reverse => &["tcp"],
            ProxyType::Forward => &["http", "socks"],
            ProxyType::Dual => &["tcp:http", "tcp:socks"],
        };
        if self.word("proxy-protocol").is_some_and(|word| !fitting.contains(&word)) {
            refuse("proxy-protocol", format!("with proxy-type {kind} it is one of: {}", fitting.join(", ")));
        }
        let ports = config.ports.as_deref().unwrap_or_default();
        for (name, port, used) in [
            ("proxy-in-port", config.in_port.port, kind.reverses()),
            ("proxy-out-port", config.out_port.port, kind.forwards()),
        ] {
            if used && ports.contains(&port) {
                let of = if self.said(name).is_some() { name } else { "proxy-port" };
                refuse(of, format!("port {port} would be the application's and {name} at once"));
            }
        }
        if kind == ProxyType::Dual && config.in_port.port == config.out_port.port {
            let of = if config.in_port.said.is_some() { "proxy-in-port" } else { "proxy-out-port" };
            refuse(of, "proxy-in-port and proxy-out-port would be the same".into());
        }
        if config.ignore_loopback && config.track_loopback {
            refuse("track-loopback", "ignore-loopback says the opposite".into());
        }
        for (secret, files) in [
            ("tls-in-secret", ["tls-in-private", "tls-in-public"]),
            ("tls-mutual-secret", ["tls-mutual-private", "tls-mutual-public"]),
        ] {
            if self.said(secret).is_none() {
                files.iter().for_each(|file| refuse(file, format!("it names a key of {secret}, which is not set")));
            }
        }
        found
    }

    /// Keys that do nothing, here or ever.
    fn idle(&self, config: &Config) -> Vec<Remark> {
        let kind = config.proxy_type;
        let inbound = kind != ProxyType::Forward;
        let outbound = kind != ProxyType::Reverse;
        self.0
            .keys
            .values()
            .filter_map(|said| {
                let used = match said.key.name {
                    "proxy-host" | "proxy-in-port" => kind.reverses(),
                    "proxy-out-port" => kind.forwards(),
                    "proxy-protocol" => !kind.steers(),
                    "reset-older-connections" => kind.steers(),
                    "proxy-port"
                    | "tls-in-secret"
                    | "tls-in-private"
                    | "tls-in-public"
                    | "ignore-src-ips"
                    | "ignore-src-hosts"
                    | "ignore-inbound-ports"
                    | "capture-node-traffic" => inbound,
                    "tls-out"
                    | "ignore-dst-ips"
                    | "ignore-dst-hosts"
                    | "ignore-outbound-ports"
                    | "kube-api-support" => outbound,
                    "tls-mutual-secret" | "tls-mutual-private" | "tls-mutual-public" if outbound && !config.tls_out => {
                        return Some(idle(said, "tls-out is not true".into()));
                    }
                    "tls-mutual-secret" | "tls-mutual-private" | "tls-mutual-public" => outbound,
                    _ => true,
                };
                match said.key.handling {
                    Handling::Ignored(why) => Some(idle(said, why.into())),
                    _ if !used => Some(idle(said, format!("proxy-type is {kind}").into())),
                    _ => None,
                }
            })
            .collect()
    }
}

fn idle(said: &Said, why: Cow<'static, str>) -> Remark {
    Remark::Ignored { key: said.written.clone(), on: said.on.clone(), why }
}

#[cfg(test)]
mod tests;
