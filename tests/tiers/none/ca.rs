//! `nodetap ca`: files that other programs read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use nodetap_tests::folder::Folder;
use nodetap_tests::nodetap;
use nodetap_tests::process::{Finished, Process};

fn run(program: &str, arguments: &[&str]) -> Finished {
    Process::start(Command::new(program).args(arguments)).unwrap().finish().unwrap()
}

fn ca(home: &Path, arguments: &[&str]) -> Finished {
    let mut command = nodetap::command(&[&["ca"], arguments].concat());
    Process::start(command.env("XDG_CONFIG_HOME", home)).unwrap().finish().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_made_once_shown_and_openssl_takes_it_for_an_authority() {
    let home = Folder::new().unwrap();
    let made = ca(&home, &["init", "--name", "Test CA", "--days", "30"]);
    assert_eq!(made.code(), 0, "{made:?}");
    let directory = home.join("nodetap/ca");
    assert_eq!((mode(&directory), mode(&directory.join("ca.key"))), (0o700, 0o600));
    let again = ca(&home, &["init"]);
    assert_eq!((again.code(), again.err.trim_end().lines().count()), (2, 1), "{again:?}");
    let shown = ca(&home, &["show"]);
    assert_eq!(shown.code(), 0, "{shown:?}");
    let certificate = directory.join("ca.crt");
    let certificate = certificate.to_str().unwrap();
    let openssl = run("openssl", &["x509", "-in", certificate, "-noout", "-text", "-fingerprint", "-sha256"]);
    for expected in ["CA:TRUE, pathlen:0", "Certificate Sign", "Subject Key Identifier", "CN = Test CA", "prime256v1"] {
        assert!(openssl.text().contains(expected), "{expected}: {openssl:?}");
    }
    let fingerprint =
        shown.text().lines().find_map(|line| line.strip_prefix("SHA-256").map(|rest| rest.trim().to_owned()));
    assert!(openssl.text().contains(&fingerprint.unwrap()), "{shown:?}");
    let verified = run("openssl", &["verify", "-x509_strict", "-CAfile", certificate, certificate]);
    assert_eq!(verified.code(), 0, "{verified:?}");
    assert_eq!(ca(&home, &["init", "--force"]).code(), 0);
}

#[test]
fn java_reads_both_stores_with_the_systems_roots_and_ours() {
    let home = Folder::new().unwrap();
    assert_eq!(ca(&home, &["init"]).code(), 0);
    let bundle = ca(&home, &["export", "--format", "bundle"]);
    let roots = bundle.text().matches("BEGIN CERTIFICATE").count();
    assert!(roots > 1, "{roots}");
    for format in ["pkcs12", "jks"] {
        let file = home.join(format);
        let file = file.to_str().unwrap();
        let exported = ca(&home, &["export", "--format", format, "--to", file, "--password", "something"]);
        assert_eq!(exported.code(), 0, "{exported:?}");
        let listed = run("keytool", &["-list", "-keystore", file, "-storepass", "something"]);
        assert_eq!(listed.text().matches("trustedCertEntry").count(), roots, "{listed:?}");
        let ours = run("keytool", &["-list", "-alias", "nodetap", "-keystore", file, "-storepass", "something"]);
        assert_eq!(ours.code(), 0, "{ours:?}");
        let wrong = run("keytool", &["-list", "-keystore", file, "-storepass", "something else"]);
        assert_ne!(wrong.code(), 0, "{wrong:?}");
    }
    let alone = ca(&home, &["export"]);
    assert_eq!(alone.text().matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn keys_that_openssl_makes_are_taken_in_all_their_forms() {
    let home = Folder::new().unwrap();
    let (key, certificate) = (home.join("ca.key"), home.join("ca.crt"));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    for make in [
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"][..],
        &["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["genrsa", "-traditional", "2048"],
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        let made = run("openssl", &[&make[..1], &["-out", key], &make[1..]].concat());
        assert_eq!(made.code(), 0, "{made:?}");
        let signed =
            run("openssl", &["req", "-x509", "-key", key, "-subj", "/CN=own", "-days", "2", "-out", certificate]);
        assert_eq!(signed.code(), 0, "{signed:?}");
        let shown = ca(&home, &["show", "--dir", home.to_str().unwrap()]);
        assert_eq!(shown.code(), 0, "{make:?}: {shown:?}");
    }
    let signed = run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ed25519",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-subj",
            "/CN=x",
            "-out",
            certificate,
        ],
    );
    assert_eq!(signed.code(), 0, "{signed:?}");
    let shown = ca(&home, &["show", "--dir", home.to_str().unwrap()]);
    assert_eq!((shown.code(), shown.err.trim_end().lines().count()), (2, 1), "{shown:?}");
    assert!(shown.err.contains("not the key"), "{shown:?}");
}

#[test]
fn one_that_is_not_there_is_named_with_what_makes_it() {
    let home = Folder::new().unwrap();
    for command in ["show", "export"] {
        let finished = ca(&home, &[command]);
        assert_eq!((finished.code(), finished.err.trim_end().lines().count()), (1, 1), "{finished:?}");
        assert!(finished.err.contains("nodetap ca init"), "{finished:?}");
    }
}
