//! The proxy against real sockets of this host's loopback interface: the "container" is 127.0.0.1
//! and listens itself.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::ports::{HostPort, PortMapping, Protocol};
use super::{Dial, Proxy, listen};
use crate::network::NetworkError;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// No test waits longer than this for bytes that do not come.
const PATIENCE: Duration = Duration::from_secs(20);

fn mapping(host_port: HostPort, container_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping { host_address: Some(LOOPBACK), host_port, container_port, protocol }
}

/// Starts a proxy for one port and returns where it listens.
fn proxy(container_port: u16, protocol: Protocol) -> (Proxy, SocketAddr) {
    let listeners = listen(&[mapping(HostPort::Any, container_port, protocol)]).unwrap();
    let host = listeners[0].published.host;
    let dial = Dial { target: Ipv4Addr::LOCALHOST, source: None };
    (Proxy::start(listeners, dial, None).unwrap(), host)
}

/// Starts a service that handles one connection.
fn service<T: Send + 'static>(
    handle: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        handle(stream)
    });
    (port, thread)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_all(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that show when one is lost, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((index * 31 + index / 251) % 256).unwrap()).collect()
}

#[test]
fn bytes_pass_in_both_directions() {
    let (port, service) = service(|mut stream| {
        let mut question = [0; 5];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"pong!").unwrap();
        question
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let mut client = connect(host);
    client.write_all(b"ping!").unwrap();
    assert_eq!(read_all(&client).unwrap(), b"pong!");
    assert_eq!(&service.join().unwrap(), b"ping!");
    drop(client);
    proxy.stop().unwrap();
}

#[test]
fn a_client_that_has_said_all_still_gets_the_answer() {
    let (port, service) = service(|mut stream| {
        let question = read_all(&stream).unwrap();
        stream.write_all(&question).unwrap();
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let mut client = connect(host);
    client.write_all(b"all of it").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client).unwrap(), b"all of it");
    service.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn a_service_that_has_said_all_still_gets_the_rest() {
    let (port, service) = service(|mut stream| {
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(&stream).unwrap()
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let mut client = connect(host);
    assert_eq!(read_all(&client).unwrap(), b"hello");
    client.write_all(b"after the end").unwrap();
    drop(client);
    assert_eq!(service.join().unwrap(), b"after the end");
    proxy.stop().unwrap();
}

#[test]
fn much_data_passes_whole_in_both_directions_at_once() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let (port, service) = service(|stream| {
        let writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            (&writer).write_all(&pattern(LENGTH)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let seen = read_all(&stream).unwrap();
        writing.join().unwrap();
        seen
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let client = connect(host);
    let writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        (&writer).write_all(&pattern(LENGTH)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_all(&client).unwrap() == pattern(LENGTH), "to the client");
    assert!(service.join().unwrap() == pattern(LENGTH), "to the service");
    writing.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn a_slow_client_gets_all_and_holds_up_nobody() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let handlers: Vec<_> = listener
            .incoming()
            .take(2)
            .map(|stream| {
                thread::spawn(move || stream.unwrap().write_all(&pattern(LENGTH)).unwrap())
            })
            .collect();
        for handler in handlers {
            handler.join().unwrap();
        }
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let slow = connect(host);
    assert!(read_all(&connect(host)).unwrap() == pattern(LENGTH), "the quick one");
    assert!(read_all(&slow).unwrap() == pattern(LENGTH), "the slow one");
    serving.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn a_port_that_nobody_serves_resets_the_client() {
    let closed = TcpListener::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
    let (proxy, host) = proxy(closed, Protocol::Tcp);
    let error = read_all(&connect(host)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    proxy.stop().unwrap();
}

#[test]
fn a_reset_by_the_client_reaches_the_service() {
    let (port, service) = service(|stream| read_all(&stream));
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let mut client = connect(host);
    client.write_all(b"x").unwrap();
    // Closing with unread bytes or with no linger time is a reset.
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    thread::sleep(Duration::from_millis(50));
    drop(client);
    let seen = service.join().unwrap();
    assert_eq!(seen.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    proxy.stop().unwrap();
}

#[test]
fn many_connections_are_served_at_once() {
    const CLIENTS: usize = 100;
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..CLIENTS).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(host)).collect();
    for (number, mut client) in (0..).zip(&clients) {
        client.write_all(&[number]).unwrap();
    }
    for (number, client) in (0_u8..).zip(&clients) {
        assert_eq!(read_all(client).unwrap(), [number]);
    }
    serving.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn what_the_container_said_last_is_delivered_after_its_end() {
    const LENGTH: usize = 1024 * 1024;
    let (port, service) = service(|mut stream| stream.write_all(&pattern(LENGTH)).unwrap());
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let client = connect(host);
    // The client reads late and never says that it is done; the service has ended by then.
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        read_all(&client).unwrap().len()
    });
    service.join().unwrap();
    proxy.stop().unwrap();
    assert_eq!(reading.join().unwrap(), LENGTH);
}

#[test]
fn a_connection_that_never_ends_does_not_keep_the_proxy() {
    let (port, service) = service(|stream| {
        // Holds the connection until the proxy closes it.
        read_all(&stream).unwrap_or_default().len()
    });
    let (proxy, host) = proxy(port, Protocol::Tcp);
    let client = connect(host);
    thread::sleep(Duration::from_millis(50));
    proxy.stop().unwrap();
    drop(client);
    assert_eq!(service.join().unwrap(), 0);
}

#[test]
fn after_the_stop_nobody_listens() {
    let (proxy, host) = proxy(9, Protocol::Tcp);
    proxy.stop().unwrap();
    assert_eq!(TcpStream::connect(host).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

fn udp_client(host: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    client.connect(host).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

#[test]
fn datagrams_of_two_clients_are_answered_to_each() {
    let service = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = service.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let mut buffer = [0; 64];
        for _ in 0..4 {
            let (length, client) = service.recv_from(&mut buffer).unwrap();
            let answer = buffer[..length].to_ascii_uppercase();
            service.send_to(&answer, client).unwrap();
        }
    });
    let (proxy, host) = proxy(port, Protocol::Udp);
    let (first, second) = (udp_client(host), udp_client(host));
    for _ in 0..2 {
        first.send(b"first").unwrap();
        second.send(b"second").unwrap();
        let mut buffer = [0; 16];
        let length = first.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"FIRST");
        let length = second.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"SECOND");
    }
    serving.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn the_largest_and_the_empty_datagram_pass() {
    let service = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = service.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        for _ in 0..2 {
            let (length, client) = service.recv_from(&mut buffer).unwrap();
            service.send_to(&buffer[..length], client).unwrap();
        }
    });
    let (proxy, host) = proxy(port, Protocol::Udp);
    let client = udp_client(host);
    let mut buffer = vec![0; 65536];
    for length in [65507, 0] {
        client.send(&pattern(length)).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), length);
        assert!(buffer[..length] == pattern(length));
    }
    serving.join().unwrap();
    proxy.stop().unwrap();
}

#[test]
fn a_service_that_starts_late_gets_the_next_datagram() {
    let placeholder = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = placeholder.local_addr().unwrap().port();
    drop(placeholder);
    let (proxy, host) = proxy(port, Protocol::Udp);
    let client = udp_client(host);
    client.send(b"nobody hears this").unwrap();
    thread::sleep(Duration::from_millis(50));
    let service = UdpSocket::bind((LOOPBACK, port)).unwrap();
    service.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"heard").unwrap();
    let mut buffer = [0; 64];
    let length = service.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"heard");
    proxy.stop().unwrap();
}

#[test]
fn a_taken_port_is_named_with_its_holder() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let held = listen(&[mapping(HostPort::Any, 80, protocol)]).unwrap();
        let port = held[0].published.host.port();
        let error = listen(&[mapping(HostPort::Exactly(port), 80, protocol)]).unwrap_err();
        let process = format!("(process {})", std::process::id());
        let start = format!("port {port}/{protocol} of 127.0.0.1 is already in use by `");
        let text = error.to_string();
        assert!(text.starts_with(&start) && text.ends_with(&process), "{text}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn without_a_visible_holder_the_hint_says_how_to_look() {
    let error = NetworkError::PortInUse {
        address: LOOPBACK,
        port: 8080,
        protocol: Protocol::Tcp,
        holder: None,
    };
    assert_eq!(error.to_string(), "port 8080/tcp of 127.0.0.1 is already in use");
    assert_eq!(error.hint().as_deref(), Some("run `ss -Hlntp 'sport = :8080'` to see who has it"));
}

#[test]
fn the_first_free_port_of_a_range_is_taken() {
    let held = listen(&[mapping(HostPort::Any, 80, Protocol::Tcp)]).unwrap();
    let port = held[0].published.host.port();
    let range = HostPort::FirstFree(port, port.saturating_add(20));
    let second = listen(&[mapping(range, 80, Protocol::Tcp)]).unwrap();
    assert!(second[0].published.host.port() > port);
    let only = HostPort::FirstFree(port, port);
    let error = listen(&[mapping(only, 80, Protocol::Tcp)]).unwrap_err();
    assert!(matches!(error, NetworkError::PortsInUse { .. }));
}

#[test]
fn without_an_address_both_ip_versions_share_the_port() {
    let every = PortMapping {
        host_address: None,
        host_port: HostPort::Any,
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    let listeners = listen(&[every]).unwrap();
    let ports: Vec<u16> = listeners.iter().map(|one| one.published.host.port()).collect();
    assert!(listeners[0].published.host.is_ipv4());
    assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
}

#[test]
fn an_address_that_the_host_has_not_is_refused_with_a_hint() {
    let foreign = PortMapping {
        host_address: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))),
        host_port: HostPort::Any,
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    let error = listen(&[foreign]).unwrap_err();
    assert_eq!(error.to_string(), "failed to listen on port 0/tcp of 203.0.113.77");
    assert!(error.hint().unwrap().contains("ip address"));
}
