//! Groups of listeners that come and go while one engine runs, and how connections through them end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod ends;
mod floods;
mod groups;
mod harness;
mod ignored;
