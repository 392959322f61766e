//! A node with one pod, as far as plans can tell: it does what a plan says, and says when that makes no sense.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::pod::condition::Condition;
use crate::pod::decision::Decision;
use crate::pod::facts::{Container, Kind, Pod};
use crate::pod::observed::{Failure, Held, Listener, Millis, Namespace, NamespaceId, Observed, Open, Place, Steering};
use crate::pod::plan::{Plan, Step, Wanted, plan};
use crate::pod::samples::listening;
use crate::pod::state::State;

pub(super) const NAMESPACE: NamespaceId = NamespaceId { device: 4, inode: 4_026_532_000 };

/// Fails steps, or does not.
pub(super) type Fate<'a> = &'a mut dyn FnMut(&Step) -> bool;

#[derive(Debug, Clone)]
pub(super) struct World {
    /// `None`: the API server does not know it.
    pub(super) pod: Option<Pod>,
    pub(super) paused: bool,
    pub(super) observed: Observed,
    pub(super) now: Millis,
    /// What was decided last: most plans are about the same pod as the one before.
    decided: RefCell<Option<Wanted>>,
}

pub(super) fn container(name: &str, ports: &[u16]) -> Container {
    Container {
        name: name.into(),
        kind: Kind::App,
        image: None,
        id: Some(format!("{name}-1")),
        ports: ports.iter().copied().collect(),
    }
}

impl World {
    /// A pod that runs, with these annotations under our prefix.
    pub(super) fn running(containers: &[Container], annotations: &[(&str, &str)]) -> Self {
        let pod = Pod {
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "web-1".into(),
            addresses: BTreeSet::from(["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()]),
            containers: containers.to_vec(),
            ..Pod::default()
        };
        let mut observed = Observed { place: found(NAMESPACE), ..Observed::default() };
        for container in containers {
            let id = container.id.clone().unwrap();
            observed.listening.extend(container.ports.iter().map(|port| listening("0.0.0.0", *port, &id)));
            observed.cgroups.insert(id.clone(), format!("/kubepods/podu1/{id}"));
        }
        let mut world = Self { pod: Some(pod), paused: false, observed, now: 1_000_000, decided: RefCell::new(None) };
        world.annotate(annotations);
        world
    }

    /// One container, `app`, that listens on 8080.
    pub(super) fn web(annotations: &[(&str, &str)]) -> Self {
        Self::running(&[container("app", &[8080])], annotations)
    }

    /// Says something else on the pod.
    pub(super) fn annotate(&mut self, annotations: &[(&str, &str)]) {
        let annotations = annotations.iter().map(|(key, value)| (format!("nodetap.io/{key}"), (*value).to_owned()));
        self.pod.as_mut().unwrap().annotations = annotations.collect();
    }

    pub(super) fn wanted(&self) -> Option<Wanted> {
        let pod = self.pod.as_ref()?;
        let mut decided = self.decided.borrow_mut();
        if decided.as_ref().is_none_or(|before| before.pod != *pod) {
            let decision = Decision::of(pod, &BTreeMap::new());
            *decided = Some(Wanted { pod: pod.clone(), decision, paused: false });
        }
        decided.as_mut().unwrap().paused = self.paused;
        decided.clone()
    }

    pub(super) fn plan(&self) -> Plan {
        plan(self.wanted().as_ref(), &self.observed, self.now)
    }

    /// Plans and does until nothing is left to do; how many plans that took.
    pub(super) fn settle(&mut self, fate: Fate<'_>) -> usize {
        for rounds in 1.. {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return rounds;
            }
            assert!(rounds < 60, "it goes on and on: {:?}", plan.steps);
            for step in plan.steps {
                let key = step.key();
                if fate(&step) {
                    let failure = Failure::next(self.observed.failures.get(&key), "it may not be", self.now);
                    self.observed.failures.insert(key, failure);
                    break;
                }
                self.observed.failures.remove(&key);
                self.apply(step);
            }
        }
        unreachable!()
    }

    /// The same, and nothing fails; what was done, as `--dry-run` prints it.
    pub(super) fn done(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        let rounds = self.settle(&mut |step| {
            if step.is_work() && !matches!(step, Step::Set(_)) {
                done.push(step.to_string());
            }
            false
        });
        assert!(rounds <= 3, "after one plan of work and one of reports there is nothing: {done:?}");
        done
    }

    pub(super) fn later(&mut self, by: Millis) -> Vec<String> {
        self.now += by;
        self.done()
    }

    pub(super) fn state(&self) -> State {
        self.plan().state
    }

    pub(super) fn reported(&self) -> &Condition {
        self.observed.reported.as_ref().unwrap()
    }

    pub(super) fn held(&self) -> &Held {
        self.observed.held.as_ref().unwrap()
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.observed.said.iter().map(|event| format!("{}: {}", event.reason, event.note)).collect()
    }

    fn apply(&mut self, step: Step) {
        let others: BTreeSet<u16> = self.observed.listening.iter().map(|one| one.port).collect();
        match step {
            Step::Enter(namespace) => {
                assert!(self.observed.held.is_none(), "it is held already");
                assert_eq!(self.observed.place, found(namespace));
                self.observed.held = Some(Held {
                    namespace,
                    listeners: BTreeMap::new(),
                    attached: BTreeSet::new(),
                    config: None,
                    steering: Steering::default(),
                    older_closed: false,
                });
                return;
            }
            Step::Report(condition) => return self.observed.reported = Some(condition),
            Step::Say(event) => return assert!(self.observed.said.insert(event), "it was said"),
            _ => {}
        }
        let held = self.observed.held.as_mut().unwrap();
        match step {
            Step::Listen { listener, app, addresses } => {
                if let Some(port) = listener.port() {
                    assert!(!others.contains(&port), "{port} is somebody else's");
                    let mut ours = held.listeners.iter().filter(|(other, open)| **other != listener && !open.closed);
                    assert!(ours.all(|(other, _)| other.port() != Some(port)), "{port} is open already");
                    assert!(!addresses.is_empty());
                }
                let open = held.listeners.entry(listener).or_default();
                assert!(open.closed || open.addresses.is_disjoint(&addresses));
                if open.closed {
                    (open.closed, open.retired) = (false, None);
                    open.addresses.clear();
                }
                open.addresses.extend(addresses);
                (open.app, open.verified) = (app, true);
            }
            Step::Verify(listener) => held.listeners.get_mut(&listener).unwrap().verified = true,
            Step::Point { listener, app } => held.listeners.get_mut(&listener).unwrap().app = app,
            Step::Revive(listener) => {
                assert!(held.listeners.get_mut(&listener).unwrap().retired.take().is_some());
            }
            Step::Set(config) => assert_ne!(held.config.replace(config.clone()), Some(config)),
            Step::Attach { container, path } => {
                assert_eq!(self.observed.cgroups.get(&container), Some(&path));
                assert!(held.attached.insert(container), "it is attached");
            }
            Step::Detach { container } => assert!(held.attached.remove(&container), "it is not attached"),
            Step::Steer(steering) => {
                assert_ne!(held.steering, steering);
                assert!(!steering.any() || held.listeners[&Listener::Steered].verified, "nothing to steer to");
                assert!(!steering.any() || held.config.is_some(), "without rules");
                held.steering = steering;
                held.older_closed &= steering.any();
            }
            Step::CloseOlder => {
                assert!(held.steering.any() && !held.older_closed);
                held.older_closed = true;
            }
            Step::Retire(listener) => {
                assert!(listener != Listener::Steered || !held.steering.any(), "it is steered to");
                let open = held.listeners.get_mut(&listener).unwrap();
                assert_eq!(open.retired.replace(self.now), None);
            }
            Step::Close(listener) => {
                let open = held.listeners.get_mut(&listener).unwrap();
                assert!(open.retired.is_some() && !open.closed);
                open.closed = true;
            }
            Step::End(listener) => drop(held.listeners.remove(&listener).unwrap()),
            Step::Leave => {
                assert_eq!(held.listeners, BTreeMap::<Listener, Open>::new());
                self.observed.held = None;
            }
            Step::Enter(_) | Step::Report(_) | Step::Say(_) => unreachable!(),
        }
    }
}

pub(super) fn found(id: NamespaceId) -> Place {
    Place::Found(Namespace { id, ipv6: true })
}
