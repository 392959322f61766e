//! Which port of ours stands for which port of the application: the first gets `proxy-in-port`, the next ones the free
//! ports after it. What was given stays as long as it can, since callers know it.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Config, ListenPort};
use super::observed::{Held, Listener, Listening};
use super::refusal::Refusal;

/// How far behind `proxy-in-port` ports are looked for.
const REACH: u16 = 64;

/// The explicit listeners of a pod, and the application's ports to which they lead.
///
/// # Errors
/// When a port that somebody counts on is taken: one that was named, and the forward proxy's always (the application's
/// own environment names it).
pub fn listeners(
    config: &Config,
    application: &[u16],
    held: Option<&Held>,
    listening: &BTreeSet<Listening>,
) -> Result<BTreeMap<Listener, Option<u16>>, Refusal> {
    let kind = config.proxy_type;
    let mut wanted = BTreeMap::new();
    let mut used: BTreeSet<u16> = listening.iter().map(|one| one.port).chain(application.iter().copied()).collect();
    if kind.forwards() {
        untaken(&config.out_port, "proxy-out-port", listening)?;
        wanted.insert(Listener::Forward { port: config.out_port.port }, None);
        used.insert(config.out_port.port);
    }
    if kind.reverses() && !application.is_empty() {
        if config.in_port.said.is_some() {
            untaken(&config.in_port, "proxy-in-port", listening)?;
        }
        let given = given(held);
        if config.ports.is_none() {
            // A port whose application is away comes back with it, unless it was said that it has another one.
            let away = given.iter().filter(|(app, _)| !application.contains(app));
            used.extend(away.map(|(_, port)| *port));
        }
        let ports = assign(&config.in_port, application, &given, &used);
        wanted.extend(ports.into_iter().map(|(app, port)| (Listener::Reverse { port }, Some(app))));
    }
    Ok(wanted)
}

/// By the application's port.
fn assign(
    first: &ListenPort,
    application: &[u16],
    given: &BTreeMap<u16, u16>,
    used: &BTreeSet<u16>,
) -> BTreeMap<u16, u16> {
    let reach = first.port..=first.port.saturating_add(REACH - 1);
    let stays = |app: &u16| given.get(app).filter(|port| reach.contains(port) && !used.contains(port));
    let mut ports: BTreeMap<u16, u16> =
        application.iter().filter_map(|app| stays(app).map(|port| (*app, *port))).collect();
    if let (Some(app), Some(_)) = (application.first(), &first.said)
        && !used.contains(&first.port)
    {
        // Somebody counts on it: whoever else has it gives it up.
        ports.retain(|_, port| *port != first.port);
        ports.insert(*app, first.port);
    }
    for app in application {
        let taken = |port: &u16| used.contains(port) || ports.values().any(|other| other == port);
        if !ports.contains_key(app)
            && let Some(port) = reach.clone().find(|port| !taken(port))
        {
            ports.insert(*app, port);
        }
    }
    ports
}

/// The ports that stand for the application's now.
fn given(held: Option<&Held>) -> BTreeMap<u16, u16> {
    let open = held.into_iter().flat_map(|held| &held.listeners).filter(|(_, open)| !open.closed);
    open.filter_map(|(listener, open)| open.app.zip(listener.port())).collect()
}

fn untaken(port: &ListenPort, name: &str, listening: &BTreeSet<Listening>) -> Result<(), Refusal> {
    match listening.iter().find(|one| one.port == port.port) {
        None => Ok(()),
        Some(one) => {
            let by = match &one.container {
                Some(id) => format!("a process of the container {id}"),
                None => "another process".into(),
            };
            Err(Refusal::PortTaken { key: port.key(name), port: port.port, by })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::observed::{NamespaceId, Open, Steering};
    use crate::pod::samples::{config, listening};

    const DUAL: (&str, &str) = ("proxy-type", "dual");

    fn ports(wanted: &BTreeMap<Listener, Option<u16>>) -> Vec<(u16, u16)> {
        let mut ports: Vec<_> = wanted.iter().filter_map(|(listener, app)| app.zip(listener.port())).collect();
        ports.sort_unstable();
        ports
    }

    fn held(pairs: &[(u16, u16)]) -> Held {
        let listener =
            |(app, port): &(u16, u16)| (Listener::Reverse { port: *port }, Open { app: Some(*app), ..Open::default() });
        Held {
            namespace: NamespaceId { device: 4, inode: 1 },
            listeners: pairs.iter().map(listener).collect(),
            attached: BTreeSet::new(),
            config: None,
            steering: Steering::default(),
            older_closed: false,
        }
    }

    #[test]
    fn ports_follow_one_another_and_those_that_are_taken_are_passed_over() {
        let sockets = BTreeSet::from([listening("0.0.0.0", 4144, "")]);
        let wanted = listeners(&config(&[DUAL]), &[8080, 9090, 4146, 7070], None, &sockets).unwrap();
        assert_eq!(ports(&wanted), [(4146, 4147), (7070, 4148), (8080, 4143), (9090, 4145)]);
        assert!(wanted.contains_key(&Listener::Forward { port: 4140 }));
        let low = config(&[DUAL, ("proxy-in-port", "4139")]);
        assert_eq!(ports(&listeners(&low, &[1, 2], None, &BTreeSet::new()).unwrap()), [(1, 4139), (2, 4141)]);
    }

    #[test]
    fn a_port_that_was_given_stays() {
        let held = held(&[(8080, 4143), (9090, 4144)]);
        let wanted = |app: &[u16]| ports(&listeners(&config(&[DUAL]), app, Some(&held), &BTreeSet::new()).unwrap());
        assert_eq!(wanted(&[3000, 8080, 9090]), [(3000, 4145), (8080, 4143), (9090, 4144)]);
        assert_eq!(wanted(&[9090]), [(9090, 4144)]);
        assert_eq!(wanted(&[3000, 9090]), [(3000, 4145), (9090, 4144)]);
        // Where ports are said, the listener stays and leads elsewhere.
        let said = config(&[DUAL, ("proxy-port", "3000,9090")]);
        let wanted = listeners(&said, &[3000, 9090], Some(&held), &BTreeSet::new()).unwrap();
        assert_eq!(ports(&wanted), [(3000, 4143), (9090, 4144)]);
        let moved = config(&[DUAL, ("proxy-in-port", "5000")]);
        let wanted = listeners(&moved, &[8080, 9090], Some(&held), &BTreeSet::new()).unwrap();
        assert_eq!(ports(&wanted), [(8080, 5000), (9090, 5001)]);
        let said = config(&[DUAL, ("proxy-in-port", "4143"), ("proxy-port", "9090,8080")]);
        let wanted = listeners(&said, &[9090, 8080], Some(&held), &BTreeSet::new()).unwrap();
        assert_eq!(ports(&wanted), [(8080, 4144), (9090, 4143)]);
    }

    #[test]
    fn a_port_that_somebody_counts_on_is_refused_when_it_is_taken() {
        let sockets = BTreeSet::from([listening("127.0.0.1", 4140, "abc"), listening("::", 4143, "")]);
        let error = listeners(&config(&[DUAL]), &[80], None, &sockets).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nodetap.io/proxy-out-port: port 4140 is taken in the pod by a process of the container abc; name another one"
        );
        let said = config(&[("proxy-type", "reverse"), ("proxy-in-port", "4143")]);
        assert_eq!(listeners(&said, &[80], None, &sockets).unwrap_err().key(), Some("nodetap.io/proxy-in-port"));
        let unsaid = config(&[("proxy-type", "reverse")]);
        assert_eq!(ports(&listeners(&unsaid, &[80], None, &sockets).unwrap()), [(80, 4144)]);
    }

    #[test]
    fn the_end_of_all_ports_is_no_harm() {
        let last = config(&[("proxy-type", "reverse"), ("proxy-in-port", "65535")]);
        assert_eq!(ports(&listeners(&last, &[1, 2], None, &BTreeSet::new()).unwrap()), [(1, 65535)]);
    }
}
