//! Requests in absolute form to the forward proxy: the HTTP proxy between a client and its tap, and how it all ends.

use std::cell::RefCell;
use std::sync::Arc;

use nodetap_core::exchange::{Connection, Outcome, Via};
use tokio::net::TcpStream;

use super::super::tapped::{Clock, Tapped, Tick};
use super::answers::{Answers, Ours};
use super::{FAREWELL, Settling, farewell, unreached, wanted};
use crate::dial;
use crate::forward::ask::http_refusal;
use crate::forward::authority::Authority;
use crate::forward::http::{self, Over, Witness};
use crate::forward::reach;
use crate::steering::Forward;
use crate::tap::{End, Side};
use crate::tunnel::Watch;

/// Serves requests in absolute form. Gives the socket back when a CONNECT waits on it.
pub(super) async fn serve(
    settling: &Settling,
    clock: &Clock,
    client: TcpStream,
    forward: &Forward,
) -> Option<TcpStream> {
    let desk = &*settling.desk;
    let steering = &desk.group.steering;
    let connection = Arc::new(forward.connection.clone());
    let tick = Tick::default();
    let answers = RefCell::new(Answers::new(&connection));
    let mut tapped = Tapped::unconnected(desk, clock, &connection, &tick);
    tapped.with_tap(|tap, _, _, _| tap.speaks_http1());
    tapped.amend(|exchange, hushed| answers.borrow_mut().amend(exchange, hushed));
    let scene = RefCell::new(Scene { settling, clock, forward, tapped, answers: &answers });
    let served = {
        let mut serving = std::pin::pin!(http::serve(&client, forward, &**steering, &scene));
        loop {
            tokio::select! {
                biased;
                over = &mut serving => break Some(over),
                () = desk.cut() => break None,
                () = tick.due(clock) => scene.borrow_mut().tapped.with_tap(|tap, now, ids, out| tap.tick(now, ids, out)),
            }
        }
    };
    let mut tapped = scene.into_inner().tapped;
    match served {
        None => {
            tapped.ended(Side::Server, End::Cut);
            tapped.finish();
            dial::reset(client);
        }
        Some(Over::Broken) => {
            tapped.ended(Side::Server, End::Reset);
            tapped.finish();
            dial::reset_after_sending(client, FAREWELL).await;
        }
        Some(Over::Late) => {
            let answer = http_refusal(408, "The head of the request did not come within 10 seconds.");
            tapped.passed(Side::Server, &answer);
            tapped.ended(Side::Server, End::Fin);
            tapped.finish();
            farewell(desk, client, &answer).await;
        }
        Some(Over::Closed) => {
            tapped.ended(Side::Server, End::Fin);
            tapped.finish();
            farewell(desk, client, &[]).await;
        }
        Some(Over::Connect) => {
            tapped.finish();
            return Some(client);
        }
    }
    None
}

/// The tap of a client's HTTP connection, and what else is written down about it.
struct Scene<'a> {
    settling: &'a Settling,
    clock: &'a Clock,
    forward: &'a Forward,
    tapped: Tapped<'a>,
    answers: &'a RefCell<Answers>,
}

impl Watch for Scene<'_> {
    fn passed(&mut self, from: Side, bytes: &[u8]) {
        self.tapped.passed(from, bytes);
    }

    fn ended(&mut self, from: Side, end: End) {
        self.tapped.ended(from, end);
    }
}

impl Witness for Scene<'_> {
    fn begun(&mut self) {
        self.answers.borrow_mut().begun();
    }

    fn answered(&mut self, nowhere: bool, outcome: Outcome, detail: String) {
        if self.tapped.follows() {
            self.answers.borrow_mut().ours(Ours { nowhere, outcome, detail });
        }
    }

    fn relocate(&mut self, connection: &Arc<Connection>) {
        self.settling.goes(connection);
        self.tapped.relocate(connection, true);
    }

    fn unreached(&mut self, asked: &Authority, error: &reach::Error) {
        if !self.tapped.follows() {
            // There will be no exchange that could say it.
            return unreached(self.settling, self.clock, self.forward, Via::ForwardHttp, asked, error);
        }
        let connection = Arc::new(wanted(self.forward, Via::ForwardHttp, asked, error));
        self.settling.goes(&connection);
        self.tapped.relocate(&connection, false);
    }
}
