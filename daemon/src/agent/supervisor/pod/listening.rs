//! Where the programs of a pod listen, by the hooks or by a look at its sockets, and what of that is behind our own
//! listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use nodetap_core::pod::observed::Listening;

use super::{Hands, Pod};
use crate::agent::held::{Behind, Held, kept_name};
use crate::kubepods::Container;
use crate::netlink::listeners::listeners;

impl Pod {
    /// Where others than us listen in the pod's network namespace.
    pub(super) fn look_for_listeners(&mut self, hands: &Hands<'_>) {
        let Some(found) = &self.found else { return };
        // What is steered needs no port of its own that others could have: the hooks know where the application listens,
        // and a look at all sockets of the node is not cheap.
        if self.config().is_some_and(|config| config.proxy_type.steers()) {
            self.ask_hooks_for_listeners();
            return;
        }
        let all = match found.netns.enter(listeners) {
            Ok(all) => all,
            Err(error) => return tracing::debug!(%error, pod = self.api.name, "cannot list listening sockets"),
        };
        let groups: Vec<(&str, Vec<u64>)> =
            self.groups.values().map(|container| (container.id.as_str(), container.cgroups())).collect();
        let of = |cgroup: u64| groups.iter().find(|(_, ids)| ids.contains(&cgroup)).map(|(id, _)| (*id).to_owned());
        // What another agent handed to us was made in its control group, not in ours.
        let ours = |address: SocketAddr| {
            hands.tools.link.has(&kept_name(&self.api.uid, &found.netns, address))
                || self.held.as_ref().is_some_and(|held| held.is_ours(address))
        };
        let others = all.into_values().filter(|one| one.cgroup != hands.own_cgroup && !ours(one.address));
        let others: Vec<_> = others.collect();
        let told = others.iter().map(|one| Listening {
            address: one.address.ip(),
            port: one.address.port(),
            container: of(one.cgroup),
        });
        self.observed.listening = told.collect();
        // Containers are beside each other in the pod's own group.
        let group = self.groups.keys().find_map(|path| path.parent()).map(std::path::Path::to_owned);
        let listening = others.into_iter().filter(|one| of(one.cgroup).is_some()).collect();
        if let Some(group) = group {
            self.behind = Some(Behind { group, listening });
        }
    }

    /// Callers under Istio were told of the reverse listeners, and know no other way in.
    pub(super) fn set_behind(&mut self) {
        // What is not asked for any more drains.
        let reverses = self.config().is_none_or(|config| config.proxy_type.reverses());
        let behind = self.behind.clone().filter(|_| self.api.mesh && reverses);
        if let Some(held) = &mut self.held {
            held.set_behind(behind);
        }
    }

    pub(super) fn ask_hooks_for_listeners(&mut self) {
        let Some(hooks) = self.held.as_ref().and_then(Held::hooks) else { return self.observed.listening.clear() };
        let listening = hooks.listening();
        let single = self.groups.values().next().filter(|_| self.groups.len() == 1);
        let of = |cgroup: u64| {
            let is = |container: &&Arc<Container>| container.cgroup == cgroup || container.cgroups().contains(&cgroup);
            let found = single.or_else(|| self.groups.values().find(is));
            found.map(|container| container.id.as_str().to_owned())
        };
        let told = listening.into_iter().map(|one| Listening {
            address: one.address.ip(),
            port: one.address.port(),
            container: of(one.cgroup),
        });
        self.observed.listening = told.collect();
    }
}
