//! The data plane: tunnels that change no byte, and taps that watch them. It knows neither Kubernetes nor eBPF: who a
//! connection belongs to and where it was going is told to it through [`steering::Steering`], and what it sees goes to
//! a [`sink::Sink`].
//!
//! Reading order: [`steering`] and [`sink`] are its two seams, [`engine`] accepts and deals connections out to worker
//! threads, [`forward`] finds out where the clients of the forward proxy want to go, [`dial`] makes the upstream
//! connection of [`sockets`], [`tunnel`] pumps through [`scratch`], [`tap`] watches, [`tls`] is opened.

mod backlog;
pub mod dial;
pub mod engine;
pub mod forward;
pub mod scratch;
pub mod sink;
pub mod sockets;
pub mod steering;
pub mod tap;
pub mod tls;
pub mod tunnel;
