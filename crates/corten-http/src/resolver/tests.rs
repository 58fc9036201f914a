//! The resolver against name servers of the test's own, on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use corten_testkit::TempDir;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::*;

/// What the server of a test does with a question: the bytes to send, or silence.
type Server = fn(question: &[u8], number: usize) -> Option<Vec<u8>>;

fn reply(question: &[u8], fill: impl FnOnce(&mut Packet<'_>, bool)) -> Vec<u8> {
    let packet = Packet::parse(question).unwrap();
    let v4 = packet.questions[0].qtype == QTYPE::TYPE(TYPE::A);
    let mut reply = packet.into_reply();
    fill(&mut reply, v4);
    reply.build_bytes_vec_compressed().unwrap()
}

fn addresses(question: &[u8]) -> Vec<u8> {
    reply(question, |reply, v4| {
        let name = reply.questions[0].qname.clone();
        let data = if v4 {
            RData::A(A { address: 0x0a00_0001 })
        } else {
            RData::AAAA(AAAA { address: 0xfd00 << 112 | 1 })
        };
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
    })
}

fn coded(question: &[u8], code: RCODE) -> Vec<u8> {
    reply(question, |reply, _| *reply.rcode_mut() = code)
}

/// Serves on loopback until the test's process ends, over UDP and TCP.
fn serve(server: Server) -> u16 {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = udp.local_addr().unwrap().port();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        for number in 0.. {
            let (length, client) = udp.recv_from(&mut bytes).unwrap();
            if let Some(reply) = server(&bytes[..length], number) {
                udp.send_to(&reply, client).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            let reply = addresses(&question);
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, reply.as_slice()].concat()).unwrap();
        }
    });
    port
}

fn found(port: u16, conf: &str, host: &str) -> Result<Vec<String>, String> {
    let directory = TempDir::new();
    let hosts = directory.path().join("hosts");
    let resolv_conf = directory.path().join("resolv.conf");
    file::write(&hosts, b"10.9.9.9 listed.example\n").unwrap();
    file::write(&resolv_conf, conf.as_bytes()).unwrap();
    let stub = Stub { hosts, resolv_conf, port };
    let deadline = SystemClock.monotonic() + Duration::from_secs(20);
    let found = stub.addresses(host, deadline).map_err(|error| error.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

const LOOPBACK: &str = "nameserver 127.0.0.1\n";

#[test]
fn numbers_listed_hosts_and_the_own_machine_are_not_asked_for() {
    let port = serve(|_, _| panic!("nothing is asked for"));
    for (host, expected) in [
        ("10.1.2.3", &["10.1.2.3"] as &[_]),
        ("[fd00::1]", &["fd00::1"]),
        ("listed.example", &["10.9.9.9"]),
        ("a.localhost", &["127.0.0.1", "::1"]),
    ] {
        assert_eq!(found(port, LOOPBACK, host).unwrap(), expected, "{host}");
    }
}

#[test]
fn both_families_are_asked_for_at_once() {
    let port = serve(|question, _| Some(addresses(question)));
    assert_eq!(found(port, LOOPBACK, "a.example").unwrap(), ["fd00::1", "10.0.0.1"]);
}

#[test]
fn a_question_that_gets_lost_is_asked_again() {
    let port = serve(|question, number| (number >= 2).then(|| addresses(question)));
    assert_eq!(found(port, LOOPBACK, "a.example").unwrap(), ["fd00::1", "10.0.0.1"]);
}

#[test]
fn one_family_is_enough() {
    let port = serve(|question, _| {
        let v4 = Packet::parse(question).unwrap().questions[0].qtype == QTYPE::TYPE(TYPE::A);
        v4.then(|| addresses(question))
    });
    assert_eq!(found(port, LOOPBACK, "a.example").unwrap(), ["10.0.0.1"]);
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let port = serve(|question, _| {
        Some(reply(question, |reply, _| reply.set_flags(PacketFlag::TRUNCATION)))
    });
    assert_eq!(found(port, LOOPBACK, "a.example").unwrap(), ["fd00::1", "10.0.0.1"]);
    let port = serve(|_, _| panic!("nothing comes over UDP"));
    let conf = "nameserver 127.0.0.1\noptions use-vc\n";
    assert_eq!(found(port, conf, "a.example").unwrap(), ["fd00::1", "10.0.0.1"]);
}

#[test]
fn a_server_that_fails_is_passed_over() {
    let port = serve(|question, _| Some(addresses(question)));
    // Nobody listens on the first address.
    let conf = "nameserver 127.0.0.9\nnameserver 127.0.0.1\n";
    assert_eq!(found(port, conf, "a.example").unwrap(), ["fd00::1", "10.0.0.1"]);
}

#[test]
fn an_absent_name_has_no_address_and_a_refusal_is_an_error() {
    let port = serve(|question, _| Some(coded(question, RCODE::NameError)));
    assert_eq!(found(port, LOOPBACK, "a.example").unwrap(), [""; 0]);
    let port = serve(|question, _| Some(coded(question, RCODE::ServerFailure)));
    let error = found(port, LOOPBACK, "a.example").unwrap_err();
    assert!(error.contains("no name server knows of `a.example`: asked 127.0.0.1"), "{error}");
}

#[test]
fn the_search_list_is_tried() {
    let port = serve(|question, _| {
        let name = Packet::parse(question).unwrap().questions[0].qname.to_string();
        let known = name == "host.b.example";
        Some(if known { addresses(question) } else { coded(question, RCODE::NameError) })
    });
    let conf = "nameserver 127.0.0.1\nsearch a.example b.example\n";
    assert_eq!(found(port, conf, "host").unwrap(), ["fd00::1", "10.0.0.1"]);
}

#[test]
fn addresses_without_a_route_come_last() {
    let far: IpAddr = "240.0.0.1".parse().unwrap();
    let own: IpAddr = Ipv4Addr::LOCALHOST.into();
    let sorted = reachable_first(vec![own, far]);
    assert_eq!(sorted.len(), 2);
    assert_eq!(sorted[0], own);
}
