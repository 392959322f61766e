//! The authority's two files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::{ca, now};
use crate::trust::ca::{CERTIFICATE, Ca, Error, KEY, directory};
use crate::trust::certificate::Facts;
use crate::trust::pem;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_saved_is_loaded_and_only_we_can_read_the_key() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a/ca");
    let made = ca("the name");
    made.save(&directory, false).unwrap();
    let loaded = Ca::load(&directory, now()).unwrap();
    assert_eq!(loaded.chain, made.chain);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join(KEY)), 0o600);
    let facts = Facts::of(&loaded.chain[0]).unwrap();
    assert_eq!((facts.subject.as_str(), facts.may_sign), ("CN=the name", true));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn one_that_is_there_is_replaced_only_by_force() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (ca("one"), ca("two"));
    first.save(home.path(), false).unwrap();
    assert!(matches!(second.save(home.path(), false), Err(Error::Exists(_))));
    assert_eq!(Ca::load(home.path(), now()).unwrap().chain, first.chain);
    second.save(home.path(), true).unwrap();
    assert_eq!(Ca::load(home.path(), now()).unwrap().chain, second.chain);
    assert_eq!(mode(&home.path().join(KEY)), 0o600);
}

#[test]
fn half_of_one_is_not_overwritten_either() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(KEY), "somebody's key").unwrap();
    assert!(matches!(ca("one").save(home.path(), false), Err(Error::Exists(_))));
    assert_eq!(fs::read(home.path().join(KEY)).unwrap(), b"somebody's key");
}

/// Two files that somebody else made.
fn given(chain: &str, key: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(CERTIFICATE), chain).unwrap();
    fs::write(home.path().join(KEY), key).unwrap();
    home
}

fn refused(chain: &str, key: &str) -> Error {
    let error = Ca::load(given(chain, key).path(), now()).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    error
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let (one, two) = (ca("one"), ca("two"));
    let (certificate, key) = (pem::encode(&one.chain), one.key.serialize_pem());
    let missing = Ca::load(Path::new("/nowhere/at/all"), now()).unwrap_err();
    assert!(matches!(missing, Error::Missing(_)) && missing.to_string().contains("nodetap ca init"), "{missing}");
    assert!(matches!(refused("", &key), Error::NoCertificate(_)));
    assert!(matches!(refused(&certificate, "no key"), Error::NoKey(_)));
    assert!(matches!(refused(&certificate, &two.key.serialize_pem()), Error::ForeignKey(_)));
    let both = certificate.clone() + &pem::encode(&two.chain);
    assert!(matches!(refused(&both, &key), Error::Chain { place: 1, .. }));
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&leaf_key).unwrap();
    assert!(matches!(refused(&leaf.pem(), &leaf_key.serialize_pem()), Error::NotACa(_)));
    let garbage = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(garbage, &key), Error::NotACertificate { .. }));
    let own = given(&certificate, &key);
    let later = Ca::load(own.path(), now() + Duration::from_hours(24 * 11)).unwrap_err();
    assert!(later.to_string().contains("expired on 2026-12-03"), "{later}");
    let earlier = Ca::load(own.path(), now() - Duration::from_hours(48)).unwrap_err();
    assert!(earlier.to_string().contains("not valid before 2026-11-22"), "{earlier}");
}

#[test]
fn an_intermediate_with_its_chain_is_taken() {
    let root = ca("root");
    let issuer = Issuer::from_ca_cert_der(&root.chain[0], &root.key).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let intermediate = params.signed_by(&key, &issuer).unwrap();
    let chain = intermediate.pem() + &pem::encode(&root.chain);
    let loaded = Ca::load(given(&chain, &key.serialize_pem()).path(), now()).unwrap();
    assert_eq!(loaded.chain.len(), 2);
}

#[test]
fn it_stands_in_the_users_configuration() {
    let path = |text| Some(Path::new(text));
    assert_eq!(directory(path("/c"), path("/h")).unwrap(), Path::new("/c/nodetap/ca"));
    assert_eq!(directory(path("c"), path("/h")).unwrap(), Path::new("/h/.config/nodetap/ca"));
    assert!(matches!(directory(None, path("")), Err(Error::NoHome)));
}
