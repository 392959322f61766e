//! The environment by which a command comes to trust our authority besides all that it trusts already. Nearly all these
//! variables replace a program's roots, so each gets what it had and ours: the user's own file where one is named; this
//! system's roots and all that the user names in other variables otherwise, because programs fall back from one to the
//! other (curl from CURL_CA_BUNDLE to SSL_CERT_FILE). Decided here in values; [`super::folder`] writes the files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::certificate::Facts;
use super::java::{self, JAVA_PASSWORD};
use super::{Roots, pem, pkcs12, roots};

/// The file in our folder that holds Java's store, and the directory that OpenSSL finds ours in.
const JAVA_STORE: &str = "roots.p12";
const DIRECTORY: &str = "certs";
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
const OPENSSL_DIRECTORIES: &str = "SSL_CERT_DIR";

/// What a variable that names a file of roots does to the roots that a program has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Replaces,
    Adds,
    /// Replaces them, and is set only where the user has set it: it then goes before one of the others.
    ReplacesIfSet,
}

const FILES: [(&str, Effect); 15] = [
    ("SSL_CERT_FILE", Effect::Replaces),
    ("CURL_CA_BUNDLE", Effect::Replaces),
    ("REQUESTS_CA_BUNDLE", Effect::Replaces),
    ("NODE_EXTRA_CA_CERTS", Effect::Adds),
    ("AWS_CA_BUNDLE", Effect::Replaces),
    ("GIT_SSL_CAINFO", Effect::Replaces),
    ("CARGO_HTTP_CAINFO", Effect::Replaces),
    ("DENO_CERT", Effect::Adds),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", Effect::Replaces),
    ("PIP_CERT", Effect::ReplacesIfSet),
    ("NIX_SSL_CERT_FILE", Effect::ReplacesIfSet),
    ("HTTPLIB2_CA_CERTS", Effect::ReplacesIfSet),
    ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", Effect::ReplacesIfSet),
    ("HEX_CACERTS_PATH", Effect::ReplacesIfSet),
    ("PERL_LWP_SSL_CA_FILE", Effect::ReplacesIfSet),
];

/// Where roots come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    System,
    /// A PEM file or a directory of them.
    Path(PathBuf),
    /// A Java trust store.
    Java {
        path: PathBuf,
        password: String,
    },
    /// The store of the JDK that the command would find: by JAVA_HOME or else on this PATH.
    Jdk {
        home: Option<PathBuf>,
        path: Option<OsString>,
    },
}

/// What becomes of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    /// Whose roots stand beside ours.
    pub sources: Vec<Source>,
    pub form: Form,
}

/// How the roots are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A PEM file.
    File,
    /// A directory of ours before these, which stay what they are.
    Directories(Vec<PathBuf>),
    /// A PKCS #12 file, named by options that follow these.
    Java(Option<String>),
}

/// What is to be done for an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub variables: Vec<Variable>,
    /// Why one of them is left alone; a sentence each.
    pub left_alone: Vec<String>,
}

/// Decides what becomes of each variable. An empty one counts as none.
pub fn plan(environment: &BTreeMap<OsString, OsString>, system_directories: &[PathBuf]) -> Plan {
    let value = |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty());
    let mut plan = Plan::default();
    let directories: Option<Vec<PathBuf>> = value(OPENSSL_DIRECTORIES)
        .map(|paths| std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect());
    let named = FILES.iter().filter_map(|(name, _)| value(name)).map(PathBuf::from);
    let named: BTreeSet<Source> = named.chain(directories.iter().flatten().cloned()).map(Source::Path).collect();
    let fallback: Vec<Source> = std::iter::once(Source::System).chain(named).collect();
    for (name, effect) in FILES {
        let sources = match (value(name), effect) {
            (Some(path), _) => vec![Source::Path(path.into())],
            (None, Effect::Replaces) => fallback.clone(),
            (None, Effect::Adds) => Vec::new(),
            (None, Effect::ReplacesIfSet) => continue,
        };
        plan.variables.push(Variable { name, sources, form: Form::File });
    }
    let sources = directories.as_ref().map_or_else(
        // Without it OpenSSL reads a directory of the system's.
        || vec![Source::System],
        |directories| directories.iter().cloned().map(Source::Path).collect(),
    );
    let directories = directories.unwrap_or_else(|| system_directories.to_vec());
    plan.variables.push(Variable { name: OPENSSL_DIRECTORIES, sources, form: Form::Directories(directories) });
    let jdk = || Source::Jdk { home: value("JAVA_HOME").map(PathBuf::from), path: value("PATH").cloned() };
    match value(JAVA_OPTIONS).map(|options| options.to_str().ok_or(())).transpose() {
        Ok(options) => match java::store(options.unwrap_or_default()) {
            Ok(store) => {
                let sources = store.map_or_else(
                    || vec![Source::System, jdk()],
                    |java::Store { path, password }| vec![Source::Java { path, password }],
                );
                plan.variables.push(Variable {
                    name: JAVA_OPTIONS,
                    sources,
                    form: Form::Java(options.map(str::to_owned)),
                });
            }
            Err(what) => plan.left_alone.push(format!("{JAVA_OPTIONS} is left alone: its trust store is {what}")),
        },
        Err(()) => plan.left_alone.push(format!("{JAVA_OPTIONS} is left alone: it is not UTF-8")),
    }
    plan
}

/// What a source holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub roots: Roots,
    /// The bytes of a PEM file, which may say more than its certificates do.
    pub text: Option<Vec<u8>>,
}

/// What a command is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    pub environment: Vec<(&'static str, OsString)>,
    /// To be written, by their place below the folder.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// All that the command trusts without us, by whichever variable: what upstreams are verified against.
    pub roots: Roots,
    pub left_alone: Vec<String>,
}

/// Carries the plan out, in values. `folder` is where the files will be; `look` says what a source holds. A variable
/// whose sources cannot be read stays as it is, and so does one that would leave a program with our certificate alone.
///
/// # Errors
/// When ours is no certificate.
pub fn lay_out(
    plan: Plan,
    ours: &[CertificateDer<'static>],
    folder: &Path,
    look: impl Fn(&Source) -> Result<Found, roots::Error>,
) -> Result<Layout, pkcs12::Error> {
    let mut layout = Layout { left_alone: plan.left_alone, ..Layout::default() };
    let sources: BTreeSet<&Source> = plan.variables.iter().flat_map(|variable| &variable.sources).collect();
    let known: Known<'_> = sources.into_iter().map(|source| (source, look(source))).collect();
    let mut bundles: Vec<(&[Source], PathBuf)> = Vec::new();
    for Variable { name, sources, form } in &plan.variables {
        let found = match held(sources, &known) {
            Ok(found) => found,
            Err(reason) => {
                let sentence = format!("{name} is left alone: {reason}");
                layout.left_alone.push(sentence);
                continue;
            }
        };
        let roots: Roots = found.iter().flat_map(|found| found.roots.iter().cloned()).collect();
        layout.roots.extend(roots.iter().cloned());
        let value = match form {
            Form::File => {
                let made = bundles.iter().find(|(made, _)| made == sources).map(|(_, path)| path.clone());
                let path = made.unwrap_or_else(|| {
                    let path = PathBuf::from(format!("roots-{}.pem", bundles.len()));
                    layout.files.insert(path.clone(), bundle(&found, &roots, ours));
                    bundles.push((sources, path.clone()));
                    path
                });
                folder.join(path).into_os_string()
            }
            Form::Directories(others) => {
                for (path, text) in hashed(ours) {
                    layout.files.insert(Path::new(DIRECTORY).join(path), text);
                }
                let all = std::iter::once(folder.join(DIRECTORY)).chain(others.iter().cloned());
                // None of them can hold a colon: they were split at colons, and our folder's name holds none.
                std::env::join_paths(all).unwrap_or_else(|_| folder.join(DIRECTORY).into_os_string())
            }
            Form::Java(before) => {
                layout.files.insert(JAVA_STORE.into(), pkcs12::encode(&roots.aliased(ours), JAVA_PASSWORD)?);
                java::with_store(before.as_deref(), &folder.join(JAVA_STORE)).into()
            }
        };
        layout.environment.push((*name, value));
    }
    Ok(layout)
}

/// What each source holds.
type Known<'a> = BTreeMap<&'a Source, Result<Found, roots::Error>>;

/// What these sources hold, or why a variable with them is left alone.
fn held<'a>(sources: &[Source], known: &'a Known<'_>) -> Result<Vec<&'a Found>, String> {
    let mut held = Vec::new();
    for source in sources {
        match known.get(source) {
            Some(Ok(found)) if *source == Source::System && found.roots.is_empty() => {
                return Err("this system has no root certificates of its own, and ours would be alone".into());
            }
            Some(Ok(found)) => held.push(found),
            // What the user names elsewhere counts there.
            Some(Err(_)) if matches!(source, Source::Path(_)) && sources.contains(&Source::System) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => {}
        }
    }
    Ok(held)
}

/// A file of the user's as it is, or else the roots; then ours.
fn bundle(found: &[&Found], roots: &Roots, ours: &[CertificateDer<'static>]) -> Vec<u8> {
    let mut text = match found {
        [Found { text: Some(text), .. }] => text.clone(),
        _ => pem::encode(roots.iter()).into_bytes(),
    };
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(pem::encode(ours).as_bytes());
    text
}

/// Files by the names under which OpenSSL looks for them (openssl-rehash(1)).
fn hashed(ours: &[CertificateDer<'static>]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for certificate in ours {
        let Ok(facts) = Facts::of(certificate) else { continue };
        let names = (0..=ours.len()).map(|number| PathBuf::from(format!("{}.{number}", facts.openssl_hash)));
        if let Some(free) = names.into_iter().find(|name| !files.contains_key(name)) {
            files.insert(free, pem::encode([certificate]).into_bytes());
        }
    }
    files
}

/// What a source holds, read from this machine.
///
/// # Errors
/// When it cannot be read.
pub fn look(source: &Source) -> Result<Found, roots::Error> {
    let roots = match source {
        Source::System => Roots::system(),
        Source::Path(path) if path.is_dir() => Roots::read(path)?,
        Source::Path(path) => {
            let text = roots::bytes(path)?;
            return Ok(Found { roots: pem::decode(&text).into_iter().collect(), text: Some(text) });
        }
        Source::Java { path, password } => Roots::java(path, password)?,
        Source::Jdk { home, path } => match java::jdk(home.as_deref(), path.as_deref()) {
            Some(store) => Roots::java(&store, JAVA_PASSWORD)?,
            None => Roots::default(),
        },
    };
    Ok(Found { roots, text: None })
}
