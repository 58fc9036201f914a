//! Networks that somebody has made: who reaches whom, by which name, and what stays when somebody is
//! killed.

use std::net::Ipv6Addr;

use corten_sys::clock::{Clock as _, SystemClock};

use super::super::super::names::SERVER;
use super::super::super::{
    AnySubnet, Endpoint, NetworkWish, On, Register, Taken, UserNetwork, plan_network,
};
use super::*;

/// A process that is always there, so that containers count as alive.
fn own_process() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// A network as somebody makes it.
fn network(name: &str, subnet: &str, change: impl FnOnce(&mut NetworkWish)) -> UserNetwork {
    let mut wish = NetworkWish { name: name.to_owned(), ..NetworkWish::default() };
    wish.subnets.push(subnet.parse::<AnySubnet>().unwrap());
    change(&mut wish);
    let id: String = (0..4).map(|_| corten_sys::random::name()).collect();
    plan_network(&wish, &id, &Taken::default()).unwrap()
}

fn web() -> UserNetwork {
    network("web", "10.216.7.0/24", |_| {})
}

fn on(network: &UserNetwork) -> Endpoint {
    Endpoint::on(On::User(network.clone()))
}

impl World {
    fn join(&self, container: &Container, endpoints: &[Endpoint]) -> Attachment {
        self.try_join(container, endpoints, &[]).unwrap()
    }

    fn try_join(
        &self,
        container: &Container,
        endpoints: &[Endpoint],
        specs: &[&str],
    ) -> Result<Attachment, NetworkError> {
        attach(&NetworkRequest {
            container_id: container.id,
            name: container.id,
            pid: own_process(),
            netns: container.netns.as_fd(),
            network: Network::User,
            endpoints,
            reserved: &[],
            nameservers: &[IpAddr::V4(OUTSIDE)],
            ports: &ports::parse_all(specs).unwrap(),
            rootless: false,
            state_dir: self.state.path(),
            search_path: OsStr::new(""),
        })
    }
}

/// How long a resolver waits before it asks again.
const RESOLVER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Asks the container's name server and returns the code and the addresses of its answer.
fn ask(container: &Container, name: &str, kind: u16) -> (u8, Vec<IpAddr>) {
    let mut query = vec![0x77, 0x88, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, u8::try_from(kind).unwrap(), 0, 1]);
    let answer = container.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(RESOLVER_PATIENCE)).unwrap();
        socket.connect((SERVER, 53)).unwrap();
        let mut buffer = [0; 2048];
        // A datagram that finds the server's queue full is lost: resolvers ask again.
        let length = (0..20).find_map(|_| {
            socket.send(&query).unwrap();
            socket.recv(&mut buffer).ok()
        });
        buffer[..length.expect("the server answers")].to_vec()
    });
    read_answer(&query, &answer)
}

fn read_answer(query: &[u8], answer: &[u8]) -> (u8, Vec<IpAddr>) {
    assert_eq!(answer[..2], query[..2]);
    let mut rest = &answer[query.len()..];
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        let length = usize::from(u16::from_be_bytes([rest[10], rest[11]]));
        let data = &rest[12..12 + length];
        match length {
            4 => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).unwrap())),
            16 => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).unwrap())),
            _ => {}
        }
        rest = &rest[12 + length..];
    }
    addresses.sort_unstable();
    (answer[3] & 15, addresses)
}

fn is_reached(container: &Container, address: impl Into<SocketAddr>) -> bool {
    let address = address.into();
    container.run(|| TcpStream::connect_timeout(&address, IMPATIENCE).is_ok())
}

/// Listens in a container for as long as the answer lives.
fn listening(container: &Container, port: u16) -> TcpListener {
    container.run(|| TcpListener::bind(("::", port)).unwrap())
}

#[test]
fn two_containers_find_each_other_by_name_and_talk() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let web = web();
    let aliased = Endpoint { aliases: vec!["Store".to_owned()], ..on(&web) };
    let first = world.join(&one, &[on(&web)]);
    let second = world.join(&two, &[aliased]);
    let address = ipv4(&second);
    for name in ["two", "TWO", "store", "two.web", "store.Web"] {
        assert_eq!(ask(&one, name, 1), (0, vec![address.into()]), "{name}");
    }
    assert_eq!(ask(&one, "two", 28), (0, vec![]), "it has no address of IPv6");
    assert_eq!(ask(&one, "three", 1), (3, vec![]));
    let listener = listening(&two, 80);
    assert!(is_reached(&one, (address, 80)));
    drop(listener);
    detach(second);
    assert_eq!(ask(&one, "two", 1), (3, vec![]), "who has gone has no name");
    detach(first);
    let left = file::list_dir(&world.state.path().join("containers")).unwrap();
    assert_eq!(left.len(), 0);
}

#[test]
fn a_container_can_have_a_name_server_of_its_own_on_every_address() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let one = Container::new("one");
    let attachment = world.join(&one, &[on(&web())]);
    let (udp, tcp) = one
        .run(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
    assert_eq!(ask(&one, "one", 1).1, [attachment.address().unwrap()]);
    drop((udp, tcp));
    detach(attachment);
}

/// Answers one question on the outside with an address, over TCP if it is asked so.
fn resolver(world: &World) -> JoinHandle<()> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let thread = start(&world.outside, move || {
        let udp = UdpSocket::bind((OUTSIDE, 53)).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 2048];
        let (length, client) = udp.recv_from(&mut buffer).unwrap();
        let mut answer = buffer[..length].to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 9]);
        udp.send_to(&answer, client).unwrap();
    });
    is_ready.recv_timeout(PATIENCE).unwrap();
    thread
}

#[test]
fn other_names_are_asked_for_outside_unless_the_network_is_internal() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let first = world.join(&one, &[on(&web())]);
    let internal = network("inner", "10.216.8.0/24", |wish| wish.internal = true);
    let second = world.join(&two, &[on(&internal)]);
    let server = resolver(&world);
    assert_eq!(ask(&one, "example.com", 1), (0, vec![IpAddr::from([203, 0, 113, 9])]));
    server.join().unwrap();
    assert_eq!(ask(&two, "example.com", 1), (3, vec![]));
    let began = SystemClock.monotonic();
    assert_eq!(ask(&one, "example.org", 1), (2, vec![]), "nobody answers any more");
    assert!(SystemClock.monotonic().saturating_sub(began) < Duration::from_secs(10));
    detach(first);
    detach(second);
}

#[test]
fn hostile_questions_neither_end_nor_block_the_server() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let one = Container::new("one");
    let attachment = world.join(&one, &[on(&web())]);
    let idle = one.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..2000_usize {
            let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03one\x00\x00\x01\x00\x01\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00".to_vec();
            for _ in 0..=(round % 5) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
                bytes[at] = u8::try_from((seed >> 24) & 255).unwrap();
            }
            bytes.truncate(bytes.len() - round % 9);
            socket.send_to(&bytes, (SERVER, 53)).unwrap();
        }
        // More connections than are taken, none of which says anything.
        (0..40).filter_map(|_| TcpStream::connect((SERVER, 53)).ok()).collect::<Vec<_>>()
    });
    assert_eq!(ask(&one, "one", 1).1, [attachment.address().unwrap()]);
    drop(idle);
    detach(attachment);
}

#[test]
fn an_answer_comes_over_tcp_too() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let one = Container::new("one");
    let attachment = world.join(&one, &[on(&web())]);
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03one\x00\x00\x01\x00\x01";
    let answer = one.run(|| {
        let mut stream = TcpStream::connect((SERVER, 53)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&length).unwrap();
        stream.write_all(query).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(read_answer(query, &answer).1, [attachment.address().unwrap()]);
    detach(attachment);
}

#[test]
fn networks_do_not_reach_each_other_and_internal_ones_nobody() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two, three) = (Container::new("one"), Container::new("two"), Container::new("three"));
    let (web, back) = (web(), network("back", "10.216.9.0/24", |_| {}));
    let inner = network("inner", "10.216.10.0/24", |wish| wish.internal = true);
    let attached = [
        world.join(&one, &[on(&web)]),
        world.join(&two, &[on(&back)]),
        world.join(&three, &[on(&inner)]),
    ];
    let default = Container::new("default");
    let fourth = world.attach(&default, &[]).unwrap();
    let listeners: Vec<_> =
        [&one, &two, &three, &default].map(|container| listening(container, 80)).into();
    let addresses: Vec<Ipv4Addr> = attached.iter().chain([&fourth]).map(ipv4).collect();
    for (index, container) in [&one, &two, &three, &default].into_iter().enumerate() {
        for (other, address) in addresses.iter().enumerate() {
            let is_itself = index == other;
            assert_eq!(is_reached(container, (*address, 80)), is_itself, "{index} to {other}");
        }
    }
    // The way out, and the host: a service of the outside, and one of the host on every address.
    let outside = in_namespace(world.outside.as_fd(), || TcpListener::bind((OUTSIDE, 80)).unwrap());
    let host = TcpListener::bind("0.0.0.0:81").unwrap();
    assert!(is_reached(&one, (OUTSIDE, 80)) && is_reached(&one, (HOST, 81)));
    assert!(!is_reached(&three, (OUTSIDE, 80)) && !is_reached(&three, (HOST, 81)));
    assert!(!is_reached(&three, (Ipv4Addr::new(10, 216, 10, 1), 81)), "nor by the gateway");
    // Both ways: a machine outside that knows a way does not get in.
    let knows_the_way = |gateway: Ipv4Addr| {
        let mut socket = RouteSocket::open().unwrap();
        let link = socket.link("eth0").unwrap().unwrap().index;
        socket.add_default_route(link, gateway).unwrap();
    };
    in_namespace(world.outside.as_fd(), || knows_the_way(HOST)).unwrap();
    for address in &addresses {
        let address = SocketAddr::from((*address, 80));
        let reached = in_namespace(world.outside.as_fd(), || {
            TcpStream::connect_timeout(&address, IMPATIENCE).is_ok()
        });
        assert!(!reached.unwrap(), "{address}");
    }
    drop((listeners, outside, host));
    attached.into_iter().for_each(detach);
    detach(fourth);
}

#[test]
fn an_address_that_is_asked_for_is_had_and_nobody_elses() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let web = web();
    let wanted = Ipv4Addr::new(10, 216, 7, 77);
    let mac = "02:11:22:33:44:55".parse().unwrap();
    let asks = Endpoint { ipv4: Some(wanted), mac: Some(mac), ..on(&web) };
    let first = world.join(&one, std::slice::from_ref(&asks));
    assert_eq!(first.address(), Some(wanted.into()));
    let seen = one.run(|| file::read(Path::new("/sys/class/net/eth0/address")));
    drop(seen);
    let error = world.try_join(&two, &[asks], &[]).unwrap_err();
    assert_eq!(error.to_string(), "the address 10.216.7.77 is taken by the container `one`");
    let outside = Endpoint { ipv4: Some(Ipv4Addr::new(10, 1, 1, 1)), ..on(&web) };
    let error = world.try_join(&two, &[outside], &[]).unwrap_err();
    assert!(matches!(error, NetworkError::AddressRefused { .. }), "{error}");
    detach(first);
}

#[test]
fn a_network_with_ipv6_has_addresses_names_and_a_way_of_it() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let six = network("six", "10.216.11.0/24", |wish| {
        wish.subnets.push("fd00:77::/64".parse().unwrap());
    });
    let first = world.join(&one, &[on(&six)]);
    let wanted: Ipv6Addr = "fd00:77::abc".parse().unwrap();
    let second = world.join(&two, &[Endpoint { ipv6: Some(wanted), ..on(&six) }]);
    assert_eq!(ask(&one, "two", 28), (0, vec![wanted.into()]));
    assert_eq!(ask(&one, "one", 28), (0, vec!["fd00:77::2".parse().unwrap()]));
    let listener = listening(&two, 80);
    assert!(is_reached(&one, (wanted, 80)));
    let three = Container::new("three");
    let back = network("back", "10.216.12.0/24", |wish| {
        wish.subnets.push("fd00:78::/64".parse().unwrap());
    });
    let third = world.join(&three, &[on(&back)]);
    assert!(!is_reached(&three, (wanted, 80)), "not from another network");
    drop(listener);
    [first, second, third].into_iter().for_each(detach);
}

#[test]
fn several_networks_are_several_interfaces_and_one_way_out() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let one = Container::new("one");
    let inner = network("inner", "10.216.13.0/24", |wish| wish.internal = true);
    let attachment = world.join(&one, &[on(&inner), on(&web())]);
    let routes = one.run(|| {
        let mut socket = RouteSocket::open().unwrap();
        assert!(socket.link("eth1").unwrap().is_some());
        socket.routes().unwrap()
    });
    let ways: Vec<_> = routes.iter().filter(|route| route.prefix_bits == 0).collect();
    assert_eq!(ways.len(), 1);
    assert_eq!(ways[0].gateway, Some(IpAddr::from([10, 216, 7, 1])));
    assert_eq!(attachment.addresses().len(), 2);
    detach(attachment);
}

#[test]
fn published_ports_lead_to_a_container_and_a_conflict_names_it() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let web = web();
    let first = world.try_join(&one, &[on(&web)], &["8080:80"]).unwrap();
    let service = echo(&one.netns, ipv4(&first), 80, 1);
    assert!(seen_by_echo((Ipv4Addr::LOCALHOST, 8080)).is_ok());
    service.join().unwrap();
    let error = world.try_join(&two, &[on(&web)], &["8080:80"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port 8080/tcp of 0.0.0.0 is already in use by the container `one`"
    );
    let inner = network("inner", "10.216.14.0/24", |wish| wish.internal = true);
    let second = world.try_join(&two, &[on(&inner)], &["8081:80"]).unwrap();
    assert_eq!(second.published(), []);
    assert!(second.notices()[0].text.contains("internal"));
    detach(first);
    detach(second);
}

#[test]
fn what_a_killed_process_leaves_is_taken_away_by_the_next() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let (one, two) = (Container::new("one"), Container::new("two"));
    let web = network("web", "10.216.15.0/30", |_| {});
    let first = world.join(&one, &[on(&web)]);
    // As after a kill: nothing is given back, and the process that the record names is another one.
    let register = Register::at(world.state.path());
    let mut dead = register.read("one").unwrap();
    let veth = dead.endpoints[0].veth.clone();
    dead.process.1 = 1;
    let leases = super::super::super::lease::Leases::open(world.state.path()).unwrap();
    register.publish(&leases.turn().unwrap(), &dead).unwrap();
    let lease = world.state.path().join("networks").join(&web.id).join("leases/10.216.15.2");
    std::mem::forget(first);
    let text = format!("corten lease 1\ncontainer one\nprocess {} 1\n", own_process());
    file::remove_file(&lease).unwrap();
    file::write(&lease, text.as_bytes()).unwrap();

    let second = world.join(&two, &[on(&web)]);
    assert_eq!(second.address(), Some(IpAddr::from([10, 216, 15, 2])), "the only one");
    assert!(RouteSocket::open().unwrap().link(&veth).unwrap().is_none(), "the interface is gone");
    assert!(register.read("one").is_none());
    detach(second);
}

#[test]
fn many_at_once_never_get_one_address() {
    require!(Need::Root, Need::NetworkNamespaces);
    let world = World::new();
    let web = web();
    let host = own_namespace();
    let containers: Vec<Container> =
        ["a", "b", "c", "d", "e", "f", "g", "h"].map(Container::new).into();
    let mut addresses: Vec<IpAddr> = thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .map(|container| {
                let (world, web, host) = (&world, &web, &host);
                scope.spawn(move || {
                    enter_namespace(host.as_fd()).unwrap();
                    let attachment = world.join(container, &[on(web)]);
                    let address = attachment.address().unwrap();
                    // Kept until the end, as by so many processes.
                    (attachment, address)
                })
            })
            .collect();
        let joined: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        joined
            .into_iter()
            .map(|(attachment, address)| {
                detach(attachment);
                address
            })
            .collect()
    });
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), containers.len());
}
