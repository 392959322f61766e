//! What a path means. The API server has looked at the same path and asked RBAC about what it found in it; so a path is
//! taken as it stands or not at all: nothing is decoded, nothing is put right.

use crate::query::{GROUP, VERSION};

/// Letters of a namespace's name (RFC 1123).
const NAMESPACE: usize = 63;
/// Letters of an id.
const ID: usize = 26;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/healthz`, `/livez`, `/readyz`.
    Health {
        ready: bool,
    },
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group,
    /// `/apis/GROUP/VERSION`
    Resources,
    /// The records of a namespace.
    Exchanges {
        namespace: &'a str,
    },
    /// One of them.
    Exchange {
        namespace: &'a str,
        id: &'a str,
    },
    /// Of all namespaces.
    Everywhere,
    Nothing,
}

impl<'a> Route<'a> {
    /// What is asked for, in one word of a fixed set.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Health { .. } => "health",
            Self::Groups | Self::Group | Self::Resources => "discovery",
            Self::Exchanges { .. } => "exchanges",
            Self::Exchange { .. } => "exchange",
            Self::Everywhere | Self::Nothing => "other",
        }
    }

    pub(super) fn of(path: &'a str) -> Self {
        match path {
            "/healthz" | "/livez" => return Self::Health { ready: false },
            "/readyz" => return Self::Health { ready: true },
            "/apis" | "/apis/" => return Self::Groups,
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(GROUP)) else {
            return Self::Nothing;
        };
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        match parts[..] {
            [] | [""] if rest.is_empty() || rest == "/" => Self::Group,
            [VERSION] | [VERSION, ""] => Self::Resources,
            [VERSION, "exchanges"] => Self::Everywhere,
            [VERSION, "namespaces", namespace, "exchanges"] if is_namespace(namespace) => Self::Exchanges { namespace },
            [VERSION, "namespaces", namespace, "exchanges", id] if is_namespace(namespace) && is_id(id) => {
                Self::Exchange { namespace, id }
            }
            _ => Self::Nothing,
        }
    }
}

fn is_namespace(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edge = |byte: Option<u8>| byte.is_some_and(letter);
    name.len() <= NAMESPACE
        && edge(name.bytes().next())
        && edge(name.bytes().last())
        && name.bytes().all(|byte| letter(byte) || byte == b'-')
}

fn is_id(id: &str) -> bool {
    (1..=ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_stands_or_not_at_all() {
        let base = "/apis/capture.nodetap.io/v1alpha1";
        let of = |path: &str| format!("{:?}", Route::of(&format!("{base}{path}")));
        assert_eq!(of(""), "Resources");
        assert_eq!(of("/exchanges"), "Everywhere");
        assert_eq!(of("/namespaces/shop/exchanges"), r#"Exchanges { namespace: "shop" }"#);
        assert_eq!(of("/namespaces/shop/exchanges/8C9W19"), r#"Exchange { namespace: "shop", id: "8C9W19" }"#);
        for path in [
            "/namespaces/shop/exchanges/",
            "/namespaces/shop/exchanges/a/log",
            "/namespaces//exchanges",
            "/namespaces/sh%6Fp/exchanges",
            "/namespaces/Shop/exchanges",
            "/namespaces/-a/exchanges",
            "/namespaces/a/../b/exchanges",
            "/namespaces/a/exchanges/..",
            "/watch/namespaces/shop/exchanges",
            "//namespaces/shop/exchanges",
            "/namespaces/shop/pods",
            "x/namespaces/shop/exchanges",
        ] {
            assert_eq!(of(path), "Nothing", "{path}");
        }
        assert_eq!(Route::of("/apis/capture.nodetap.io"), Route::Group);
        assert_eq!(Route::of("/apis/capture.nodetap.iox"), Route::Nothing);
        assert_eq!(Route::of("/apis"), Route::Groups);
        assert_eq!(Route::of("/openapi/v2"), Route::Nothing);
        assert_eq!(Route::of("/readyz"), Route::Health { ready: true });
    }
}
