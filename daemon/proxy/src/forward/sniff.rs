//! Tells by its first bytes what a client speaks to the proxy. It never decides on fewer than it needs: who asks a proxy
//! speaks first, so there is always more to wait for.

/// What is spoken to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Socks4,
    Socks5,
    /// A version that there is none of.
    SocksUnknown(u8),
    /// TLS to the proxy itself.
    Tls,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
    /// HTTP/1, a CONNECT.
    Connect,
    /// HTTP/1, anything else: what is none is answered as HTTP, too.
    Http1,
}

/// The most bytes that are needed, after empty lines.
pub(super) const ENOUGH: usize = PREFACE.len();
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONNECT: &[u8] = b"CONNECT ";
/// Empty lines before a request that are passed over (RFC 9112 §2.2), in bytes.
pub(super) const BLANKS: usize = 64;

/// `None`: more bytes are needed.
pub(super) fn tell(bytes: &[u8]) -> Option<Speech> {
    match bytes.first()? {
        4 => return Some(Speech::Socks4),
        5 => return Some(Speech::Socks5),
        0x16 => return Some(Speech::Tls),
        version @ (1..=3 | 6..=8) => return Some(Speech::SocksUnknown(*version)),
        _ => {}
    }
    let text = bytes.get(blanks(bytes)..).unwrap_or_default();
    for (begin, speech) in [(PREFACE, Speech::Http2), (CONNECT, Speech::Connect)] {
        if text.starts_with(begin) {
            return Some(speech);
        }
        if begin.starts_with(text) {
            return None;
        }
    }
    Some(Speech::Http1)
}

/// Bytes of empty lines at the beginning.
pub(super) fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take(BLANKS).take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_by_its_first_bytes_and_by_no_fewer() {
        let cases: [(&[u8], usize, Speech); 12] = [
            (b"\x04\x01", 1, Speech::Socks4),
            (b"\x05\x01", 1, Speech::Socks5),
            (b"\x06\x01", 1, Speech::SocksUnknown(6)),
            (b"\x16\x03", 1, Speech::Tls),
            (PREFACE, PREFACE.len(), Speech::Http2),
            (b"PRI * HTTP/1.1\r\n", 12, Speech::Http1),
            (b"PROPFIND http://x/ HTTP/1.1", 3, Speech::Http1),
            (b"CONNECT x:1 HTTP/1.1", 8, Speech::Connect),
            (b"\r\nCONNECT x:1", 10, Speech::Connect),
            (b"CONNECTED x", 8, Speech::Http1),
            (b"GET http://x/", 1, Speech::Http1),
            (b"\0\0", 1, Speech::Http1),
        ];
        for (bytes, needed, speech) in cases {
            for length in 0..needed {
                assert_eq!(tell(&bytes[..length]), None, "{length} bytes of {bytes:?}");
            }
            assert_eq!(tell(&bytes[..needed]), Some(speech), "{bytes:?}");
            assert_eq!(tell(bytes), Some(speech), "{bytes:?}");
        }
    }

    #[test]
    fn empty_lines_are_not_passed_over_for_ever() {
        assert_eq!(tell(&[b'\n'; BLANKS]), None);
        assert_eq!(tell(&[b'\n'; BLANKS + 1]), Some(Speech::Http1));
    }
}
