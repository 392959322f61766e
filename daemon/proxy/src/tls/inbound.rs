//! What TLS that ends here is served with: the user's certificate, and how the application behind is spoken to. It
//! refuses to know where the files are; who does tells it when they were renewed.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use super::outbound::{Connector, Verification};
use super::server::Acceptor;
use super::session::Session;
use super::{Error, Pair};

/// How the application is spoken to.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// Without TLS: HTTP/1.1, unless the client offers nothing but `h2`.
    Plain,
    /// Without TLS, by an application that speaks HTTP/2 with prior knowledge (RFC 9113 §3.3).
    PlainH2c,
    /// With TLS; the application chooses the protocol. With roots it is verified, by the name that the client asked for
    /// (or the address, when it asked for none); without it is not.
    Tls { roots: Option<RootCertStore>, identity: Option<Pair> },
}

/// How TLS that ends here is served.
#[derive(Debug)]
pub struct Inbound {
    pair: RwLock<Pair>,
    acceptor: Acceptor,
    upstream: Towards,
}

#[derive(Debug)]
enum Towards {
    Plain { h2c: bool },
    Tls(Box<Connector>),
}

impl Inbound {
    /// # Errors
    /// When roots were given and there are none in it, or there are no random bytes.
    pub fn new(pair: Pair, upstream: Upstream) -> Result<Self, Error> {
        let upstream = match upstream {
            Upstream::Plain => Towards::Plain { h2c: false },
            Upstream::PlainH2c => Towards::Plain { h2c: true },
            Upstream::Tls { roots, identity } => {
                let verification = roots.map_or(Verification::None, Verification::Roots);
                Towards::Tls(Box::new(Connector::new(verification, identity)?))
            }
        };
        Ok(Self { pair: RwLock::new(pair), acceptor: Acceptor::new()?, upstream })
    }

    /// From the next connection on, this pair is shown.
    pub fn reload(&self, pair: Pair) {
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }

    pub(crate) fn accept(&self, alpn: Option<&[u8]>) -> Result<Session, Error> {
        self.acceptor.accept(self.pair(), alpn)
    }

    fn pair(&self) -> Arc<CertifiedKey> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).certified()
    }

    /// The session towards an application that speaks TLS.
    pub(crate) fn connect(
        &self,
        sni: Option<&ServerName<'static>>,
        address: IpAddr,
        alpn: &[Vec<u8>],
    ) -> Option<Result<Session, Error>> {
        let Towards::Tls(connector) = &self.upstream else { return None };
        let name = sni.cloned().unwrap_or_else(|| ServerName::IpAddress(address.into()));
        Some(connector.connect(name, sni.is_some(), alpn))
    }

    /// What is agreed to with the client of an application that speaks no TLS.
    pub(crate) fn choose<'a>(&self, offered: &'a [Vec<u8>]) -> Option<&'a [u8]> {
        let Towards::Plain { h2c } = self.upstream else { return None };
        let find = |name: &[u8]| offered.iter().map(Vec::as_slice).find(|offer| *offer == name);
        let (http1, http2) = (find(b"http/1.1"), find(b"h2"));
        if h2c { http2.or(http1) } else { http1.or(http2) }
    }
}
