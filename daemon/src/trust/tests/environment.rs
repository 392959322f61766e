//! The environment of a command, from values to values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::ca;
use crate::trust::environment::{Form, Found, Layout, Plan, Source, Variable, lay_out, plan};
use crate::trust::{JAVA_PASSWORD, Roots, pem, pkcs12, roots};

const REPLACING: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

fn planned(environment: &[(&str, &str)]) -> Plan {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    plan(&environment, &[PathBuf::from("/etc/ssl/certs")])
}

fn variable(plan: &Plan, name: &str) -> Option<Variable> {
    plan.variables.iter().find(|variable| variable.name == name).cloned()
}

fn path(text: &str) -> Source {
    Source::Path(text.into())
}

#[test]
fn without_any_variable_programs_get_this_systems_roots_and_ours() {
    let plan = planned(&[]);
    for name in REPLACING {
        assert_eq!(variable(&plan, name).unwrap().sources, [Source::System], "{name}");
    }
    for name in ADDING {
        assert_eq!(variable(&plan, name).unwrap().sources, [], "{name}");
    }
    let directories = variable(&plan, "SSL_CERT_DIR").unwrap();
    assert_eq!(directories.form, Form::Directories(vec!["/etc/ssl/certs".into()]));
    let java = variable(&plan, "JAVA_TOOL_OPTIONS").unwrap();
    assert_eq!(java.sources, [Source::System, Source::Jdk { home: None, path: None }]);
    assert_eq!(plan.variables.len(), REPLACING.len() + ADDING.len() + 2);
    assert_eq!(plan.left_alone, Vec::<String>::new());
}

#[test]
fn a_file_of_the_users_takes_the_place_of_this_systems_roots() {
    for name in REPLACING.into_iter().chain(ADDING) {
        let plan = planned(&[(name, "/mine.pem")]);
        assert_eq!(variable(&plan, name).unwrap().sources, [path("/mine.pem")], "{name}");
        for other in REPLACING.into_iter().filter(|other| *other != name) {
            let expected = [Source::System, path("/mine.pem")];
            assert_eq!(variable(&plan, other).unwrap().sources, expected, "{other} may fall back to {name}");
        }
        for other in ADDING.into_iter().filter(|other| *other != name) {
            assert_eq!(variable(&plan, other).unwrap().sources, [], "{other} takes nothing away");
        }
    }
    assert_eq!(planned(&[("SSL_CERT_FILE", "")]), planned(&[]), "an empty one counts as none");
}

#[test]
fn variables_that_go_before_others_are_set_only_where_they_are() {
    for name in ["PIP_CERT", "NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS"] {
        assert_eq!(variable(&planned(&[]), name), None);
        assert_eq!(variable(&planned(&[(name, "/mine.pem")]), name).unwrap().sources, [path("/mine.pem")]);
    }
}

#[test]
fn several_directories_stay_and_count() {
    let directories = variable(&planned(&[("SSL_CERT_DIR", "/a::/b")]), "SSL_CERT_DIR").unwrap();
    assert_eq!(directories.sources, [path("/a"), path("/b")]);
    assert_eq!(directories.form, Form::Directories(vec!["/a".into(), "/b".into()]));
}

#[test]
fn javas_own_trust_store_is_found_in_its_options() {
    let java = |path: &str, password: &str| Source::Java { path: path.into(), password: password.into() };
    let jdk = || vec![Source::System, Source::Jdk { home: None, path: None }];
    let cases = [
        ("-Xmx1g", Some(jdk())),
        ("-Djavax.net.ssl.trustStore=/t.jks", Some(vec![java("/t.jks", "")])),
        (
            "-Djavax.net.ssl.trustStore=/t.jks -Djavax.net.ssl.trustStorePassword=geheim",
            Some(vec![java("/t.jks", "geheim")]),
        ),
        ("'-Djavax.net.ssl.trustStore=/a b/t.jks'", Some(vec![java("/a b/t.jks", "")])),
        ("-Djavax.net.ssl.trustStore=\"/a b\"/t", Some(vec![java("/a b/t", "")])),
        ("-Djavax.net.ssl.trustStore=/a -Djavax.net.ssl.trustStore=/b", Some(vec![java("/b", "")])),
        ("-Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStore=/t", Some(vec![java("/t", "")])),
        ("-Djavax.net.ssl.trustStore=NONE", None),
        ("-Djavax.net.ssl.trustStore=/t -Djavax.net.ssl.trustStoreType=PKCS11", None),
    ];
    for (options, expected) in cases {
        let plan = planned(&[("JAVA_TOOL_OPTIONS", options)]);
        assert_eq!(variable(&plan, "JAVA_TOOL_OPTIONS").map(|java| java.sources), expected, "{options}");
        assert_eq!(plan.left_alone.len(), usize::from(expected.is_none()), "{options}");
    }
}

/// Each source holds one certificate of its own, but for paths that are not there.
struct World(BTreeMap<Source, CertificateDer<'static>>);

impl World {
    fn new() -> Self {
        let sources = [Source::System, path("/mine.pem"), path("/other.pem"), path("/a")];
        Self(sources.into_iter().map(|source| (source.clone(), ca(&format!("{source:?}")).chain.remove(0))).collect())
    }

    fn certificate(&self, source: &Source) -> CertificateDer<'static> {
        self.0[source].clone()
    }

    fn look(&self, source: &Source) -> Result<Found, roots::Error> {
        let gone = || roots::Error::File { path: "/gone".into(), source: io::ErrorKind::NotFound.into() };
        if let Source::Jdk { .. } = source {
            return Ok(Found::default());
        }
        let certificate = self.0.get(source).cloned().ok_or_else(gone)?;
        let text = matches!(source, Source::Path(path) if path.extension().is_some())
            .then(|| format!("# of the user\n{}", pem::encode([&certificate])).into_bytes());
        Ok(Found { roots: [certificate].into_iter().collect(), text })
    }
}

fn laid_out(world: &World, environment: &[(&str, &str)], ours: &[CertificateDer<'static>]) -> Layout {
    lay_out(planned(environment), ours, Path::new("/f"), |source| world.look(source)).unwrap()
}

fn value<'a>(layout: &'a Layout, name: &str) -> Option<&'a str> {
    layout.environment.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.to_str())
}

fn file<'a>(layout: &'a Layout, name: &str) -> &'a [u8] {
    let path = Path::new(value(layout, name).unwrap()).strip_prefix("/f").unwrap();
    &layout.files[path]
}

#[test]
fn each_bundle_holds_what_was_trusted_and_ours_and_equal_ones_are_one_file() {
    let (world, ours) = (World::new(), ca("ours").chain);
    let layout = laid_out(&world, &[("SSL_CERT_FILE", "/mine.pem"), ("GIT_SSL_CAINFO", "/mine.pem")], &ours);
    let holds = |name: &str| pem::decode(file(&layout, name));
    let mine = world.certificate(&path("/mine.pem"));
    assert_eq!(holds("SSL_CERT_FILE"), [mine.clone(), ours[0].clone()]);
    assert!(file(&layout, "SSL_CERT_FILE").starts_with(b"# of the user\n"), "the user's file stands in it as it is");
    assert_eq!(value(&layout, "GIT_SSL_CAINFO"), value(&layout, "SSL_CERT_FILE"));
    let system = world.certificate(&Source::System);
    let fallback: Roots = holds("AWS_CA_BUNDLE").into_iter().collect();
    assert_eq!(fallback, [system.clone(), mine.clone(), ours[0].clone()].into_iter().collect());
    assert_eq!(holds("NODE_EXTRA_CA_CERTS"), ours);
    assert_eq!(
        layout.roots,
        [mine, system].into_iter().collect(),
        "servers are verified against all of them, not ours"
    );
    // Mine, the system's with mine, ours alone, one for OpenSSL's directory, one for Java.
    assert_eq!(layout.files.len(), 5, "{:?}", layout.files.keys());
}

#[test]
fn openssl_finds_ours_in_a_directory_before_the_others() {
    let layout = laid_out(&World::new(), &[("SSL_CERT_DIR", "/a")], &ca("ours").chain);
    assert_eq!(value(&layout, "SSL_CERT_DIR"), Some("/f/certs:/a"));
    assert!(
        layout.files.keys().any(|path| path.starts_with("certs") && path.extension().is_some_and(|end| end == "0"))
    );
}

#[test]
fn java_keeps_its_options_and_gets_a_store_that_it_can_read() {
    let (world, ours) = (World::new(), ca("ours").chain);
    let layout = laid_out(&world, &[("JAVA_TOOL_OPTIONS", "-Xmx1g")], &ours);
    let expected = "-Xmx1g -Djavax.net.ssl.trustStore=/f/roots.p12 -Djavax.net.ssl.trustStoreType=PKCS12 \
                    -Djavax.net.ssl.trustStorePassword=changeit";
    assert_eq!(value(&layout, "JAVA_TOOL_OPTIONS"), Some(expected));
    let holds: Roots =
        pkcs12::decode(&layout.files[Path::new("roots.p12")], JAVA_PASSWORD).unwrap().into_iter().collect();
    assert_eq!(holds, [world.certificate(&Source::System), ours[0].clone()].into_iter().collect());
}

#[test]
fn what_cannot_be_read_leaves_its_variable_as_it_is() {
    let layout = laid_out(&World::new(), &[("CURL_CA_BUNDLE", "/gone")], &ca("ours").chain);
    assert_eq!(value(&layout, "CURL_CA_BUNDLE"), None);
    assert_eq!(pem::decode(file(&layout, "SSL_CERT_FILE")).len(), 2, "the others have what they had");
    assert!(matches!(&layout.left_alone[..], [one] if one.contains("CURL_CA_BUNDLE")), "{:?}", layout.left_alone);
}

#[test]
fn on_a_system_without_roots_no_program_is_left_with_ours_alone() {
    let plan = planned(&[("SSL_CERT_FILE", "/mine.pem")]);
    let look = |source: &Source| match source {
        Source::System | Source::Jdk { .. } => Ok(Found::default()),
        other => World::new().look(other),
    };
    let layout = lay_out(plan, &ca("ours").chain, Path::new("/f"), look).unwrap();
    let set: Vec<_> = layout.environment.iter().map(|(name, _)| *name).collect();
    assert_eq!(set, ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "DENO_CERT"], "a program may bring roots of its own");
    let layout = lay_out(planned(&[]), &ca("ours").chain, Path::new("/f"), look).unwrap();
    let set: Vec<_> = layout.environment.iter().map(|(name, _)| *name).collect();
    assert_eq!(set, ADDING);
}
