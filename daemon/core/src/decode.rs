//! Takes content codings (RFC 9110 §8.4) off a body, as far as the body was kept and within a bound: a few bytes can
//! stand for gigabytes.

use std::io::Read;

use crate::exchange::Message;
use crate::head::Head;

/// Decoded bytes at most.
pub const MAX_DECODED: usize = 16 << 20;
/// Codings that are taken off one after the other, at most.
const MAX_CODINGS: usize = 4;

/// A body without its content codings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decoded {
    pub bytes: Vec<u8>,
    /// Not all of it: the body was cut, is damaged, or decodes to more than [`MAX_DECODED`].
    pub partial: bool,
    /// The codings that were taken off, as sent; empty: `bytes` are the body as it was kept.
    pub codings: Vec<String>,
    /// A coding that is not known here: `bytes` are still in it.
    pub unknown: Option<String>,
}

/// The body of a message without its content codings.
pub fn body(message: &Message) -> Decoded {
    let head = Head::parse(&message.head);
    let mut codings: Vec<String> = head
        .fields()
        .filter(|field| field.is("content-encoding"))
        .flat_map(|field| {
            let value = String::from_utf8_lossy(&field.unfolded()).into_owned();
            value.split(',').map(|coding| coding.trim().to_ascii_lowercase()).collect::<Vec<_>>()
        })
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    let mut decoded = Decoded {
        bytes: message.body.kept.clone(),
        partial: (message.body.kept.len() as u64) < message.body.size,
        ..Decoded::default()
    };
    if message.body.kept.is_empty() {
        return decoded;
    }
    while let Some(coding) = codings.pop() {
        let known = decoded.codings.len() < MAX_CODINGS;
        match known.then(|| decode(&coding, &decoded.bytes)).flatten() {
            Some((bytes, whole)) => {
                decoded.bytes = bytes;
                decoded.partial |= !whole;
                decoded.codings.push(coding);
            }
            None => {
                decoded.unknown = Some(coding);
                break;
            }
        }
    }
    decoded
}

/// What `bytes` stand for, and whether that is all; `None` when the coding is not known or nothing can be decoded.
fn decode(coding: &str, bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (decoded, whole) = match coding {
        "gzip" | "x-gzip" => take(flate2::read::MultiGzDecoder::new(bytes)),
        // RFC 9110 says zlib, some send what is inside of it.
        "deflate" => match take(flate2::read::ZlibDecoder::new(bytes)) {
            (decoded, whole) if whole || !decoded.is_empty() => (decoded, whole),
            _ => take(flate2::read::DeflateDecoder::new(bytes)),
        },
        "br" => take(brotli_decompressor::Decompressor::new(bytes, 4096)),
        "zstd" => zstd(bytes),
        _ => return None,
    };
    (whole || !decoded.is_empty()).then_some((decoded, whole))
}

/// Frame after frame (RFC 8878 §3.1).
fn zstd(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut rest = bytes;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let Ok(decoder) = ruzstd::decoding::StreamingDecoder::new(&mut rest) else { return (all, false) };
        let (decoded, whole) = take(decoder);
        all.extend_from_slice(&decoded);
        if !whole || all.len() > MAX_DECODED {
            all.truncate(MAX_DECODED);
            return (all, false);
        }
    }
    (all, true)
}

fn take(mut reader: impl Read) -> (Vec<u8>, bool) {
    let mut decoded = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return (decoded, true),
            Ok(count) => decoded.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return (decoded, false),
        }
        if decoded.len() > MAX_DECODED {
            decoded.truncate(MAX_DECODED);
            return (decoded, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::exchange::Body;

    const TEXT: &[u8] = b"to be or not to be, that is the question; to be or not to be";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn message(coding: &str, bytes: &[u8]) -> Message {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-ENCODING: {coding}\r\n\r\n").into_bytes();
        Message {
            head,
            body: Body { size: bytes.len() as u64, kept: bytes.to_vec(), in_messages: false },
            trailers: vec![],
        }
    }

    #[test]
    fn every_coding_is_taken_off() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(TEXT).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        // One uncompressed meta-block (RFC 7932 §9.2) and an empty last one.
        let mut brotli = vec![0x8b, 0x1d, 0x80];
        brotli.extend_from_slice(TEXT);
        brotli.push(0x03);
        for (coding, bytes) in [
            ("gzip", gzip(TEXT)),
            ("X-Gzip", gzip(TEXT)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("zstd", zstd.clone()),
            (
                "gzip, ZSTD",
                ruzstd::encoding::compress_to_vec(&gzip(TEXT)[..], ruzstd::encoding::CompressionLevel::Fastest),
            ),
            ("identity", TEXT.to_vec()),
            ("br", brotli),
        ] {
            let decoded = body(&message(coding, &bytes));
            assert_eq!((&decoded.bytes[..], decoded.partial, decoded.unknown), (TEXT, false, None), "{coding}");
        }
    }

    #[test]
    fn of_a_cut_body_what_is_there_is_decoded() {
        let whole = gzip(&TEXT.repeat(100));
        let mut cut = message("gzip", &whole[..whole.len() - 20]);
        cut.body.size = whole.len() as u64;
        let decoded = body(&cut);
        assert!(decoded.partial && decoded.bytes.starts_with(b"to be"));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let decoded = body(&message("gzip", &gzip(&vec![0; MAX_DECODED * 4])));
        assert!(decoded.partial && decoded.bytes.len() == MAX_DECODED);
        assert!(body(&message("gzip,gzip,gzip,gzip,gzip,gzip", &gzip(b"x"))).bytes.len() < 100);
    }

    #[test]
    fn what_is_unknown_or_broken_stays_as_it_is() {
        assert_eq!(body(&message("compress", b"abc")).unknown.as_deref(), Some("compress"));
        let broken = body(&message("gzip", b"no gzip"));
        assert_eq!((&broken.bytes[..], broken.unknown.as_deref()), (&b"no gzip"[..], Some("gzip")));
    }
}
