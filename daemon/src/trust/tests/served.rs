//! A certificate that is served and renewed.

use std::fs;
use std::path::Path;

use clap::Parser;

use super::ca;
use crate::trust::{InboundOptions, Options, pem};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    outbound: Options,
    #[command(flatten)]
    inbound: InboundOptions,
}

fn parsed(arguments: &[&str]) -> Result<Line, clap::Error> {
    Line::try_parse_from(["x"].iter().chain(arguments))
}

fn put(folder: &Path, name: &str) {
    let pair = ca(name);
    fs::write(folder.join("tls.crt"), pem::encode(&pair.chain)).unwrap();
    fs::write(folder.join("tls.key"), pair.key.serialize_pem()).unwrap();
}

#[test]
fn a_renewed_pair_is_served_and_a_broken_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), "one");
    let (certificate, key) = (home.path().join("tls.crt"), home.path().join("tls.key"));
    let line = parsed(&["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]).unwrap();
    let mut served = line.inbound.served(&line.outbound).unwrap().unwrap();
    assert!(!served.renew().unwrap());
    put(home.path(), "two");
    assert!(served.renew().unwrap());
    fs::write(&key, "half a k").unwrap();
    let error = served.renew().unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.lines().count() == 1, "{error}");
    assert!(!served.renew().unwrap(), "the same content is complained about once");
    put(home.path(), "three");
    assert!(served.renew().unwrap());
}

#[test]
fn options_that_need_each_other_are_asked_for_together() {
    for wrong in [
        &["--ca", "x"][..],
        &["--tls-cert", "x"],
        &["--tls-key", "x"],
        &["--tls-client-cert", "x"],
        &["--tls-upstream", "tls"],
        &["--tls-cert", "x", "--tls-key", "y", "--tls-upstream", "odd"],
    ] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
    assert!(parsed(&["--tls-out"]).unwrap().outbound.open);
    assert!(parsed(&[]).unwrap().inbound.served(&Options::default()).unwrap().is_none());
}
