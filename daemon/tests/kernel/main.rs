//! The modules `kubepods` and `capture` with real control groups, processes and network namespaces.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests panics like the tests themselves")]

mod capture;
#[path = "../place/mod.rs"]
mod place;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nodetap::capture::{Census, Older, Reset};
use nodetap::kubepods::{
    Container, ContainerId, Event, Finder, Found, Limits, PodUid, Proc, Processes, Tree, Verdict, Why,
};
use nodetap::netlink::listeners::listeners;
use nodetap::netns::Netns;

use self::place::{DEADLINE, Group, Namespace, Program, entering, eventually};

/// Taken alone by the test that measures how long something takes.
static MACHINE: RwLock<()> = RwLock::new(());

/// A tree of pods of a test's own, beside whatever else the machine has.
struct Pods {
    root: Group,
}

impl Pods {
    fn new() -> Self {
        let root = Group::new();
        fs::create_dir_all(root.path.join("kubepods/burstable")).unwrap();
        Self { root }
    }

    fn folder(&self, pod: &PodUid) -> PathBuf {
        self.root.path.join(format!("kubepods/burstable/pod{pod}"))
    }

    /// A container's control group.
    fn make(&self, pod: &PodUid, number: u32) -> PathBuf {
        let path = self.folder(pod).join(format!("{number:064x}"));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn watch(&self) -> Tree {
        Tree::watch(&self.root.path, Limits::default()).unwrap()
    }
}

/// A pod that no other test has: each runs on a thread of its own.
fn pod(number: u32) -> PodUid {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    thread_local! {
        static TEST: u16 = COUNT.fetch_add(1, Ordering::Relaxed);
    }
    let test = TEST.with(|test| *test);
    PodUid::parse(&format!("{number:08x}-{test:04x}-4c55-9a10-{:012x}", std::process::id())).unwrap()
}

const SLEEP: &[&str] = &["sleep", "600"];

fn finder() -> Finder {
    Finder::new(Proc::at("/proc")).unwrap()
}

fn find(pods: &Pods, number: u32, addresses: &[&str]) -> Result<Found, Why> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    finder().find(&pod(number), &addresses, &[pods.folder(&pod(number))])
}

const CONTAINERS: u32 = 100;
/// From the making of the control group to the event.
const TOLD: Duration = Duration::from_millis(50);

#[test]
fn a_containers_group_is_told_within_50_ms() {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let mut tree = pods.watch();
    let mut took = Vec::new();
    for number in 0..CONTAINERS {
        let begun = Instant::now();
        let path = pods.make(&pod(number), number);
        assert!(tree.wait(DEADLINE));
        let events = tree.events();
        took.push(begun.elapsed());
        let [Event::Appeared(container)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&container.pod, &container.path), (&pod(number), &path));
        assert_eq!(Some(&container.id), ContainerId::parse(&format!("containerd://{number:064x}")).as_ref());
    }
    took.sort();
    let [median, late] = [took[took.len() / 2], took[took.len() * 95 / 100]];
    println!("told after {median:?}, 95 of 100 within {late:?}, at the latest after {:?}", took.last());
    // Not the very latest: whatever else the machine does is in it.
    bar(late < TOLD, &format!("95 of 100 told within {late:?}"));
    for number in 0..CONTAINERS {
        fs::remove_dir(pods.make(&pod(number), number)).unwrap();
        fs::remove_dir(pods.folder(&pod(number))).unwrap();
    }
    assert_eq!(tree.events().len(), CONTAINERS as usize);
    assert!(tree.folders(&pod(0)).is_empty());
}

#[test]
fn what_is_made_through_another_mount_and_namespace_is_told_too() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let mut tree = pods.watch();
    // A runtime in a container (kind) has a control group namespace and a mount of its own.
    let script = "mount --make-rprivate / && mount -t cgroup2 none /mnt && mkdir -p /mnt/kubepods/burstable/pod$0/$1";
    let mut inside = entering(&pods.root.path);
    inside.args(["unshare", "--cgroup", "--mount", "sh", "-c", script, pod(7).as_str(), &format!("{:064x}", 7)]);
    assert!(inside.status().unwrap().success());
    assert!(tree.wait(DEADLINE));
    let events = tree.events();
    assert!(matches!(events.as_slice(), [Event::Appeared(container)] if container.pod == pod(7)), "{events:?}");
}

#[test]
fn the_tree_that_is_mounted_is_found() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let tree = Tree::mounted(Limits::default()).unwrap();
    assert!(tree.root().join("cgroup.procs").exists());
}

#[test]
fn a_pods_namespace_is_found_by_its_processes_and_proved_by_its_address() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let (own, foreign) = (Namespace::with("10.7.1.1/24"), Namespace::with("10.7.2.1/24"));
    let sandbox = pods.make(&pod(1), 1);
    assert!(matches!(find(&pods, 1, &["10.7.1.1"]), Err(Why::NoProcess)));
    let _pause = Program::start(&sandbox, Some(&own), SLEEP);
    // Somebody in the pod looks around in another's namespace.
    let _visitor = Program::start(&pods.make(&pod(1), 2), Some(&foreign), SLEEP);
    let _hosts = Program::start(&pods.make(&pod(1), 3), None, SLEEP);
    for addresses in [&["10.7.1.1"][..], &["fd77::9", "10.7.1.1"], &["::ffff:10.7.1.1"]] {
        let found = find(&pods, 1, addresses).unwrap();
        assert_eq!(found.netns, Netns::open(own.file()).unwrap());
    }
    let mismatch = find(&pods, 1, &["10.7.3.1"]).unwrap_err();
    assert!(matches!(&mismatch, Why::AddressMismatch { found } if found.len() == 2), "{mismatch:?}");
    assert!(mismatch.to_string().contains("10.7.2.1"), "{mismatch}");
    // Without the groups: by looking at every process.
    let found = finder().find(&pod(1), &["10.7.1.1".parse().unwrap()], &[]).unwrap();
    assert_eq!(found.netns, Netns::open(own.file()).unwrap());
}

#[test]
fn of_two_namespaces_with_the_pods_address_that_of_the_older_process_is_taken() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let (older, younger) = (Namespace::with("10.7.1.1/24"), Namespace::with("10.7.1.1/24"));
    let _older = Program::start(&pods.make(&pod(1), 1), Some(&older), SLEEP);
    std::thread::sleep(Duration::from_millis(50));
    let _younger = Program::start(&pods.make(&pod(1), 2), Some(&younger), SLEEP);
    assert_eq!(find(&pods, 1, &["10.7.1.1"]).unwrap().netns, Netns::open(older.file()).unwrap());
}

#[test]
fn the_nodes_namespace_is_never_taken_for_a_pods() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let _process = Program::start(&pods.make(&pod(1), 1), None, SLEEP);
    let own = Netns::current().unwrap().addresses().unwrap();
    let address = own.first().map_or_else(|| "10.7.1.1".to_owned(), IpAddr::to_string);
    assert!(matches!(find(&pods, 1, &[&address]), Err(Why::HostNetwork)));
}

#[test]
fn a_sandbox_that_is_made_anew_is_noticed() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let addresses = ["10.7.1.1".parse().unwrap()];
    let folders = [pods.folder(&pod(1))];
    let first = Namespace::with("10.7.1.1/24");
    let pause = Program::start(&pods.make(&pod(1), 1), Some(&first), SLEEP);
    let app = Program::start(&pods.make(&pod(1), 2), Some(&first), SLEEP);
    let finder = finder();
    let mut found = finder.find(&pod(1), &addresses, &folders).unwrap();
    assert!(matches!(finder.verify(&mut found, &pod(1), &addresses, &folders), Verdict::Same));
    // The process that led there ends; another holds the namespace.
    drop(pause);
    assert!(matches!(finder.verify(&mut found, &pod(1), &addresses, &folders), Verdict::Same));
    drop(app);
    let verdict = finder.verify(&mut found, &pod(1), &addresses, &folders);
    assert!(matches!(verdict, Verdict::Lost(ref why) if why.is_passing()), "{verdict:?}");
    let second = Namespace::with("10.7.1.1/24");
    let _pause = Program::start(&pods.make(&pod(1), 3), Some(&second), SLEEP);
    let verdict = finder.verify(&mut found, &pod(1), &addresses, &folders);
    let Verdict::Replaced(now) = verdict else { panic!("{verdict:?}") };
    assert_eq!(now.netns, Netns::open(second.file()).unwrap());
    assert_ne!(now.netns, found.netns);
}

#[test]
fn a_process_is_named_with_its_container() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let process = Program::start(&pods.make(&pod(1), 5), None, SLEEP);
    let processes = Processes::new(Proc::at("/proc"));
    let found = processes.look(process.pid()).unwrap();
    let place = found.place.unwrap();
    assert_eq!((found.name.as_str(), place.pod), ("sleep", pod(1)));
    assert_eq!(place.container, ContainerId::parse(&format!("{:064x}", 5)));
    assert_eq!(processes.look(std::process::id()).unwrap().place, None);
}

#[test]
fn a_pod_with_users_of_its_own_is_found_and_entered() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    // Not until it runs: what makes the namespaces may be another program already when somebody looks.
    let pause = Program::spawn(
        &pods.make(&pod(1), 1),
        None,
        &["unshare", "--user", "--map-root-user", "--net", "sleep", "600"],
    );
    let file = format!("/proc/{}/ns/net", pause.pid());
    eventually("it has a network of its own", || (Netns::open(&file).ok()? != Netns::current().unwrap()).then_some(()));
    let inside = format!("--net={file}");
    for arguments in [&["link", "set", "lo", "up"][..], &["addr", "add", "10.7.9.1/32", "dev", "lo"]] {
        assert!(Command::new("nsenter").args([&inside, "--", "ip"]).args(arguments).status().unwrap().success());
    }
    let found = find(&pods, 1, &["10.7.9.1"]).unwrap();
    let listener = found.netns.listener("10.7.9.1:8080".parse().unwrap(), 1).unwrap();
    found.netns.enter(|| TcpStream::connect(listener.local_addr()?)).unwrap();
}

const PODS: u32 = 250;
/// For all of them together, much more than it takes.
const ALL_FOUND: Duration = Duration::from_secs(2);

#[test]
fn the_namespaces_of_250_pods_are_found_in_a_fraction_of_a_second() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let pods = Pods::new();
    let spaces: Vec<Namespace> = (0..PODS).map(|number| Namespace::with(&address(number))).collect();
    let pause = |number: u32, space: &Namespace| Program::spawn(&pods.make(&pod(number), number), Some(space), SLEEP);
    let pauses: Vec<Program> = (0..PODS).zip(&spaces).map(|(number, space)| pause(number, space)).collect();
    pauses.iter().for_each(Program::running);
    let begun = Instant::now();
    let mut tree = pods.watch();
    let appeared = tree.events();
    let watched = begun.elapsed();
    assert_eq!(appeared.len(), PODS as usize);
    let (finder, begun) = (finder(), Instant::now());
    for number in 0..PODS {
        let wanted = [address(number).split('/').next().unwrap().parse().unwrap()];
        finder.find(&pod(number), &wanted, &tree.folders(&pod(number))).unwrap();
    }
    let found = begun.elapsed();
    let begun = Instant::now();
    for number in 0..PODS {
        let wanted = [address(number).split('/').next().unwrap().parse().unwrap()];
        finder.find(&pod(number), &wanted, &[]).unwrap();
    }
    let scanned = begun.elapsed();
    let looked = timed(|| tree.look());
    let spaces: Vec<Netns> = spaces.iter().map(|space| Netns::open(space.file()).unwrap()).collect();
    let listed = timed(|| spaces.iter().for_each(|netns| drop(netns.enter(listeners).unwrap())));
    let counted = timed(|| spaces.iter().for_each(|netns| drop(Census::take(netns).unwrap())));
    println!("{PODS} pods: watched in {watched:?}, found in {found:?}, without groups in {scanned:?}");
    println!("a look at the tree takes {looked:?}, the listeners of all {listed:?}, a census of all {counted:?}");
    bar(watched + found < ALL_FOUND, &format!("all found within {:?}", watched + found));
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn address(number: u32) -> String {
    format!("10.7.{}.{}/32", 10 + number / 250, 1 + number % 250)
}

fn container(tree: &mut Tree) -> Arc<Container> {
    let mut appeared = tree.events().into_iter().filter_map(|event| match event {
        Event::Appeared(container) => Some(container),
        Event::Gone(_) => None,
    });
    appeared.next().unwrap()
}

#[test]
fn a_census_tells_what_a_container_has_and_idle_connections_can_be_ended() {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let (pods, place) = (Pods::new(), Namespace::new());
    let netns = Netns::open(place.file()).unwrap();
    // Two groups down, as crun makes them.
    let beneath = pods.make(&pod(1), 1).join("container");
    fs::create_dir(&beneath).unwrap();
    let _server = Program::start(&beneath, Some(&place), &["/usr/bin/python3", "-c", ECHO]);
    let mut tree = pods.watch();
    let groups = container(&mut tree).cgroups();
    assert_eq!(groups.len(), 2);
    eventually("the server listens", || {
        Census::take(&netns).unwrap().listening(&groups).any(|listener| listener.address.port() == 8080).then_some(())
    });
    let other: TcpListener = netns.listener("127.0.0.1:9000".parse().unwrap(), 1).unwrap();
    let dial = || netns.enter(|| TcpStream::connect("127.0.0.1:8080")).unwrap();
    let mut streams = [dial(), dial()];
    for stream in &mut streams {
        echo(stream).unwrap();
    }
    let census = Census::take(&netns).unwrap();
    assert_eq!(census.listening(&groups).count(), 1, "not that of {other:?}: {census:?}");
    assert!(groups.contains(&census.established.iter().find(|one| one.local.port() == 8080).unwrap().cgroup));
    let mut older = Older::of(&census, &groups, |_| false);
    assert_eq!((older.count(), older.within(&census).filter(|one| census.is_inbound(one)).count()), (2, 2));
    let seen = older.within(&census).next().unwrap().cookie;
    assert_eq!(Older::of(&census, &groups, |one| one.cookie == seen).count(), 1);
    let mut younger = dial();
    // One of them has asked, and waits for the answer.
    let [mut asked, mut ended] = streams;
    // The kernel's clock for this is a coarse one.
    std::thread::sleep(IDLE);
    asked.write_all(HOLD).unwrap();
    let reset = eventually("one is idle, and one owes an answer", || {
        let census = Census::take(&netns).unwrap();
        let all = older.within(&census).collect::<Vec<_>>();
        let ready = all.iter().all(|one| one.idle > IDLE) && all.iter().filter(|one| one.owes).count() == 1;
        ready.then(|| older.reset(&netns, &census, IDLE).unwrap())
    });
    assert_eq!(reset, Reset { ended: 1, busy: 1 });
    assert_eq!(ended.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    asked.write_all(b"x").unwrap();
    asked.read_exact(&mut [0; 2]).unwrap();
    echo(&mut younger).unwrap();
    older.retain(&Census::take(&netns).unwrap());
    assert_eq!(older.count(), 1);
}

const IDLE: Duration = Duration::from_millis(40);
/// What the server answers only together with the next byte.
const HOLD: &[u8] = b"h";

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0; 1])
}

const ECHO: &str = "
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        held = b''
        try:
            while data := self.request.recv(100):
                held += data
                if data != b'h':
                    self.request.sendall(held)
                    held = b''
        except OSError: pass
socketserver.ThreadingTCPServer(('127.0.0.1', 8080), Echo).serve_forever()
";

/// A bar that is a time or a share of a processor: it is told always, and held against the clock only where the machine
/// has nothing else to do and `NODETAP_BARS` says so (`cargo xtask soak` does).
pub(crate) fn bar(met: bool, what: &str) {
    eprintln!("bar {}met: {what}", if met { "" } else { "not " });
    assert!(met || std::env::var_os("NODETAP_BARS").is_none(), "{what}");
}
