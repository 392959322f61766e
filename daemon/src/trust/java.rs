//! How Java is told of a trust store: by options in JAVA_TOOL_OPTIONS, and where a JDK keeps its own when nobody does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::roots;

/// The password of Java's own trust stores. It hides nothing: what is in a trust store is public.
pub const JAVA_PASSWORD: &str = "changeit";

/// Java's option for each part of a trust store.
const STORE: &str = "-Djavax.net.ssl.trustStore=";
const STORE_TYPE: &str = "-Djavax.net.ssl.trustStoreType=";
const STORE_PASSWORD: &str = "-Djavax.net.ssl.trustStorePassword=";

/// A trust store that somebody named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub path: PathBuf,
    /// Empty when none was named.
    pub password: String,
}

/// The trust store that options name, the last one counting.
///
/// # Errors
/// When it is one that is no file, with its kind.
pub fn store(options: &str) -> Result<Option<Store>, String> {
    let options = split_options(options);
    let last = |prefix: &str| options.iter().rev().find_map(|option| option.strip_prefix(prefix));
    if let Some(kind) = last(STORE_TYPE).filter(|kind| !["jks", "pkcs12"].contains(&kind.to_lowercase().as_str())) {
        return Err(format!("of the type {kind}"));
    }
    match last(STORE) {
        Some("NONE") => Err("NONE".to_owned()),
        None | Some("") => Ok(None),
        Some(path) => {
            let password = last(STORE_PASSWORD).unwrap_or_default().to_owned();
            Ok(Some(Store { path: path.into(), password }))
        }
    }
}

/// As the JVM splits JAVA_TOOL_OPTIONS: at blanks, but not within quotes of either kind; there is no escape.
fn split_options(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The options with a PKCS #12 store after them: the last one counts.
pub fn with_store(before: Option<&str>, store: &Path) -> String {
    let path = store.display();
    // Quotes around the whole word, of the kind that is not in it.
    let quote = if path.to_string().contains('"') { '\'' } else { '"' };
    let word = format!("{STORE}{path}");
    let word = if word.contains(char::is_whitespace) { format!("{quote}{word}{quote}") } else { word };
    let before = before.map(|before| format!("{before} ")).unwrap_or_default();
    format!("{before}{word} {STORE_TYPE}PKCS12 {STORE_PASSWORD}{JAVA_PASSWORD}")
}

/// The store of the JDK at `home`, or else of the first `java` on the path, which stands in its folder's `bin`.
pub fn jdk(home: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    if let Some(store) = home.and_then(roots::java_store) {
        return Some(store);
    }
    let programs = std::env::split_paths(path?).map(|folder| folder.join("java"));
    let program = programs.into_iter().find_map(|program| program.canonicalize().ok())?;
    roots::java_store(program.parent()?.parent()?)
}
