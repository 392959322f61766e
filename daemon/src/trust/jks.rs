//! Java's own form of a trust store, JKS: written for programs that read nothing newer, and read because a JDK's roots
//! may stand in one. Only trusted certificates: it refuses to know about keys. There is no specification beyond
//! `sun.security.provider.JavaKeyStore`.

use aws_lc_rs::digest::{self, Context};
use rustls::pki_types::CertificateDer;

/// What a JKS file begins with.
pub const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: u32 = 2;
/// The tag of an entry that is a trusted certificate, and of one that is a private key.
const TRUSTED: u32 = 2;
const PRIVATE: u32 = 1;
const TYPE: &str = "X.509";
/// Hashed between password and data, whatever it means.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// The digest that ends the file.
const DIGEST: usize = 20;

/// Why there is no such store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not a JKS file of version 2")]
    Format,
    #[error("a JKS file that ends too early")]
    Short,
    #[error("too large for JKS")]
    Large,
}

/// Writes a store of trusted certificates with their aliases, as of `created` (milliseconds since 1970-01-01 UTC).
///
/// # Errors
/// When there are more or larger certificates than 32 bits can count.
pub fn encode(entries: &[(String, CertificateDer<'static>)], password: &str, created: u64) -> Result<Vec<u8>, Error> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_be_bytes());
    out.extend(u32::try_from(entries.len()).map_err(|_| Error::Large)?.to_be_bytes());
    for (alias, certificate) in entries {
        out.extend(TRUSTED.to_be_bytes());
        text(&mut out, alias)?;
        out.extend(created.to_be_bytes());
        text(&mut out, TYPE)?;
        out.extend(u32::try_from(certificate.len()).map_err(|_| Error::Large)?.to_be_bytes());
        out.extend_from_slice(certificate);
    }
    let mut context = Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    context.update(&password);
    context.update(WHITENER);
    context.update(&out);
    out.extend_from_slice(context.finish().as_ref());
    Ok(out)
}

/// Reads the trusted certificates. The digest is not checked: whoever could change the file could change the digest of
/// a store whose password everybody knows, and Java reads it without password too.
///
/// # Errors
/// When it is no such store.
pub fn decode(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let body = bytes.len().checked_sub(DIGEST).and_then(|end| bytes.get(..end)).ok_or(Error::Short)?;
    let mut reader = Reader(body.strip_prefix(&MAGIC).ok_or(Error::Format)?);
    if reader.u32()? != VERSION {
        return Err(Error::Format);
    }
    let mut found = Vec::new();
    for _ in 0..reader.u32()? {
        let tag = reader.u32()?;
        reader.text()?;
        reader.take(8)?;
        match tag {
            TRUSTED => found.push(CertificateDer::from(reader.certificate()?.to_vec())),
            PRIVATE => {
                let key = reader.u32()?;
                reader.take(key as usize)?;
                for _ in 0..reader.u32()? {
                    reader.certificate()?;
                }
            }
            _ => return Err(Error::Format),
        }
    }
    Ok(found)
}

/// As `DataOutput.writeUTF`, which for what aliases are made of is UTF-8 with a length of 16 bits.
fn text(out: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    out.extend(u16::try_from(text.len()).map_err(|_| Error::Large)?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?.try_into().map_err(|_| Error::Short)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let bytes = self.take(2)?.try_into().map_err(|_| Error::Short)?;
        self.take(u16::from_be_bytes(bytes).into())
    }

    fn certificate(&mut self) -> Result<&'a [u8], Error> {
        self.text()?;
        let length = self.u32()?;
        self.take(length as usize)
    }
}
