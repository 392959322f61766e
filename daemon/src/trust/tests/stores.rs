//! Trust stores of Java's, and the names that OpenSSL gives.

use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
use rustls::pki_types::CertificateDer;

use super::ca;
use crate::trust::certificate::Facts;
use crate::trust::{Roots, jks, pem, pkcs12, roots};

fn entries() -> Vec<(String, CertificateDer<'static>)> {
    let roots: Roots = [ca("one"), ca("two")].into_iter().flat_map(|ca| ca.chain).collect();
    roots.aliased(&ca("ours").chain)
}

#[test]
fn both_stores_give_back_what_was_put_in() {
    let entries = entries();
    assert_eq!(entries[0].0, "nodetap");
    let expected: Roots = entries.iter().map(|(_, certificate)| certificate.clone()).collect();
    let read = jks::decode(&jks::encode(&entries, "changeit", 0).unwrap()).unwrap();
    assert_eq!(read.into_iter().collect::<Roots>(), expected);
    let read = pkcs12::decode(&pkcs12::encode(&entries, "changeit").unwrap(), "changeit").unwrap();
    assert_eq!(read.into_iter().collect::<Roots>(), expected);
}

#[test]
fn a_store_that_is_cut_anywhere_is_refused() {
    let whole = jks::encode(&entries(), "changeit", 0).unwrap();
    for length in 0..whole.len() {
        assert!(jks::decode(&whole[..length]).is_err(), "{length}");
    }
    assert!(pkcs12::decode(&pkcs12::encode(&entries(), "changeit").unwrap(), "another").is_err());
}

#[test]
fn the_same_root_is_held_once_and_ours_is_ours() {
    let (one, ours) = (ca("one").chain, ca("ours").chain);
    let mut roots: Roots = one.iter().chain(&one).chain(&ours).cloned().collect();
    roots.extend(one.clone());
    assert_eq!(roots.iter().count(), 2);
    assert_eq!(roots.aliased(&ours).len(), 2);
}

#[test]
fn a_file_of_roots_may_say_other_things_too() {
    let certificate = pem::encode(&ca("one").chain);
    let text = format!("# a comment\n{certificate}-----BEGIN X-----\nAA==\n-----END X-----\nrest\n{certificate}");
    assert_eq!(pem::decode(text.as_bytes()).len(), 2);
    assert!(roots::bytes(std::path::Path::new("/nowhere/at/all")).is_err());
}

#[test]
fn names_have_the_hash_that_openssl_gives_them() {
    // `openssl x509 -noout -subject_hash` of certificates with these subjects.
    let hash = |parts: &[(DnType, DnValue)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), value.clone()));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Facts::of(certificate.der()).unwrap().openssl_hash
    };
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    assert_eq!(hash(&[(DnType::CommonName, utf8("nodetap"))]), "b2d13386");
    assert_eq!(
        hash(&[(DnType::CountryName, printable("DE")), (DnType::CommonName, utf8("  A  Ünit \t b "))]),
        "55de83ab"
    );
}
