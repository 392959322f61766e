//! A connection whose TLS is to be opened: decides, with the handshakes, whether it can be, and otherwise
//! has it passed through on a fresh upstream connection, to which the client's own ClientHello goes (it was never taken
//! off the socket). No connection that would work without us fails with us, but the first two of a client that refuses
//! our certificate.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nodetap_core::exchange::{Outcome, TlsFacts};
use rustls::pki_types::{DnsName, ServerName, UnixTime};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{Pipe, pass, relay, unreached};
use super::desk::Desk;
use super::tapped::{Clock, Tapped, Tick};
use crate::dial::{self, Dialled};
use crate::steering::Destination;
use crate::tap::tls::Offer;
use crate::tls::handshake::{Unagreed, answer, refusal, with_client, with_server};
use crate::tls::hello::{Heard, Hello, hear};
use crate::tls::leg::Leg;
use crate::tls::{Outbound, Pump, Reason};

/// A client that leaves in silence later than this after the handshake did not do so because of our certificate.
const HASTE: Duration = Duration::from_secs(10);

/// What all steps need to know of a connection.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) desk: &'a Desk,
    pub(super) clock: &'a Clock,
    pub(super) destination: &'a Destination,
}

/// Opens the target's TLS where that breaks nothing.
pub(super) async fn open(
    desk: &Desk,
    clock: &Clock,
    client: TcpStream,
    upstream: Dialled<'_>,
    destination: &Destination,
    outbound: &Outbound,
) {
    let case = Case { desk, clock, destination };
    let heard = tokio::select! {
        biased;
        heard = hear(&client, Some(&upstream.stream), &desk.scratch, None) => heard,
        // The tunnel sees to it.
        () = desk.cut() => Heard::Other,
    };
    let hello = match heard {
        Heard::Whole(hello) => hello,
        Heard::Other | Heard::Nothing => return case.pass(client, upstream, None).await,
        Heard::Unreadable | Heard::Truncated | Heard::Late => {
            return case.pass(client, upstream, Some(Reason::HelloUnreadable)).await;
        }
    };
    let agreed = tokio::select! {
        biased;
        agreed = case.agree(&client, &upstream.stream, &hello, outbound) => agreed,
        _ = client.ready(Interest::ERROR) => Err(Obstacle::Gone),
        () = desk.cut() => Err(Obstacle::Gone),
    };
    match agreed {
        Ok((near, far)) => case.serve(client, upstream, &hello, near, far, outbound).await,
        Err(Obstacle::Before(reason)) => case.pass(client, upstream, Some(reason)).await,
        Err(Obstacle::After(reason)) => case.again(client, upstream, reason).await,
        Err(Obstacle::Gone) => {
            dial::reset(client);
            drop(upstream);
            let detail = "The client gave up before the TLS handshakes were over.";
            case.record(case.facts(&hello.offer), Outcome::ClientAborted, detail.into());
        }
    }
}

/// Why a connection is not opened.
enum Obstacle {
    /// Known before anything was sent to the server.
    Before(Reason),
    /// Found out in the handshake with the server: it needs a fresh connection.
    After(Reason),
    /// Nobody waits for it any more.
    Gone,
}

impl Case<'_> {
    /// The handshake with the server, and our answer to the client's hello, which is not sent yet.
    async fn agree(
        self,
        client: &TcpStream,
        server: &TcpStream,
        hello: &Hello,
        outbound: &Outbound,
    ) -> Result<(Leg, Leg), Obstacle> {
        let Offer { sni, alpn } = &hello.offer;
        if outbound.leaves(&self.host(&hello.offer)) {
            return Err(Obstacle::Before(Reason::Asked));
        }
        let (target, host) = self.whom(&hello.offer);
        if let Some(reason) = outbound.verdicts.passes(&target, &host, self.clock.now()) {
            return Err(Obstacle::Before(reason));
        }
        let name = self.server_name(&hello.offer).ok_or(Obstacle::Before(Reason::NoCertificate))?;
        let leaf = outbound.authority.leaf(&name, self.now()).map_err(|error| {
            tracing::debug!(%error, host, "no certificate");
            Obstacle::Before(Reason::NoCertificate)
        })?;
        let session = outbound.connect(name, sni.is_some(), alpn).map_err(|error| {
            tracing::debug!(%error, host, "no session");
            Obstacle::Before(Reason::UpstreamUnsupported)
        })?;
        let failed = |reason| {
            outbound.verdicts.failed(&target, &host, reason, self.clock.now());
            Obstacle::After(reason)
        };
        let far = with_server(server, session, &self.desk.scratch).await.map_err(failed)?;
        if has_ended(client).await {
            return Err(Obstacle::Gone);
        }
        let chosen = far.session().and_then(|session| session.alpn());
        let session = outbound.acceptor.accept(leaf, chosen).map_err(|_| failed(Reason::NoCertificate))?;
        let (near, error) = answer(hello, session);
        if let Some(error) = error {
            tracing::debug!(%error, host, "a ClientHello that cannot be answered");
            return Err(failed(Reason::ClientUnsupported));
        }
        Ok((near, far))
    }

    /// From our answer to the client on.
    async fn serve(
        self,
        client: TcpStream,
        upstream: Dialled<'_>,
        hello: &Hello,
        mut near: Leg,
        mut far: Leg,
        outbound: &Outbound,
    ) {
        let (target, host) = self.whom(&hello.offer);
        let shaken = tokio::select! {
            biased;
            shaken = with_client(&client, hello, &mut near, &self.desk.scratch) => shaken,
            () = self.desk.cut() => Err(Unagreed::Gone),
        };
        let mut facts = self.facts_of(&hello.offer, &near);
        if let Err(failure) = shaken {
            drop(client);
            far.farewell(&upstream.stream);
            drop(upstream);
            if self.desk.is_cutting() {
                return self.record(facts, Outcome::ClientAborted, "The connection was ended by nodetap.".into());
            }
            let (reason, detail) = self.judge(&failure, &target, &host, outbound);
            facts.passthrough = Some(reason.word().into());
            return self.record(facts, Outcome::ClientAborted, detail);
        }
        facts.opened = true;
        let since = Instant::now();
        let tick = Tick::default();
        let mut watch = Tapped::new(self.desk, self.clock, self.destination, &tick);
        watch.with_tap(|tap, _, _, _| tap.opened(Arc::new(facts.clone())));
        watch.at_first_word(|| outbound.verdicts.succeeded(&target, &host));
        let mut pump = Box::new(Pump::new(near, far));
        let silent_after = {
            let mut pipe = Pipe::Opened(pump);
            relay(self.desk, self.clock, client, upstream.stream, &mut pipe, &mut watch, &tick).await;
            let Pipe::Opened(back) = pipe else { return };
            pump = back;
            watch.left_in_silence().then(|| since.elapsed())
        };
        drop(upstream.announced);
        let failure = match pump.client.error().and_then(refusal) {
            Some(alert) if silent_after.is_some() => Some(Unagreed::Rejected(alert)),
            _ => silent_after.filter(|after| *after < HASTE).map(|_| Unagreed::Gone),
        };
        match failure {
            Some(failure) if !self.desk.is_cutting() => {
                let (reason, detail) = self.judge(&failure, &target, &host, outbound);
                facts.passthrough = Some(reason.word().into());
                watch.with_tap(|tap, now, ids, out| {
                    tap.no_handshake(facts, Outcome::ClientAborted, detail, now, ids, out);
                });
            }
            _ => watch.finish(),
        }
    }

    /// What a client's failure means for the next connection.
    fn judge(self, failure: &Unagreed, target: &str, host: &str, outbound: &Outbound) -> (Reason, Cow<'static, str>) {
        let now = self.clock.now();
        match failure {
            Unagreed::Rejected(alert) => {
                outbound.verdicts.failed(target, host, Reason::ClientRejected, now);
                let code = u8::from(*alert);
                let detail = format!(
                    "The client refused nodetap's certificate with alert {code} ({alert:?}); for the next 10 minutes this \
                     host's TLS is passed through."
                );
                (Reason::ClientRejected, detail.into())
            }
            Unagreed::Gone => {
                outbound.verdicts.silent(target, host, now);
                let detail = "The client ended the connection without a byte after it had seen nodetap's certificate; the \
                              second time in a row this host's TLS is passed through for 10 minutes.";
                (Reason::ClientSilent, detail.into())
            }
            Unagreed::Failed(error) => {
                outbound.verdicts.silent(target, host, now);
                let detail = format!(
                    "The TLS handshake with the client failed ({error}); the second time in a row this host's TLS is \
                     passed through for 10 minutes."
                );
                (Reason::ClientSilent, detail.into())
            }
        }
    }

    async fn pass(self, client: TcpStream, upstream: Dialled<'_>, reason: Option<Reason>) {
        pass(self.desk, self.clock, client, upstream, self.destination, reason).await;
    }

    /// Passes it through on a fresh upstream connection.
    async fn again(self, client: TcpStream, spent: Dialled<'_>, reason: Reason) {
        drop(spent);
        let steering = &self.desk.group.steering;
        let dialled = tokio::select! {
            biased;
            dialled = dial::dial(self.destination, &**steering, &client) => dialled,
            () = self.desk.cut() => Err(dial::Error::ClientGone),
        };
        match dialled {
            Ok(upstream) => self.pass(client, upstream, Some(reason)).await,
            Err(error) => unreached(self.desk, self.clock, client, self.destination, &error),
        }
    }

    /// Whose TLS it is, and with whom: what verdicts are remembered by. With the port, because behind another one of
    /// the same host stands another server, with a certificate of its own.
    fn whom(&self, offer: &Offer) -> (String, String) {
        let Destination { connection, .. } = self.destination;
        (connection.target.to_string(), format!("{}:{}", self.host(offer), connection.server.port()))
    }

    /// The name that is asked for, or the address where none is.
    fn host(&self, offer: &Offer) -> String {
        offer.sni.as_ref().map_or_else(|| self.address().to_string(), |sni| String::from_utf8_lossy(sni).into_owned())
    }

    /// As whom the server has to identify itself, and we in its place; `None`: what was asked for is no host's name.
    pub(super) fn server_name(&self, offer: &Offer) -> Option<ServerName<'static>> {
        match &offer.sni {
            Some(sni) => DnsName::try_from(&sni[..]).ok().map(|name| ServerName::DnsName(name.to_owned())),
            None => Some(ServerName::IpAddress(self.address().into())),
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.destination.connection.server.ip().to_canonical()
    }

    fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_micros(self.clock.now()))
    }

    pub(super) fn facts(&self, offer: &Offer) -> TlsFacts {
        let mut facts = TlsFacts::default();
        offer.tell(&mut facts);
        facts
    }

    pub(super) fn facts_of(&self, offer: &Offer, near: &Leg) -> TlsFacts {
        let session = near.session();
        let alpn = session.and_then(|session| session.alpn());
        TlsFacts {
            version: session.and_then(|session| session.version()).map(str::to_owned),
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
            ..self.facts(offer)
        }
    }

    /// Of a connection whose handshake came to nothing.
    pub(super) fn record(&self, facts: TlsFacts, outcome: Outcome, detail: Cow<'static, str>) {
        Tapped::new(self.desk, self.clock, self.destination, &Tick::default())
            .with_tap(|tap, now, ids, out| tap.no_handshake(facts, outcome, detail, now, ids, out));
    }
}

/// Has the client said FIN already? Then a handshake that fails says nothing about our certificate.
async fn has_ended(client: &TcpStream) -> bool {
    tokio::select! {
        biased;
        ready = client.ready(Interest::READABLE) => ready.is_ok_and(|ready| ready.is_read_closed()),
        () = std::future::ready(()) => false,
    }
}
