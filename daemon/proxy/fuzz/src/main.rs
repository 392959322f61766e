//! One program for all fuzz targets: `NODETAP_FUZZ` names the one to run, and libFuzzer's own options follow. It is
//! built and run by `cargo xtask fuzz`, which instruments the workspace's crates.
#![no_main]

mod target;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use target::Target;

fuzz_target!(|input: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET
        .get_or_init(|| {
            let name = std::env::var("NODETAP_FUZZ").unwrap_or_default();
            Target::named(&name).unwrap_or_else(|| {
                let names: Vec<_> = target::ALL.iter().map(|target| target.name).collect();
                eprintln!("NODETAP_FUZZ has to be one of: {}", names.join(" "));
                std::process::exit(2)
            })
        })
        .run(input);
});
