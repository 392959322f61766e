//! What needs a mesh: pods with Istio's rules, agent and Envoy, under istiod, all of them the real ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod doctor;
mod fallback;
mod outage;
mod sidecars;
mod support;
mod transparent;
mod view;
