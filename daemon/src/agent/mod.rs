//! `nodetap agent`: captures the pods of one node that asked for it.
//!
//! It is two processes. The keeper ([`keeper`]) holds what must not be lost and does nothing else; the worker does
//! everything. They speak over a socket ([`wire`]).

mod keeper;
mod wire;
