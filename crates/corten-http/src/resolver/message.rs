//! Questions for addresses, and what an answer says. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

/// Aliases of aliases; more is a circle, or a joke.
const ALIASES_MAX: usize = 16;

/// Which addresses a question is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const fn qtype(self) -> QTYPE {
        QTYPE::TYPE(match self {
            Self::V4 => TYPE::A,
            Self::V6 => TYPE::AAAA,
        })
    }
}

/// What a server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses of the family; none if the name has others only.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    Absent,
    /// It does not fit into a datagram and is to be asked for over TCP.
    Truncated,
    /// The server cannot or may not say.
    Refused,
}

/// Returns the bytes of a question, or `None` for what cannot be a name (RFC 1035, 2.3.4).
pub(super) fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(asked(name, family)?);
    packet.build_bytes_vec().ok()
}

fn asked(name: &str, family: Family) -> Option<Question<'_>> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if !name.bytes().all(plain) || name.split('.').any(str::is_empty) {
        return None;
    }
    let class = QCLASS::CLASS(CLASS::IN);
    Some(Question::new(Name::new(name).ok()?, family.qtype(), class, false))
}

/// Reads an answer to the question with this number; `None` is an answer to something else, or noise.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, family: Family) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    let question = asked(name, family)?;
    let [asked] = packet.questions.as_slice() else { return None };
    let same = asked.qname == question.qname && asked.qtype == question.qtype;
    if packet.id() != id || !same || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    Some(match packet.rcode() {
        RCODE::NoError if packet.has_flags(PacketFlag::TRUNCATION) => Answer::Truncated,
        RCODE::NoError => Answer::Addresses(addresses(&packet, &question.qname, family)),
        RCODE::NameError => Answer::Absent,
        _ => Answer::Refused,
    })
}

/// Follows the aliases of the answer from the name to its addresses.
fn addresses(packet: &Packet<'_>, name: &Name<'_>, family: Family) -> Vec<IpAddr> {
    let mut name = name.clone();
    for _ in 0..ALIASES_MAX {
        let of_name = packet.answers.iter().filter(|record| record.name == name);
        let address = |data: &RData<'_>| match (family, data) {
            (Family::V4, RData::A(a)) => Some(Ipv4Addr::from(a.address).into()),
            (Family::V6, RData::AAAA(aaaa)) => Some(Ipv6Addr::from(aaaa.address).into()),
            _ => None,
        };
        let found: Vec<IpAddr> =
            of_name.clone().filter_map(|record| address(&record.rdata)).collect();
        let alias = of_name.filter_map(|record| match &record.rdata {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        match alias.take(1).next() {
            Some(alias) if found.is_empty() => name = alias,
            _ => return found,
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    use super::*;

    fn record<'a>(name: &'a str, data: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 60, data)
    }

    fn reply(name: &'static str, records: Vec<ResourceRecord<'static>>) -> Packet<'static> {
        let mut packet = Packet::new_reply(7);
        packet.questions.push(asked(name, Family::V4).unwrap());
        packet.answers = records;
        packet
    }

    fn read(packet: &Packet<'_>, name: &str) -> Option<Answer> {
        answer(&packet.build_bytes_vec_compressed().unwrap(), 7, name, Family::V4)
    }

    #[test]
    fn aliases_lead_to_addresses() {
        let alias = CNAME(Name::new("c.example").unwrap());
        let packet = reply(
            "a.example",
            vec![
                record("C.example", RData::A(A { address: 0x0a00_0001 })),
                record("a.example", RData::CNAME(alias)),
                record("other.example", RData::A(A { address: 1 })),
                record("c.example", RData::AAAA(AAAA { address: 1 })),
            ],
        );
        let found = Answer::Addresses(vec![IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(read(&packet, "A.example"), Some(found));
    }

    #[test]
    fn a_circle_of_aliases_ends() {
        let alias = |to| RData::CNAME(CNAME(Name::new(to).unwrap()));
        let packet = reply("a", vec![record("a", alias("b")), record("b", alias("a"))]);
        assert_eq!(read(&packet, "a"), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn what_answers_another_question_is_noise() {
        let packet = reply("a", Vec::new());
        assert_eq!(read(&packet, "b"), None);
        let bytes = packet.build_bytes_vec().unwrap();
        assert_eq!(answer(&bytes, 8, "a", Family::V4), None);
        assert_eq!(answer(&bytes, 7, "a", Family::V6), None);
        assert_eq!(answer(&question(7, "a", Family::V4).unwrap(), 7, "a", Family::V4), None);
    }

    #[test]
    fn failures_are_told_apart() {
        for (code, expected) in [
            (RCODE::NameError, Answer::Absent),
            (RCODE::ServerFailure, Answer::Refused),
            (RCODE::Refused, Answer::Refused),
        ] {
            let mut packet = reply("a", Vec::new());
            *packet.rcode_mut() = code;
            assert_eq!(read(&packet, "a"), Some(expected));
        }
        let mut packet = reply("a", Vec::new());
        packet.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(read(&packet, "a"), Some(Answer::Truncated));
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked_for() {
        let long = "a".repeat(64);
        for name in ["", ".", "a..b", "a b", "\u{e9}", "a\\.b", long.as_str()] {
            assert_eq!(question(1, name, Family::V4), None, "{name}");
        }
    }

    #[test]
    fn damaged_answers_never_panic() {
        let alias = CNAME(Name::new("c.example").unwrap());
        let packet = reply(
            "a.example",
            vec![
                record("a.example", RData::CNAME(alias)),
                record("c.example", RData::A(A { address: 1 })),
            ],
        );
        let bytes = packet.build_bytes_vec_compressed().unwrap();
        corten_testkit::mutations(&bytes, |damaged| {
            answer(damaged, 7, "a.example", Family::V4);
        });
    }
}
