//! What two sides of a WebSocket agreed on: the extensions that the server's response names (RFC 6455 §9.1, RFC 7692
//! §7.1). It refuses to know frames.

use nodetap_core::head::Head;

/// What changes the frames of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extensions {
    pub(super) deflate: Option<Deflate>,
    /// There is an extension, or a parameter of one, that is not known here.
    pub(super) foreign: bool,
}

/// permessage-deflate. The sizes of windows are read and need not be known: see [`super::inflate::Inflater`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Deflate {
    pub(super) client_no_context_takeover: bool,
    pub(super) server_no_context_takeover: bool,
}

impl Extensions {
    /// Of the head of the server's response.
    pub(super) fn of(head: &[u8]) -> Self {
        let mut extensions = Self::default();
        for field in Head::parse(head).fields().filter(|field| field.is("sec-websocket-extensions")) {
            for offer in field.unfolded().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if !offer.is_empty() {
                    extensions.add(offer);
                }
            }
        }
        if extensions.foreign {
            // What else was done to the bytes before or after they were compressed is not known.
            extensions.deflate = None;
        }
        extensions
    }

    fn add(&mut self, offer: &[u8]) {
        let mut words = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        if !words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"permessage-deflate")) || self.deflate.is_some()
        {
            self.foreign = true;
            return;
        }
        let mut deflate = Deflate::default();
        for word in words {
            let mut parts = word.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            match (&name[..], parts.next()) {
                (b"client_no_context_takeover", None) => deflate.client_no_context_takeover = true,
                (b"server_no_context_takeover", None) => deflate.server_no_context_takeover = true,
                (b"client_max_window_bits" | b"server_max_window_bits", Some(bits)) if is_window(bits) => {}
                _ => self.foreign = true,
            }
        }
        self.deflate = Some(deflate);
    }
}

/// 8 to 15, perhaps in quotes.
fn is_window(bits: &[u8]) -> bool {
    let bits = bits.strip_prefix(b"\"").and_then(|bits| bits.strip_suffix(b"\"")).unwrap_or(bits);
    matches!(bits, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_agreed_on_is_read_from_the_response() {
        let both = Deflate { client_no_context_takeover: true, server_no_context_takeover: true };
        let plain = Deflate::default();
        for (value, deflate, foreign) in [
            ("", None, false),
            ("permessage-deflate", Some(plain), false),
            ("Permessage-Deflate; server_max_window_bits=10;client_max_window_bits=\"15\"", Some(plain), false),
            ("permessage-deflate ; client_no_context_takeover; server_no_context_takeover", Some(both), false),
            ("permessage-deflate; server_max_window_bits=16", None, true),
            ("permessage-deflate; server_max_window_bits", None, true),
            ("permessage-deflate; wings", None, true),
            ("permessage-deflate, permessage-deflate", None, true),
            ("x-webkit-deflate-frame", None, true),
            ("permessage-deflate, x-other", None, true),
        ] {
            let head = format!("HTTP/1.1 101 X\r\nSec-WebSocket-Extensions: {value}\r\n\r\n");
            assert_eq!(Extensions::of(head.as_bytes()), Extensions { deflate, foreign }, "{value}");
        }
    }
}
