//! The data plane: tunnels that change no byte, and taps that watch them. It knows neither Kubernetes nor eBPF:
//! who a connection belongs to and where it was going is told to it.

pub mod tap;
