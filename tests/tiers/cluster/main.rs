//! What needs an API server, and pods that are a network namespace and a control group each: no kubelet.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod agent;
mod away;
mod controller;
mod convergence;
mod families;
mod floods;
mod harness;
mod ignored;
mod istio;
mod lives;
mod many;
mod outage;
mod reading;
mod setups;
mod support;
mod switches;
mod uninstall;
