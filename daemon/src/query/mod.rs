//! Reading records from afar: what is asked ([`ask`]), how it is answered ([`wire`]), who reads the local folder for it
//! ([`read`], [`chosen`]), and the server that an agent runs for the controller ([`serve`], with [`identity`] to know
//! each other by). The controller, the agent and the command line all use these few files, so that they agree.
//!
//! It refuses to know who may read what: an agent answers the controller alone, and the controller answers the API
//! server alone, which has asked RBAC.

pub mod ask;
pub mod body;
pub mod chosen;
pub mod identity;
pub mod read;
pub mod serve;
pub mod wire;

#[cfg(test)]
pub(crate) mod tests;

/// Group and version of the cluster's API.
pub const GROUP: &str = "capture.nodetap.io";
pub const VERSION: &str = "v1alpha1";

pub use ask::Ask;
pub use serve::serve;
