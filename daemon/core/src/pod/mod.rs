//! What becomes of a pod: what its annotations ask for, what of that can be done, and which steps lead from what is to
//! what should be. Maps of text in, values out: it knows no Kubernetes client, no socket and no clock, so that
//! `nodetap lint` on a laptop and the agent on a node cannot differ.
//!
//! Reading order: [`keys`] is the table of annotations, [`value`] what they may say, [`annotations`] what one object
//! says, [`precedence`] who wins, [`wish`] and [`config`] what a pod gets.

pub mod annotations;
pub mod config;
#[cfg(test)]
mod dice;
pub mod keys;
pub mod network;
pub mod precedence;
pub mod refusal;
pub mod resolved;
pub mod spelling;
pub mod value;
pub mod wish;
