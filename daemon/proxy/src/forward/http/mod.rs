//! The one true proxy: requests in absolute form (RFC 9112 §3.2.2) are forwarded to the server that each names, by
//! hyper on both sides and by [`rules`] in between. An upstream connection serves one client only, and only while its
//! requests go to the same place; nothing is retried. Deviations, because hyper's server cannot send them: interim responses
//! that the client did not ask for (103) are not passed on, and a 304 loses its Content-Length (RFC 9110 §8.6 lets it).

mod body;
mod rules;
mod state;
mod wire;

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nodetap_core::exchange::{Connection, Outcome, Via};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use self::body::{Answered, Asked};
use self::rules::{Admitted, Answer};
use self::state::{Gate, Running, State};
use self::wire::Wire;
use super::authority::Authority;
use super::reach::{self, Reached, sentence};
use crate::dial::{Announced, Dialled};
use crate::steering::{Forward, Steering};
use crate::tap::{End, Side};
use crate::tunnel::Watch;

/// The longest head, in bytes; beyond it a client is answered 431.
const HEAD: usize = 64 * 1024;
/// The most field lines of a head.
const FIELDS: usize = 256;
/// A server that says neither `100 Continue` nor anything else gets the body after this time (RFC 9110 §10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);

/// Is shown what passes on the client's side, and told where it goes.
pub trait Witness: Watch {
    /// A request's head was read; those whose head cannot be read are answered by hyper alone.
    fn begun(&mut self);
    /// The proxy itself answers the request that was read last, because of this; before it was to go to any server
    /// (`nowhere`), or for that server.
    fn answered(&mut self, nowhere: bool, outcome: Outcome, detail: String);
    /// The request that was read last goes to this server, over a connection that stands from now on.
    fn relocate(&mut self, connection: &Arc<Connection>);
    /// There is no connection to where that request was to go.
    fn unreached(&mut self, asked: &Authority, error: &reach::Error);
}

/// How a client's HTTP connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// There is nothing more to say to each other; what was written is whole.
    Closed,
    /// The client broke off, or what was written is not whole: to be reset.
    Broken,
    /// The client did not send a head in time, and was told nothing yet.
    Late,
    /// A CONNECT lies on the socket, untouched.
    Connect,
}

/// Serves a client's requests until its connection is over. The socket is only lent: what is to become of it is for the
/// caller to do.
pub async fn serve<W: Witness>(
    client: &TcpStream,
    forward: &Forward,
    steering: &dyn Steering,
    witness: &RefCell<W>,
) -> Over {
    let state = Rc::new(State::default());
    // What came first was no CONNECT.
    let wire = Wire::new(client, witness, Rc::clone(&state));
    let proxy = Proxy { forward, steering, witness, state: Rc::clone(&state), kept: RefCell::new(None) };
    let service = service_fn(|request| proxy.answer(request));
    let connection = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .half_close(true)
        .max_buf_size(HEAD)
        .max_header_size(HEAD)
        .max_headers(FIELDS)
        .preserve_header_case(true)
        .serve_connection(wire, service)
        .without_shutdown();
    let served = tokio::select! {
        biased;
        served = connection => served,
        // While a server is waited for nothing is read, so that a reset has to be watched for.
        _ = client.ready(Interest::ERROR) => return broken(witness),
    };
    let upgrade = state.upgrade.borrow_mut().take();
    match (served, upgrade) {
        _ if state.connect.get() => Over::Connect,
        _ if state.stale.get() => Over::Closed,
        _ if state.late.get() => Over::Late,
        (Ok(parts), Some(upgrade)) => {
            let _goes_on = state.begin(false);
            switched(parts.io, &parts.read_buf, upgrade).await
        }
        _ if state.cut.get() => Over::Broken,
        // What hyper finds wrong with a request it has answered.
        (Ok(_), None) => Over::Closed,
        (Err(error), _) if error.is_parse() || state.asked_badly.get() => Over::Closed,
        // The client closed within a head: nothing was answered, so that nothing can look whole that is not.
        (Err(error), _) if error.is_incomplete_message() && !state.running.get() => Over::Closed,
        (Err(error), _) => {
            tracing::debug!(%error, "an HTTP client's connection failed");
            Over::Broken
        }
    }
}

fn broken<W: Witness>(witness: &RefCell<W>) -> Over {
    witness.borrow_mut().ended(Side::Client, End::Reset);
    Over::Broken
}

/// The connection speaks something else from here on: bytes go through as they come.
async fn switched<W: Witness>(wire: Wire<'_, W>, early: &[u8], upgrade: hyper::upgrade::OnUpgrade) -> Over {
    let Ok(upstream) = upgrade.await else { return Over::Broken };
    let (mut client, mut upstream) = (TokioIo::new(wire), TokioIo::new(upstream));
    let copied = async {
        upstream.write_all(early).await?;
        tokio::io::copy_bidirectional(&mut client, &mut upstream).await
    };
    if copied.await.is_ok() { Over::Closed } else { Over::Broken }
}

struct Proxy<'a, W> {
    forward: &'a Forward,
    steering: &'a dyn Steering,
    witness: &'a RefCell<W>,
    state: Rc<State>,
    kept: RefCell<Option<Upstream<'a>>>,
}

impl<'a, W: Witness> Proxy<'a, W> {
    /// One exchange. It has an answer, unless the client is to try again.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Answered>, Stale> {
        let running = self.state.begin(request.body().is_end_stream());
        self.witness.borrow_mut().begun();
        let (mut parts, body) = request.into_parts();
        let admitted = match rules::request(&mut parts, self.state.bare.take(), &self.forward.instance) {
            Ok(admitted) => admitted,
            Err(answer) => {
                let mut response = self.ourselves(*answer, true, running);
                // What follows a CONNECT was meant for its tunnel: it must not be read as requests to this proxy.
                if parts.method == Method::CONNECT {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                return Ok(response);
            }
        };
        let gate = Gate::new(!admitted.expects);
        let body = Asked::new(body, gate.clone(), Rc::clone(&self.state));
        let answered = self.forwarded(&admitted, Request::from_parts(parts, body), &gate).await;
        let response = match answered {
            Ok(response) => response,
            Err(_) if self.state.stale.get() => return Err(Stale),
            Err(answer) => return Ok(self.ourselves(answer, false, running)),
        };
        let (mut parts, body) = response.into_parts();
        rules::response(&mut parts, &self.forward.instance);
        Ok(Response::from_parts(parts, Answered::of_server(body, running)))
    }

    /// What the server answers, or why it does not.
    async fn forwarded(
        &self,
        admitted: &Admitted,
        mut request: Request<Asked>,
        gate: &Gate,
    ) -> Result<Response<Incoming>, Answer> {
        let wanted = gate.clone();
        hyper::ext::on_informational(&mut request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                wanted.open();
            }
        });
        let mut upstream = self.upstream(&admitted.to).await?;
        upstream.asked = request.body().whole();
        let mut response = match self.sent(&mut upstream, request, gate).await {
            Ok(response) => response,
            Err(error) if self.state.asked_badly.get() => {
                tracing::debug!(%error, "a request's body");
                return Err(Answer::bad("The body of the request is malformed or was cut."));
            }
            Err(error) => {
                self.state.stale.set(upstream.used && !error.is_parse());
                return Err(invalid(&admitted.to, &error));
            }
        };
        match (response.status() == StatusCode::SWITCHING_PROTOCOLS, admitted.upgrade) {
            (true, true) => {
                self.state.upgrade.replace(Some(hyper::upgrade::on(&mut response)));
                // It lives as long as what it has become.
                self.kept.replace(Some(upstream));
                Ok(response)
            }
            (true, false) => {
                let text = format!("{} switched protocols without being asked.", admitted.to);
                Err(Answer::new(Outcome::Malformed, StatusCode::BAD_GATEWAY, text))
            }
            (false, _) => {
                self.kept.replace(Some(upstream));
                Ok(response)
            }
        }
    }

    /// Sends the request once; its body when the server wants it, or says nothing for a while.
    async fn sent(
        &self,
        upstream: &mut Upstream<'_>,
        request: Request<Asked>,
        gate: &Gate,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut answer = std::pin::pin!(upstream.sender.send_request(request));
        let mut patience = std::pin::pin!(tokio::time::sleep(CONTINUE));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = &mut patience, if !gate.is_open() => gate.open(),
            }
        }
    }

    /// The connection of the request before if it leads to the same place and is free; else a new one.
    async fn upstream(&self, to: &Authority) -> Result<Upstream<'a>, Answer> {
        let kept = self.kept.borrow_mut().take();
        if let Some(mut kept) = kept.filter(|kept| kept.to == *to && kept.is_free())
            && kept.sender.ready().await.is_ok()
        {
            kept.used = true;
            return Ok(kept);
        }
        let mark = self.state.flushes();
        let reached = reach::reach(self.forward, Via::ForwardHttp, to, self.steering, std::future::pending()).await;
        // The response before this one may still have been on its way to the client.
        self.state.flushed_since(mark).await;
        let Reached { upstream, destination } = reached.map_err(|error| {
            self.witness.borrow_mut().unreached(to, &error);
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
            Answer::new(error.outcome(), status, error.sentence())
        })?;
        self.witness.borrow_mut().relocate(&destination.connection);
        let Dialled { stream, announced } = upstream;
        let handshake = hyper::client::conn::http1::Builder::new()
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .max_header_size(HEAD)
            .max_headers(FIELDS)
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| invalid(to, &error))?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a server's connection failed");
            }
        });
        Ok(Upstream { to: to.clone(), sender, asked: Rc::default(), used: false, task, _announced: announced })
    }

    fn ourselves(&self, answer: Answer, nowhere: bool, running: Running) -> Response<Answered> {
        let Answer { status, text, kind, outcome } = answer;
        self.witness.borrow_mut().answered(nowhere, outcome, text.clone().into_owned());
        let text = if text.is_empty() { String::new() } else { format!("{}\n", text.trim_end_matches('\n')) };
        let is_empty = text.is_empty();
        let mut response = Response::new(Answered::ourselves(text, running));
        *response.status_mut() = status;
        if !is_empty {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        response
    }
}

/// A server's connection, of one client.
struct Upstream<'a> {
    to: Authority,
    sender: SendRequest<Asked>,
    /// The last request was sent to its end.
    asked: Rc<Cell<bool>>,
    /// A request before this one was answered on it.
    used: bool,
    task: JoinHandle<()>,
    _announced: Option<Announced<'a>>,
}

/// The server closed a connection that had served before, instead of answering, as servers do whose patience ends just
/// then. Clients know this of their own connections, and try again what may be tried again (RFC 9112 §9.3.1): theirs is
/// closed without an answer, too.
#[derive(Debug, thiserror::Error)]
#[error("the server closed a connection that had served before")]
struct Stale;

impl Upstream<'_> {
    /// Fit for another request: a server that answered before it had read the whole body is not.
    fn is_free(&self) -> bool {
        self.asked.get() && !self.sender.is_closed()
    }
}

impl Drop for Upstream<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The server's side of the conversation came to nothing.
fn invalid(to: &Authority, error: &hyper::Error) -> Answer {
    let outcome = match error {
        // A limit of ours makes nothing wrong.
        error if error.is_parse_too_large() => Outcome::Refused,
        error if error.is_parse() => Outcome::Malformed,
        _ => Outcome::ServerAborted,
    };
    let text = format!("{to} gave no valid answer: {}", reason(error));
    Answer::new(outcome, StatusCode::BAD_GATEWAY, sentence(&text))
}

/// What hyper says, with what lies below it.
fn reason(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
