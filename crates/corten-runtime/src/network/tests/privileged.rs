//! The network on the real kernel. Each test plays the host in a network namespace of its own,
//! with a second one as the outside world and more as containers; nothing outside of them is
//! touched or spoken to.
//!
//! ```text
//! outside                    host                          container
//! 198.51.100.2 eth0 ──────── uplink0 198.51.100.1
//!                            corten0 ──────── veth… ──── eth0
//! ```

mod rootless;
mod user;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use corten_sys::file;
use corten_sys::netlink::nft::{
    Base, Batch, ChainKind, Expression, Family, Hook, NftSocket, Test, Verdict,
};
use corten_sys::netlink::route::{RouteSocket, Veth};
use corten_sys::netlink::{enter_namespace, in_namespace};
use corten_testkit::{Need, TempDir, require};

use super::super::{
    Attachment, BRIDGE, Network, NetworkError, NetworkRequest, Severity, attach, ports,
};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Unlike Ethernet's, to see that it is passed on.
const UPLINK_MTU: u32 = 1400;

/// No test waits longer than this for something that ought to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long something that must not happen is waited for.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Moves the calling thread, and the threads and processes that it starts, to a new network.
#[expect(deprecated, reason = "the namespace is the test's own; no library state depends on it")]
fn leave_network() {
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
}

fn own_namespace() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

fn new_namespace() -> OwnedFd {
    thread::spawn(|| {
        leave_network();
        own_namespace()
    })
    .join()
    .unwrap()
}

/// The host of a test: the network namespace of the test's thread.
struct World {
    outside: OwnedFd,
    state: TempDir,
}

impl World {
    fn new() -> Self {
        leave_network();
        let outside = new_namespace();
        let mut socket = RouteSocket::open().unwrap();
        let loopback = socket.link("lo").unwrap().unwrap().index;
        socket.set_up(loopback).unwrap();
        let veth = Veth {
            name: "uplink0",
            peer_name: "eth0",
            peer_address: [2, 0, 198, 51, 100, 2],
            peer_namespace: outside.as_fd(),
            master: None,
            mtu: UPLINK_MTU,
        };
        socket.add_veth(&veth).unwrap();
        in_namespace(outside.as_fd(), || {
            let mut socket = RouteSocket::open().unwrap();
            let link = socket.link("eth0").unwrap().unwrap().index;
            socket.add_address(link, OUTSIDE, 24).unwrap();
            socket.set_up(link).unwrap();
        })
        .unwrap();
        let uplink = socket.link("uplink0").unwrap().unwrap().index;
        socket.add_address(uplink, HOST, 24).unwrap();
        socket.add_default_route(uplink, OUTSIDE).unwrap();
        Self { outside, state: TempDir::new() }
    }

    fn attach(&self, container: &Container, ports: &[&str]) -> Result<Attachment, NetworkError> {
        self.attach_as(Network::Default, container, ports)
    }

    fn attach_as(
        &self,
        network: Network,
        container: &Container,
        specs: &[&str],
    ) -> Result<Attachment, NetworkError> {
        attach(&NetworkRequest {
            container_id: container.id,
            name: container.id,
            pid: 0,
            netns: container.netns.as_fd(),
            network,
            endpoints: &[],
            reserved: &[],
            nameservers: &[],
            ports: &ports::parse_all(specs).unwrap(),
            rootless: false,
            state_dir: self.state.path(),
            search_path: OsStr::new(""),
        })
    }
}

struct Container {
    id: &'static str,
    netns: OwnedFd,
}

impl Container {
    fn new(id: &'static str) -> Self {
        Self { id, netns: new_namespace() }
    }

    /// Runs something inside and waits for it.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_namespace(self.netns.as_fd(), work).unwrap()
    }
}

/// Starts something in a namespace.
fn start<T: Send + 'static>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = namespace.try_clone().unwrap();
    thread::spawn(move || {
        enter_namespace(namespace.as_fd()).unwrap();
        work()
    })
}

/// Starts a service in a namespace that tells each of its clients who they seem to be, and echoes
/// one line.
fn echo(namespace: &OwnedFd, address: Ipv4Addr, port: u16, clients: usize) -> JoinHandle<()> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let service = start(namespace, move || {
        let listener = TcpListener::bind((address, port)).unwrap();
        ready.send(()).unwrap();
        for _ in 0..clients {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            writeln!(stream, "{}", peer.ip()).unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    service
}

/// Connects to [`echo`] and returns the address that the service sees.
fn seen_by_echo(address: impl Into<SocketAddr>) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&address.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (seen, hello) = text.split_once('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    assert_eq!(hello, "hello\n");
    Ok(seen.parse().unwrap())
}

fn ipv4(attachment: &Attachment) -> Ipv4Addr {
    match attachment.address().unwrap() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

fn detach(attachment: Attachment) {
    let errors = attachment.detach();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Waits for the kernel to take something down.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

fn bridge_ports() -> usize {
    let links = RouteSocket::open().unwrap().links().unwrap();
    let bridge = links.iter().find(|link| link.name == BRIDGE).unwrap().index;
    links.iter().filter(|link| link.master == Some(bridge)).count()
}

#[test]
fn a_container_reaches_the_outside_under_the_hosts_address() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("a");
    let service = echo(&world.outside, OUTSIDE, 7, 1);
    let attachment = world.attach(&container, &[]).unwrap();
    let seen = container.run(|| seen_by_echo((OUTSIDE, 7))).unwrap();
    assert_eq!(seen, IpAddr::V4(HOST));
    service.join().unwrap();
    detach(attachment);
}

#[test]
fn the_container_has_a_loopback_an_interface_of_the_uplinks_mtu_and_a_way_out() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("a");
    let attachment = world.attach(&container, &[]).unwrap();
    let address = attachment.address().unwrap();
    let gateway = attachment.gateway();
    container.run(|| {
        let mut socket = RouteSocket::open().unwrap();
        let loopback = socket.link("lo").unwrap().unwrap();
        let interface = socket.link("eth0").unwrap().unwrap();
        assert!(loopback.up && interface.up);
        assert_eq!(interface.mtu, UPLINK_MTU);
        let addresses = socket.addresses().unwrap();
        let own: Vec<_> = addresses.iter().filter(|one| one.link == interface.index).collect();
        assert_eq!(own.len(), 1, "no IPv6 that leads nowhere: {own:?}");
        assert_eq!(own[0].address, address);
        let routes = socket.routes().unwrap();
        let default = routes.iter().find(|route| route.prefix_bits == 0).unwrap();
        assert_eq!(default.gateway, gateway);
    });
    detach(attachment);
}

#[test]
fn forwarding_is_turned_on_once_and_told_of() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let forwarding = Path::new("/proc/sys/net/ipv4/ip_forward");
    // A new namespace takes over what the host has.
    file::write(forwarding, b"0\n").unwrap();
    let container = Container::new("a");
    let first = world.attach(&container, &[]).unwrap();
    assert_eq!(file::read(forwarding).unwrap(), b"1\n");
    assert!(first.notices()[0].text.contains("ip_forward"));
    let other = Container::new("b");
    let second = world.attach(&other, &[]).unwrap();
    assert_eq!(second.notices(), []);
    detach(first);
    detach(second);
}

#[test]
fn a_published_port_is_reachable_by_loopback_by_address_and_from_outside() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("web");
    let attachment = world.attach(&container, &["8080:80"]).unwrap();
    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 3);
    let by_loopback = seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).unwrap();
    assert_eq!(Some(by_loopback), attachment.gateway(), "never 127.0.0.1");
    seen_by_echo((HOST, 8080)).unwrap();
    in_namespace(world.outside.as_fd(), || seen_by_echo((HOST, 8080))).unwrap().unwrap();
    service.join().unwrap();
    detach(attachment);
    let refused = seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_published_on_loopback_is_not_reachable_from_outside() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("web");
    let attachment = world.attach(&container, &["127.0.0.1:8080:80"]).unwrap();
    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    let refused = in_namespace(world.outside.as_fd(), || seen_by_echo((HOST, 8080))).unwrap();
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).unwrap();
    service.join().unwrap();
    detach(attachment);
}

#[test]
fn a_published_udp_port_answers() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("dns");
    let attachment = world.attach(&container, &["127.0.0.1::53/udp"]).unwrap();
    let host = attachment.published()[0].host;
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let service = start(&container.netns, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], client).unwrap();
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"who", host).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (3, host));
    service.join().unwrap();
    detach(attachment);
}

#[test]
fn a_container_reaches_its_own_published_port_by_the_hosts_address() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("web");
    let attachment = world.attach(&container, &["8080:80"]).unwrap();
    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    container.run(|| seen_by_echo((HOST, 8080))).unwrap();
    service.join().unwrap();
    detach(attachment);
}

#[test]
fn two_containers_have_addresses_of_their_own_and_reach_each_other() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, other) = (Container::new("one"), Container::new("other"));
    let first = world.attach(&one, &[]).unwrap();
    let second = world.attach(&other, &[]).unwrap();
    assert_ne!(first.address(), second.address());
    let service = echo(&other.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    let target = ipv4(&second);
    let seen = one.run(|| seen_by_echo((target, 80))).unwrap();
    assert_eq!(Some(seen), first.address());
    service.join().unwrap();
    detach(first);
    detach(second);
}

#[test]
fn many_containers_at_once_have_addresses_of_their_own() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let mut addresses: Vec<Ipv4Addr> = thread::scope(|scope| {
        let starting: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let container = Container::new("many");
                    ipv4(&world.attach(&container, &[]).unwrap())
                })
            })
            .collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    });
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 16);
}

#[test]
fn nothing_is_left_of_an_ended_container_but_the_bridge() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("a");
    let attachment = world.attach(&container, &["8080:80"]).unwrap();
    assert_eq!(bridge_ports(), 1);
    detach(attachment);
    drop(container);
    eventually("the end of the interface", || bridge_ports() == 0);
    assert_eq!(file::list_dir(&world.state.path().join("leases")).unwrap().len(), 0);
}

#[test]
fn the_next_run_finds_bridge_and_subnet_again() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("a");
    let first = world.attach(&container, &[]).unwrap();
    let gateway = first.gateway();
    detach(first);
    let other = Container::new("b");
    let second = world.attach(&other, &[]).unwrap();
    assert_eq!(second.gateway(), gateway);
    detach(second);
}

const LEASE_DIRECTORY: &str = "CORTEN_TEST_LEASE_DIRECTORY";

/// Not a test: the process that the test below kills.
#[test]
#[ignore = "is started by `a_killed_corten_leaves_a_lease_that_the_next_run_reclaims`"]
#[expect(clippy::disallowed_methods, reason = "the test's own process talks to itself this way")]
fn process_to_be_killed() {
    let Some(state_dir) = std::env::var_os(LEASE_DIRECTORY) else { return };
    let container = Container::new("killed");
    let attachment = attach(&NetworkRequest {
        container_id: container.id,
        name: "a",
        pid: i32::try_from(std::process::id()).unwrap(),
        netns: container.netns.as_fd(),
        network: Network::Default,
        endpoints: &[],
        reserved: &[],
        nameservers: &[],
        ports: &ports::parse_all(&["8080:80"]).unwrap(),
        rootless: false,
        state_dir: Path::new(&state_dir),
        search_path: OsStr::new(""),
    })
    .unwrap();
    writeln!(io::stdout(), "\nleased {}", ipv4(&attachment)).unwrap();
    thread::sleep(PATIENCE * 3);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "starts the test program itself, to kill it")]
fn a_killed_corten_leaves_a_lease_that_the_next_run_reclaims() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let leases = world.state.path().join("leases");
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact"])
        .arg(concat!(module_path!(), "::process_to_be_killed").split_once("::").unwrap().1)
        .env(LEASE_DIRECTORY, world.state.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let leased: Ipv4Addr = output
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("leased ").map(str::to_owned))
        .unwrap()
        .parse()
        .unwrap();

    let container = Container::new("during");
    let during = world.attach(&container, &[]).unwrap();
    assert_ne!(ipv4(&during), leased);
    assert!(file::exists(&leases.join(leased.to_string())).unwrap(), "while it lives");
    detach(during);
    drop(container);

    process.kill().unwrap();
    process.wait().unwrap();
    let container = Container::new("after");
    let after = world.attach(&container, &["8080:80"]).unwrap();
    assert!(!file::exists(&leases.join(leased.to_string())).unwrap(), "after it was killed");
    detach(after);
    drop(container);
    eventually("the end of the interfaces", || bridge_ports() == 0);
}

#[test]
fn a_port_that_is_taken_is_refused_before_anything_is_changed() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
    let container = Container::new("web");
    let error = world.attach(&container, &["8080:80"]).unwrap_err();
    assert!(matches!(error, NetworkError::PortInUse { port: 8080, .. }), "{error}");
    assert_eq!(RouteSocket::open().unwrap().link(BRIDGE).unwrap(), None);
    drop(held);
    detach(world.attach(&container, &["8080:80"]).unwrap());
}

#[test]
fn another_machine_cannot_route_itself_to_a_port_that_is_not_published() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("web");
    let attachment = world.attach(&container, &[]).unwrap();
    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    let target = SocketAddr::from((ipv4(&attachment), 80));
    in_namespace(world.outside.as_fd(), || {
        let mut socket = RouteSocket::open().unwrap();
        let link = socket.link("eth0").unwrap().unwrap().index;
        socket.add_default_route(link, HOST).unwrap();
        let error = TcpStream::connect_timeout(&target, IMPATIENCE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    })
    .unwrap();
    seen_by_echo(target).unwrap();
    service.join().unwrap();
    detach(attachment);
}

/// Joins a namespace to the bridge by hand. It has no loopback interface that would keep
/// 127.0.0.0/8 to itself, so that packets to there go to the host.
fn without_loopback(attachment: &Attachment) -> OwnedFd {
    let namespace = new_namespace();
    let mut socket = RouteSocket::open().unwrap();
    let veth = Veth {
        name: "veth-test",
        peer_name: "eth0",
        peer_address: [2, 0, 0, 0, 0, 9],
        peer_namespace: namespace.as_fd(),
        master: Some(socket.link(BRIDGE).unwrap().unwrap().index),
        mtu: UPLINK_MTU,
    };
    socket.add_veth(&veth).unwrap();
    let own = Ipv4Addr::from_bits(ipv4(attachment).to_bits() + 100);
    let Some(IpAddr::V4(gateway)) = attachment.gateway() else { panic!("no gateway") };
    in_namespace(namespace.as_fd(), || {
        let mut socket = RouteSocket::open().unwrap();
        let link = socket.link("eth0").unwrap().unwrap().index;
        socket.add_address(link, own, 22).unwrap();
        socket.set_up(link).unwrap();
        socket.add_default_route(link, gateway).unwrap();
        file::write(Path::new(ROUTE_LOCALNET), b"1").unwrap();
    })
    .unwrap();
    namespace
}

const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

#[test]
fn the_hosts_loopback_services_are_out_of_reach_even_with_route_localnet() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let attachment = world.attach(&Container::new("a"), &[]).unwrap();
    let curious = without_loopback(&attachment);
    file::write(Path::new(ROUTE_LOCALNET), b"1").unwrap();
    let address = Ipv4Addr::new(127, 0, 0, 9);
    let _service = TcpListener::bind((address, 80)).unwrap();
    let target = SocketAddr::from((address, 80));
    let connect = |patience| {
        let connected = move || TcpStream::connect_timeout(&target, patience);
        in_namespace(curious.as_fd(), connected).unwrap().map(drop).map_err(|error| error.kind())
    };
    assert_eq!(connect(IMPATIENCE), Err(io::ErrorKind::TimedOut));

    // It is our table that keeps it out, and not some mistake of this test.
    let mut removal = Batch::new();
    removal.remove_table(Family::Ipv4, "corten");
    NftSocket::open().unwrap().commit("remove our table", removal).unwrap();
    assert_eq!(connect(PATIENCE), Ok(()));
    detach(attachment);
}

fn dropping_forward_chain(table: &str, chain: &str) -> Batch {
    let mut batch = Batch::new();
    let base =
        Base { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Verdict::Drop };
    batch.add_table(Family::Ipv4, table, &[]);
    batch.add_chain(Family::Ipv4, table, chain, Some(base));
    batch
}

#[test]
fn docker_s_firewall_is_passed_by_the_chain_it_leaves_to_others() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let mut batch = dropping_forward_chain("filter", "FORWARD");
    batch.add_chain(Family::Ipv4, "filter", "DOCKER-USER", None);
    batch.append_rule(Family::Ipv4, "filter", "FORWARD", &[Expression::Jump("DOCKER-USER")]);
    let mut firewall = NftSocket::open().unwrap();
    firewall.commit("play Docker", batch).unwrap();

    let container = Container::new("a");
    let service = echo(&world.outside, OUTSIDE, 7, 1);
    let attachment = world.attach(&container, &[]).unwrap();
    assert!(attachment.notices().iter().all(|notice| notice.severity == Severity::Note));
    container.run(|| seen_by_echo((OUTSIDE, 7))).unwrap();
    service.join().unwrap();
    detach(attachment);

    let rules = |firewall: &mut NftSocket| firewall.rules(Family::Ipv4, "filter").unwrap().len();
    let before = rules(&mut firewall);
    detach(world.attach(&container_again(), &[]).unwrap());
    assert_eq!(rules(&mut firewall), before, "the rules are added once");
}

fn container_again() -> Container {
    Container::new("again")
}

#[test]
fn another_firewall_that_drops_is_told_of_with_a_remedy_that_works() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let mut firewall = NftSocket::open().unwrap();
    firewall.commit("play a firewall", dropping_forward_chain("strict", "forward")).unwrap();

    let container = Container::new("a");
    let attachment = world.attach(&container, &[]).unwrap();
    let warning = attachment.notices().last().unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.text.contains("nft insert rule ip strict forward iifname corten0 accept"));
    let target = SocketAddr::from((OUTSIDE, 7));
    container.run(|| TcpStream::connect_timeout(&target, IMPATIENCE).unwrap_err());

    let mut remedy = Batch::new();
    let accept = Expression::Verdict(Verdict::Accept);
    let from = Expression::InputInterface(Test::Is, BRIDGE);
    let to = Expression::OutputInterface(Test::Is, BRIDGE);
    remedy.insert_rule(Family::Ipv4, "strict", "forward", &[from, accept]);
    let answers = [to, Expression::Answer(Test::Is), accept];
    remedy.insert_rule(Family::Ipv4, "strict", "forward", &answers);
    firewall.commit("follow the advice", remedy).unwrap();
    let service = echo(&world.outside, OUTSIDE, 7, 1);
    container.run(|| seen_by_echo(target)).unwrap();
    service.join().unwrap();
    detach(attachment);

    let second = world.attach(&container_again(), &[]).unwrap();
    assert_eq!(second.notices(), [], "once followed, the advice is not repeated");
    detach(second);
}

#[test]
fn a_flushed_firewall_table_is_made_again() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    detach(world.attach(&container_again(), &[]).unwrap());
    let mut firewall = NftSocket::open().unwrap();
    let whole = firewall.rules(Family::Ipv4, "corten").unwrap();
    let mut flush = Batch::new();
    flush.remove_table(Family::Ipv4, "corten");
    firewall.commit("flush", flush).unwrap();
    assert_eq!(firewall.table(Family::Ipv4, "corten").unwrap(), None);
    detach(world.attach(&container_again(), &[]).unwrap());
    assert_eq!(firewall.rules(Family::Ipv4, "corten").unwrap(), whole);
    detach(world.attach(&container_again(), &[]).unwrap());
    assert_eq!(firewall.rules(Family::Ipv4, "corten").unwrap(), whole, "and not doubled");
}

#[test]
fn without_a_network_there_is_loopback_and_nothing_else() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("alone");
    let attachment = world.attach_as(Network::None, &container, &[]).unwrap();
    assert_eq!(attachment.address(), None);
    container.run(|| {
        let mut socket = RouteSocket::open().unwrap();
        let up: Vec<String> = socket
            .links()
            .unwrap()
            .into_iter()
            .filter(|link| link.up)
            .map(|link| link.name)
            .collect();
        assert_eq!(up, ["lo"]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = TcpStream::connect((OUTSIDE, 7)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
    });
    assert_eq!(RouteSocket::open().unwrap().link(BRIDGE).unwrap(), None);
    detach(attachment);
}

#[test]
fn without_a_network_ports_can_still_be_published_and_nobody_seems_local() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("alone");
    let attachment = world.attach_as(Network::None, &container, &["8080:80"]).unwrap();
    let service = echo(&container.netns, Ipv4Addr::UNSPECIFIED, 80, 1);
    let seen = seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).unwrap();
    assert!(!seen.is_loopback(), "{seen}");
    assert_ne!(Some(seen), attachment.address());
    service.join().unwrap();
    detach(attachment);
}

#[test]
fn with_the_hosts_network_nothing_is_done_and_ports_are_told_of() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("host");
    let attachment = world.attach_as(Network::Host, &container, &["8080:80"]).unwrap();
    assert_eq!(attachment.published(), []);
    assert_eq!(attachment.notices().len(), 1);
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
    detach(attachment);
}

#[test]
fn a_network_that_is_dropped_is_taken_down_as_well() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let container = Container::new("web");
    drop(world.attach(&container, &["8080:80"]).unwrap());
    assert_eq!(file::list_dir(&world.state.path().join("leases")).unwrap().len(), 0);
    // A process that another test of this program starts may hold a copy for a moment.
    eventually("the end of the listening", || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).is_ok()
    });
}

#[test]
fn an_answer_by_udp_comes_from_the_address_that_was_asked() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let second = Ipv4Addr::new(198, 51, 100, 77);
    let mut socket = RouteSocket::open().unwrap();
    let uplink = socket.link("uplink0").unwrap().unwrap().index;
    socket.add_address(uplink, second, 24).unwrap();
    let container = Container::new("dns");
    let attachment = world.attach(&container, &["53:53/udp"]).unwrap();
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let service = start(&container.netns, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..3 {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], client).unwrap();
        }
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    // A connected socket takes answers from nobody else.
    let ask = |address: Ipv4Addr| {
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect((address, 53)).unwrap();
        client.send(b"who").unwrap();
        client.recv(&mut [0; 8]).unwrap()
    };
    for address in [HOST, second] {
        assert_eq!(in_namespace(world.outside.as_fd(), || ask(address)).unwrap(), 3);
    }
    assert_eq!(container.run(|| ask(HOST)), 3, "by the host's address from a container");
    service.join().unwrap();
    detach(attachment);
}
