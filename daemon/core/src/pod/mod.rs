//! What becomes of a pod: what its annotations ask for, what of that can be done, and which steps lead from what is to
//! what should be. Maps of text in, values out: it knows no Kubernetes client, no socket and no clock, so that
//! `nodetap lint` on a laptop and the agent on a node cannot differ.
//!
//! Reading order: [`keys`] is the table of annotations, [`value`] what they may say, [`annotations`] what one object
//! says, [`precedence`] who wins, [`wish`] and [`config`] what a pod gets. [`facts`] is a pod as the API server tells it,
//! [`decision`] what is to become of it, [`observed`] what there is on the node, and [`plan`] leads from the one to the
//! other; [`state`] and [`condition`] say how it went.

pub mod annotations;
pub mod application;
pub mod condition;
pub mod config;
pub mod decision;
#[cfg(test)]
pub(crate) mod dice;
pub mod facts;
pub mod keys;
pub mod network;
pub mod observed;
pub mod plan;
pub mod ports;
pub mod precedence;
pub mod refusal;
pub mod resolved;
#[cfg(test)]
mod samples;
pub mod spelling;
pub mod state;
pub mod value;
pub mod wish;
