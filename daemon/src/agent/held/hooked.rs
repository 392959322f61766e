//! The hooks on a pod: attached to its containers, steering or not, and gone again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nodetap_core::pod::observed::Steering;
use nodetap_proxy::engine::{Group, Served};
use nodetap_proxy::sink::Sink;
use nodetap_proxy::steering::Steering as Brings;
use nodetap_proxy::tls::Policy;

use super::{Held, Mutable, Tools, limits};
use crate::agent::steered::Steered;
use crate::capture::namespace::Namespace;
use crate::capture::{self, POD_PACE, Reset, Steer};

/// For so long nothing happened on a connection that may be closed because it is older than the hooks.
const IDLE: Duration = Duration::from_secs(2);
/// Looks for connections that have become idle that come soon after one another.
const SOON: u32 = 10;

/// The hooks, and the listeners that they steer to. They are there as soon as anything is attached; they count as open
/// when something is to be steered.
#[derive(Debug)]
pub(super) struct HeldHooks {
    pub(super) hooks: Arc<capture::Target>,
    pub(super) steering: Arc<Steered>,
    pub(super) served: Served,
    pub(super) sink: Arc<Mutable>,
}

impl Held {
    /// Makes the hooks know the namespace, and listeners for what they might steer. Nothing is steered yet.
    pub(super) fn hook(&mut self, tools: &Tools) -> Result<&HeldHooks, String> {
        let hooked = match self.hooks.take() {
            Some(hooked) => hooked,
            None => self.new_hooks(tools)?,
        };
        Ok(self.hooks.insert(hooked))
    }

    fn new_hooks(&self, tools: &Tools) -> Result<HeldHooks, String> {
        let Some(hooks) = &tools.hooks else { return Err("the kernel programs are not loaded".into()) };
        let namespace: Arc<dyn Namespace> = Arc::new(self.netns.clone());
        let options = capture::Options { target: Arc::clone(&self.target), tls: Policy::Untouched, pace: POD_PACE };
        let mut target = hooks.target(namespace, options).map_err(|error| error.to_string())?;
        let steering = Arc::new(Steered::new(target.steering(), Arc::clone(&self.target), self.tls.clone()));
        let sink = self.mutable();
        let group = Group {
            steering: Arc::clone(&steering) as Arc<dyn Brings>,
            sink: Arc::clone(&sink) as Arc<dyn Sink>,
            limits: limits(tools),
        };
        let served = tools.engine.serve(target.take_listeners(), group).map_err(|error| error.to_string())?;
        target.record_to(Arc::clone(&sink) as Arc<dyn Sink>);
        let hooks = Arc::new(target);
        self.stats.follow(&hooks);
        Ok(HeldHooks { hooks, steering, served, sink })
    }

    /// Puts the hooks on a container.
    pub(in crate::agent) fn attach(&mut self, container: &str, path: &Path, tools: &Tools) -> Result<(), String> {
        let hooked = self.hook(tools)?;
        let attached = hooked.hooks.attach(path).map_err(|error| error.to_string())?;
        self.attached.insert(container.to_owned(), attached);
        (self.older_closed, self.older_in_use) = (false, 0);
        Ok(())
    }

    pub(in crate::agent) fn detach(&mut self, container: &str) {
        self.attached.remove(container);
    }

    pub(in crate::agent) fn steer(&mut self, steering: Steering, loopback: bool, tools: &Tools) -> Result<(), String> {
        let steer = Steer { inbound: steering.inbound, outbound: steering.outbound, loopback };
        if self.hooks.is_none() && !steering.any() {
            return Ok(());
        }
        self.hook(tools)?.hooks.steer(steer).map_err(|error| error.to_string())?;
        self.steering = steer;
        Ok(())
    }

    /// Is anything steered?
    pub(in crate::agent) fn steers(&self) -> bool {
        self.steering.inbound || self.steering.outbound
    }

    /// Closes idle connections that are older than the hooks; the others stay until they are idle, and are counted.
    pub(in crate::agent) fn close_older(&mut self) -> Result<(), String> {
        if let Some(hooked) = &self.hooks {
            let Reset { ended, busy } = hooked.hooks.close_older(IDLE).map_err(|error| error.to_string())?;
            self.older_in_use = if busy > 0 { self.older_in_use.saturating_add(1) } else { 0 };
            if ended > 0 {
                tracing::info!(pod = %self.target.name, ended, busy, "connections older than the capture");
            }
        }
        self.older_closed = true;
        Ok(())
    }

    /// Connections that are older than the hooks were in use a moment ago, and may be idle soon.
    pub(in crate::agent) fn awaits_idle(&self) -> bool {
        (1..=SOON).contains(&self.older_in_use)
    }

    /// The hooks go too, so that a successor can put its own there: what waited in the queues of the steered listeners was
    /// accepted meanwhile.
    pub(in crate::agent) fn unhook(&mut self) {
        self.attached.clear();
        if let Some(hooked) = &mut self.hooks {
            hooked.served.close();
        }
    }
}
