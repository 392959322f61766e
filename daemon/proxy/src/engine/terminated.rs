//! A connection whose TLS ends here, with the user's own certificate: both handshakes, and a record of what came to
//! nothing. There is nothing to fall back to: without us nobody speaks TLS at this address.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use nodetap_core::exchange::{Outcome, TlsFacts};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::connection::{Pipe, relay};
use super::desk::Desk;
use super::opened::Case;
use super::tapped::{Clock, Tapped, Tick};
use crate::dial::Dialled;
use crate::steering::Destination;
use crate::tap::tls::Offer;
use crate::tls::handshake::{Unagreed, answer, with_client, with_server};
use crate::tls::hello::{Heard, hear};
use crate::tls::leg::Leg;
use crate::tls::{Inbound, Pump};

/// A client may keep silent for so long before its first byte.
const IDLE: Duration = Duration::from_secs(60);
/// TLS ends here, with the user's own certificate.
pub(super) async fn terminate(
    desk: &Desk,
    clock: &Clock,
    client: TcpStream,
    upstream: Dialled<'_>,
    destination: &Destination,
    inbound: &Inbound,
) {
    let case = Case { desk, clock, destination };
    let begun = tokio::select! {
        biased;
        begun = case.begin(&client, &upstream.stream, inbound) => begun,
        _ = client.ready(Interest::ERROR) => Err(Refused::new(Outcome::ClientAborted, "The client reset the connection.")),
        () = desk.cut() => Err(Refused::new(Outcome::ClientAborted, "The connection was ended by nodetap.")),
    };
    match begun {
        Ok((facts, near, far)) => {
            let tick = Tick::default();
            let mut watch = Tapped::new(desk, clock, destination, &tick);
            watch.with_tap(|tap, _, _, _| tap.opened(Arc::new(facts)));
            let mut pipe = Pipe::Opened(Box::new(Pump::new(near, far)));
            relay(desk, clock, client, upstream.stream, &mut pipe, &mut watch, &tick).await;
            watch.finish();
        }
        Err(Refused { facts, outcome, detail }) => {
            drop(client);
            drop(upstream);
            case.record(facts, outcome, detail);
        }
    }
}

/// A connection that came to nothing where TLS ends here.
struct Refused {
    facts: TlsFacts,
    outcome: Outcome,
    detail: Cow<'static, str>,
}

impl Refused {
    fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { facts: TlsFacts::default(), outcome, detail: detail.into() }
    }
}

impl Case<'_> {
    async fn begin(
        self,
        client: &TcpStream,
        server: &TcpStream,
        inbound: &Inbound,
    ) -> Result<(TlsFacts, Leg, Leg), Refused> {
        let hello = match hear(client, None, &self.desk.scratch, Some(IDLE)).await {
            Heard::Whole(hello) => hello,
            heard => return Err(unheard(&heard)),
        };
        let far = self.towards(server, &hello.offer, inbound).await?;
        let chosen = match far.session() {
            Some(session) => session.alpn(),
            None => inbound.choose(&hello.offer.alpn),
        };
        let refused = |error: &rustls::Error| Refused {
            facts: self.facts(&hello.offer),
            ..Refused::new(Outcome::Malformed, format!("The TLS handshake with the client failed: {error}."))
        };
        let session = inbound.accept(chosen).map_err(|error| Refused::new(Outcome::Malformed, error.to_string()))?;
        // An alert that comes of it is sent by the handshake, which then ends.
        let (mut near, _) = answer(&hello, session);
        match with_client(client, &hello, &mut near, &self.desk.scratch).await {
            Ok(()) => Ok((TlsFacts { opened: true, ..self.facts_of(&hello.offer, &near) }, near, far)),
            Err(Unagreed::Failed(error)) => Err(refused(&error)),
            Err(Unagreed::Rejected(alert)) => Err(Refused {
                facts: self.facts(&hello.offer),
                ..Refused::new(
                    Outcome::ClientAborted,
                    format!("The client refused the certificate with alert {} ({alert:?}).", u8::from(alert)),
                )
            }),
            Err(Unagreed::Gone) => Err(Refused {
                facts: self.facts(&hello.offer),
                ..Refused::new(Outcome::ClientAborted, "The client left the TLS handshake.")
            }),
        }
    }

    /// The leg to the application.
    async fn towards(&self, server: &TcpStream, offer: &Offer, inbound: &Inbound) -> Result<Leg, Refused> {
        let name = self.server_name(offer);
        let sni = name.as_ref().filter(|_| offer.sni.is_some());
        let failed = |why: &str| Refused {
            facts: self.facts(offer),
            ..Refused::new(Outcome::ServerAborted, format!("TLS with the application failed: {why}."))
        };
        match inbound.connect(sni, self.address(), &offer.alpn) {
            None => Ok(Leg::new(None)),
            Some(Err(error)) => Err(failed(&error.to_string())),
            Some(Ok(session)) => {
                with_server(server, session, &self.desk.scratch).await.map_err(|reason| failed(reason.word()))
            }
        }
    }
}

fn unheard(heard: &Heard) -> Refused {
    let (outcome, detail) = match heard {
        Heard::Late => (Outcome::Timeout, "The client's TLS hello did not come whole in time."),
        Heard::Nothing => (Outcome::ClientAborted, "The client closed without a byte."),
        Heard::Truncated => (Outcome::ClientAborted, "The client's TLS hello ended in the middle."),
        Heard::Unreadable => (Outcome::Malformed, "The client's TLS hello cannot be read."),
        Heard::Other | Heard::Whole(_) => {
            (Outcome::Malformed, "The client does not speak TLS, which is expected here.")
        }
    };
    Refused::new(outcome, detail)
}
