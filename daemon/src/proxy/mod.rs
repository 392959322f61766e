//! `nodetap proxy`: the same data plane and recording by hand, without kernel programs and without root.

pub mod options;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nodetap_core::exchange::Target;
use nodetap_proxy::engine::{Engine, Group, GroupLimits, Settings};
use nodetap_proxy::forward::names::Names;
use nodetap_proxy::sink::{NoSink, Sink};
use nodetap_proxy::sockets::Here;
use nodetap_proxy::steering::{Explicit, Listener, Serves, circle};
use nodetap_proxy::tls::Policy;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::options::Proxy;
use crate::capture;
use crate::run::recording::{self, Recording};
use crate::run::{Failure, GRACE, files, new_id, random, workers};
use crate::trust::Served;

/// Serves until a signal says to end.
///
/// # Errors
/// When the options do not fit together, an address is taken, or the recording cannot begin.
pub fn proxy(options: &Proxy) -> Result<u8, Failure> {
    options.check().map_err(Failure::Usage)?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(Failure::internal("handle signals"))?;
    let opened = options.tls_out.standing_outbound(SystemTime::now())?;
    let served = options.tls_in.served(&options.tls_out)?;
    let tls_in = served.as_ref().map_or(Policy::Untouched, |served| Policy::Terminate(Arc::clone(&served.inbound)));
    files::raise_limit();
    let (sockets, listeners) = listeners(options)?;
    let target = Target::command("proxy");
    let (recording, sink): (Option<Recording>, Arc<dyn Sink>) = if options.no_record {
        (None, Arc::new(NoSink))
    } else {
        let (recording, sink) = Recording::start(&options.recording, &target, new_id(), None)?;
        (Some(recording), Arc::new(sink))
    };
    announce(&listeners);
    let steering = Explicit {
        listeners,
        target,
        sockets: Arc::new(Here),
        names: Arc::new(Names::beneath("/")),
        patience: Duration::from_secs(options.connect_timeout.into()),
        instance: format!("{:08x}", random() & 0xffff_ffff).into(),
        tls_out: opened.map_or(Policy::Untouched, Policy::Open),
        tls_in,
    };
    let settings =
        Settings { workers: workers(options.recording.workers), limits: recording::limits(&options.recording) };
    let group = Group { steering: Arc::new(steering), sink, limits: GroupLimits::default() };
    let engine = Engine::start(settings, random).map_err(Failure::internal("start the data plane"))?;
    let serving = engine.serve(sockets, group).map_err(Failure::internal("wait for connections"))?;
    let renewing =
        served.map(Served::keep_renewing).transpose().map_err(Failure::internal("watch the certificate's files"))?;
    signals.forever().next();
    drop(renewing);
    // A second signal means now.
    let drained = serving.drain(GRACE, || signals.pending().next().is_some());
    drop(engine);
    if let Some(recording) = recording {
        recording.end(&recording::Aftermath {
            others: 0,
            cut: drained.cut,
            strays: drained.strays,
            counts: None,
            elsewhere: 0,
        });
    }
    Ok(0)
}

/// The sockets, and what each is for.
fn listeners(options: &Proxy) -> Result<(Vec<TcpListener>, Vec<Listener>), Failure> {
    let reverse = options.reverse.iter().map(|reverse| (reverse.listen, Serves::Reverse(reverse.upstream)));
    let forward = options.forward.iter().map(|address| (*address, Serves::Forward));
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for (address, serves) in reverse.chain(forward) {
        let failed = |source| Failure::Listen { address, source };
        let socket = capture::bind(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        sockets.push(socket);
        listeners.push(Listener { address, serves });
    }
    if let Some(address) = circle(&listeners) {
        return Err(Failure::Usage(format!("--reverse {address} leads back to itself: name another upstream")));
    }
    Ok((sockets, listeners))
}

fn announce(listeners: &[Listener]) {
    let mut out = std::io::stderr().lock();
    for Listener { address, serves } in listeners {
        let what = match serves {
            Serves::Reverse(upstream) => format!("passing on to {upstream}"),
            Serves::Forward => "a forward proxy for HTTP, CONNECT and SOCKS".to_owned(),
        };
        let _ = writeln!(out, "nodetap proxy: listening on {address}, {what}");
        if *serves == Serves::Forward && !address.ip().is_loopback() {
            let _ = writeln!(out, "nodetap proxy: {}", open_to_all(*address));
        }
    }
}

fn open_to_all(address: SocketAddr) -> String {
    format!(
        "warning: whoever reaches {address} can go anywhere from this host; a loopback address keeps it to this host"
    )
}
