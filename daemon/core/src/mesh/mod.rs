//! Beside Istio: which `Sidecar` objects send the inbound traffic of pods to our listeners, and change nothing else. Values
//! in, values out: it knows no client, no clock and no Envoy, so that the controller, its dry run and the tests cannot
//! differ.
//!
//! Istio takes one Sidecar for a pod and never merges two, one without egress widens egress to everything, and ports that
//! it does not list lose their connections. So ours says all that holds for the pod today, and replaces the endpoint of
//! captured ports only.
//!
//! Reading order: [`snapshot`] is what is known of the cluster, [`sidecar`] an object, [`selection`] which one Istio takes
//! for a pod, [`protocol`] and [`ports`] what a pod receives today, [`egress`] what it may reach. [`preflight`] says what
//! keeps a pod from it, in the words of [`finding`]; [`desired`] puts it together, and [`diff`] leads there. [`managed`] is the
//! one thing that is done to an object of a user's, where they ask for it on that object; [`routes`] only advises, and
//! [`uninstall`] is how all of it goes.

pub mod desired;
pub mod diff;
pub mod egress;
pub mod finding;
pub mod managed;
pub mod names;
pub mod ports;
pub mod preflight;
pub mod protocol;
pub mod routes;
pub mod selection;
pub mod sidecar;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod uninstall;
