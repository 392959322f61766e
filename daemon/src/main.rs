//! The thin front door: everything is put together in [`nodetap::app`].

fn main() -> std::process::ExitCode {
    nodetap::app::main()
}
