//! Messages of the domain name system (RFC 1035), as far as a server of a few names needs them.
//!
//! A query has one question, and it may have an `OPT` record (RFC 6891) that says how long an answer may
//! be. Everything else that a query could hold is passed over. Names of a question are never compressed:
//! there is nothing before them that they could share. Pure, and total: no bytes make it fail otherwise
//! than by a [`Refusal`].

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;

/// The longest name, and the longest part of one (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// What an answer may have where a query says nothing, and at most what we send: more would be cut
/// into fragments on the usual networks.
const DATAGRAM_BYTES: usize = 512;
const DATAGRAM_BYTES_MAX: usize = 1232;

/// So many records are looked at for the one that says how long an answer may be.
const RECORDS_MAX: usize = 32;

/// How long others may remember an answer: containers come and go.
const TIME_TO_LIVE_S: u32 = 5;

// Kinds of records.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
pub(super) const PTR: u16 = 12;
pub(super) const ANY: u16 = 255;
const OPT: u16 = 41;

/// The class of the internet.
const INTERNET: u16 = 1;

// Codes of answers.
const FORM_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
const NO_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

// Bits of the second half of a header's first line.
const IS_ANSWER: u8 = 0x80;
const OPERATION: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

/// A query that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query<'a> {
    id: [u8; 2],
    recursion_desired: bool,
    /// The question as it stands in the message.
    question: &'a [u8],
    /// The name in lower case, parts with dots between; `None` if it has bytes that ours do not have.
    pub(super) name: Option<String>,
    pub(super) kind: u16,
    pub(super) is_internet: bool,
    /// How many bytes an answer may have, if the query says so.
    payload_bytes: Option<u16>,
}

impl Query<'_> {
    /// Returns how many bytes an answer may have that is one datagram.
    pub(super) fn datagram_bytes(&self) -> usize {
        let asked = self.payload_bytes.map_or(DATAGRAM_BYTES, usize::from);
        asked.clamp(DATAGRAM_BYTES, DATAGRAM_BYTES_MAX)
    }
}

/// Why a message is not answered with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no query: an answer could be the beginning of an endless talk.
    Silence,
    /// It is one that is wrong, or for which there is no answer.
    Code(u8),
}

/// A record of an answer; its name is that of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ptr(String),
}

/// Reads a query.
pub(super) fn parse(bytes: &[u8]) -> Result<Query<'_>, Refusal> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Refusal::Silence)?;
    let [id0, id1, flags, _, q0, q1, a0, a1, n0, n1, x0, x1] = *header;
    if flags & IS_ANSWER != 0 {
        return Err(Refusal::Silence);
    }
    if flags & OPERATION != 0 {
        return Err(Refusal::Code(NOT_IMPLEMENTED));
    }
    let form_error = Refusal::Code(FORM_ERROR);
    if u16::from_be_bytes([q0, q1]) != 1 {
        return Err(form_error);
    }
    let rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let (name, name_bytes) = read_name(rest).ok_or(form_error)?;
    let kind = short(rest, name_bytes).ok_or(form_error)?;
    let class = short(rest, name_bytes + 2).ok_or(form_error)?;
    let question = rest.get(..name_bytes + 4).ok_or(form_error)?;
    let records =
        [[a0, a1], [n0, n1], [x0, x1]].map(|count| usize::from(u16::from_be_bytes(count)));
    let payload_bytes = find_payload(rest.get(question.len()..).unwrap_or_default(), records);
    Ok(Query {
        id: [id0, id1],
        recursion_desired: flags & RECURSION_DESIRED != 0,
        question,
        name,
        kind,
        is_internet: class == INTERNET,
        payload_bytes,
    })
}

/// Reads a name without compression: its text, where all of it is what names of ours are made of, and its
/// length in the message.
fn read_name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let mut text = Some(String::new());
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((text, at));
        }
        if length > LABEL_BYTES_MAX || at + length >= NAME_BYTES_MAX {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        at += length;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        text = text.filter(|_| label.iter().all(plain));
        if let Some(text) = &mut text {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
    }
}

/// Looks for the record that says how long an answer may be; what is not understood says nothing.
fn find_payload(mut bytes: &[u8], [answers, authorities, others]: [usize; 3]) -> Option<u16> {
    let count = answers.checked_add(authorities)?.checked_add(others)?;
    for _ in 0..count.min(RECORDS_MAX) {
        let name_bytes = skip_name(bytes)?;
        let kind = short(bytes, name_bytes)?;
        if kind == OPT {
            return short(bytes, name_bytes + 2);
        }
        let data_bytes = usize::from(short(bytes, name_bytes + 8)?);
        bytes = bytes.get(name_bytes + 10 + data_bytes..)?;
    }
    None
}

/// Returns the length of a name that may be compressed.
fn skip_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            // The rest of the name is somewhere else.
            0xc0.. => return Some(at + 2),
            length if usize::from(length) <= LABEL_BYTES_MAX => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes an answer with these records, as many as have room.
pub(super) fn answer(query: &Query<'_>, records: &[Record], limit_bytes: usize) -> Vec<u8> {
    let opt_bytes = if query.payload_bytes.is_some() { OPT_RECORD.len() } else { 0 };
    let mut body = Vec::new();
    let mut count: u16 = 0;
    let mut is_whole = true;
    for record in records {
        let record = write_record(record, query.kind);
        let all = HEADER_BYTES + query.question.len() + body.len() + record.len() + opt_bytes;
        if all > limit_bytes || count == u16::MAX {
            is_whole = false;
            break;
        }
        body.extend(record);
        count += 1;
    }
    let truncated = if is_whole { 0 } else { TRUNCATED };
    message(query, truncated | AUTHORITATIVE, 0, (count, &body))
}

/// Writes that there is no such name.
pub(super) fn no_name(query: &Query<'_>) -> Vec<u8> {
    message(query, AUTHORITATIVE, NO_NAME, (0, &[]))
}

/// Our side's record of how long a datagram may be: the root's name, `OPT`, the bytes, nothing else.
const OPT_RECORD: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

fn message(query: &Query<'_>, flags: u8, code: u8, (count, body): (u16, &[u8])) -> Vec<u8> {
    let recursion = if query.recursion_desired { RECURSION_DESIRED } else { 0 };
    let others: u16 = query.payload_bytes.is_some().into();
    let mut bytes = query.id.to_vec();
    bytes.extend([IS_ANSWER | flags | recursion, RECURSION_AVAILABLE | code]);
    for count in [1, count, 0, others] {
        bytes.extend(count.to_be_bytes());
    }
    bytes.extend(query.question);
    bytes.extend(body);
    if query.payload_bytes.is_some() {
        bytes.extend(OPT_RECORD);
    }
    bytes
}

/// Answers a message that is no good query, or that nobody could answer, with nothing but a code.
pub(super) fn refuse(bytes: &[u8], code: u8) -> Vec<u8> {
    if let Ok(query) = parse(bytes) {
        return message(&query, 0, code, (0, &[]));
    }
    let mut answer = vec![0; HEADER_BYTES];
    if let (Some(id), Some(head)) = (bytes.get(..2), answer.get_mut(..2)) {
        head.copy_from_slice(id);
    }
    let asked = bytes.get(2).copied().unwrap_or_default() & (OPERATION | RECURSION_DESIRED);
    if let Some(flags) = answer.get_mut(2..4) {
        flags.copy_from_slice(&[IS_ANSWER | asked, RECURSION_AVAILABLE | code]);
    }
    answer
}

/// A name, as that of the question; kind, class, time to live, and the data with its length.
fn write_record(record: &Record, asked: u16) -> Vec<u8> {
    let (kind, data) = match record {
        Record::A(address) => (A, address.octets().to_vec()),
        Record::Aaaa(address) => (AAAA, address.octets().to_vec()),
        Record::Ptr(name) => (PTR, write_name(name)),
    };
    debug_assert!(asked == kind || asked == ANY, "records are of the kind that was asked for");
    let mut bytes = vec![0xc0, 0x0c];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes.extend(TIME_TO_LIVE_S.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Writes a name; parts that no name can have are left out.
fn write_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        let fits = bytes.len() + label.len() + 2 <= NAME_BYTES_MAX;
        if let Ok(length) = u8::try_from(label.len())
            && (1..=LABEL_BYTES_MAX).contains(&label.len())
            && fits
        {
            bytes.push(length);
            bytes.extend(label.as_bytes());
        }
    }
    bytes.push(0);
    bytes
}

/// Returns true if a message answers the question of another one, which has the same number but for
/// what was put in its place.
pub(super) fn is_answer_to(answer: &[u8], query: &[u8]) -> bool {
    let Ok(asked) = parse(query) else { return false };
    let question = answer.get(HEADER_BYTES..HEADER_BYTES + asked.question.len());
    answer.first_chunk::<2>() == query.first_chunk::<2>()
        && answer.get(2).is_some_and(|flags| flags & IS_ANSWER != 0)
        // A server that refuses a form need not repeat the question.
        && (short(answer, 4) == Some(0)
            || question.is_some_and(|known| known.eq_ignore_ascii_case(asked.question)))
}

#[cfg(test)]
pub(super) mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    /// A query as a resolver writes it.
    pub(in super::super) fn query(name: &str, kind: u16, payload_bytes: Option<u16>) -> Vec<u8> {
        let others = u8::from(payload_bytes.is_some());
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, others];
        bytes.extend(write_name(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        if let Some(payload) = payload_bytes {
            bytes.extend([0, 0, 41]);
            bytes.extend(payload.to_be_bytes());
            bytes.extend([0; 6]);
        }
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        let mut text = String::new();
        for (index, byte) in bytes.iter().enumerate() {
            let gap = if index > 0 && index % 4 == 0 { " " } else { "" };
            text += &format!("{gap}{byte:02x}");
        }
        text
    }

    #[test]
    fn a_query_is_read() {
        let bytes = query("DB.Web", AAAA, Some(4096));
        let query = parse(&bytes).unwrap();
        assert_eq!(query.name.as_deref(), Some("db.web"));
        assert_eq!((query.kind, query.is_internet), (AAAA, true));
        assert_eq!(query.datagram_bytes(), DATAGRAM_BYTES_MAX);
        let bytes = super::tests::query("db", A, None);
        assert_eq!(parse(&bytes).unwrap().datagram_bytes(), DATAGRAM_BYTES);
    }

    #[test]
    fn an_answer_is_written_byte_for_byte() {
        let bytes = query("db", A, None);
        let records = [Record::A(Ipv4Addr::new(10, 216, 0, 2))];
        let bytes = answer(&parse(&bytes).unwrap(), &records, 512);
        expect!["12348580 00010001 00000000 02646200 00010001 c00c0001 00010000 00050004 0ad80002"]
            .assert_eq(&hex(&bytes));
        let bytes = query("2.0.216.10.in-addr.arpa", PTR, Some(1232));
        let records = [Record::Ptr("db.web".to_owned())];
        let bytes = answer(&parse(&bytes).unwrap(), &records, 512);
        expect!["12348580 00010001 00000001 01320130 03323136 02313007 696e2d61 64647204 61727061 00000c00 01c00c00 0c000100 00000500 08026462 03776562 00000029 04d00000 00000000"]
            .assert_eq(&hex(&bytes));
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        let bytes = query("db", A, None);
        let query = parse(&bytes).unwrap();
        let records: Vec<Record> =
            (0..100).map(|last| Record::A(Ipv4Addr::new(10, 0, 0, last))).collect();
        let short = answer(&query, &records, 512);
        assert!(short.len() <= 512 && short[2] & TRUNCATED != 0);
        let long = answer(&query, &records, 65_535);
        assert!(long.len() > 512 && long[2] & TRUNCATED == 0);
    }

    #[test]
    fn what_is_no_query_is_met_with_silence_or_a_code() {
        let good = query("db", A, None);
        assert_eq!(parse(&[]), Err(Refusal::Silence));
        assert_eq!(parse(&good[..11]), Err(Refusal::Silence));
        let mut an_answer = good.clone();
        an_answer[2] |= IS_ANSWER;
        assert_eq!(parse(&an_answer), Err(Refusal::Silence));
        let mut an_update = good.clone();
        an_update[2] |= 5 << 3;
        assert_eq!(parse(&an_update), Err(Refusal::Code(NOT_IMPLEMENTED)));
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(parse(&two), Err(Refusal::Code(FORM_ERROR)));
        assert_eq!(parse(&good[..good.len() - 1]), Err(Refusal::Code(FORM_ERROR)));
        let mut a_loop = good[..12].to_vec();
        a_loop.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        assert_eq!(parse(&a_loop), Err(Refusal::Code(FORM_ERROR)));
        assert_eq!(hex(&refuse(&a_loop, FORM_ERROR)), "12348181 00000000 00000000");
    }

    #[test]
    fn a_name_of_other_bytes_is_nobody_of_ours() {
        let mut bytes = query("db", A, None);
        bytes[13] = b'\n';
        assert_eq!(parse(&bytes).unwrap().name, None);
        bytes[13] = b'.';
        assert_eq!(parse(&bytes).unwrap().name, None);
    }

    #[test]
    fn a_long_name_is_refused() {
        let label = "a".repeat(63);
        let long = [label.as_str(); 5].join(".");
        let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in long.split('.') {
            bytes.push(63);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        assert_eq!(parse(&bytes), Err(Refusal::Code(FORM_ERROR)));
    }

    #[test]
    fn an_answer_belongs_to_its_question() {
        let asked = query("db", A, None);
        let own = answer(&parse(&asked).unwrap(), &[], 512);
        assert!(is_answer_to(&own, &asked));
        assert!(!is_answer_to(&own, &query("dc", A, None)));
        assert!(!is_answer_to(&asked, &asked), "a question is no answer");
        let mut other = own.clone();
        other[0] ^= 1;
        assert!(!is_answer_to(&other, &asked), "another number");
        assert!(is_answer_to(&refuse(&own[..12], FORM_ERROR), &asked), "without the question");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..600)) {
            check(&bytes)?;
        }

        #[test]
        fn no_change_of_a_query_makes_it_panic(
            changes in proptest::collection::vec((0_usize..60, 0_u8..), 0..8),
            length in 0_usize..70,
            payload in proptest::option::of(0_u16..),
        ) {
            let mut bytes = query("db.web-front.example", A, payload);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(length);
            check(&bytes)?;
        }
    }

    /// What must hold whatever comes.
    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        let refused = refuse(bytes, SERVER_FAILURE);
        prop_assert!(refused.len() >= HEADER_BYTES && refused[2] & IS_ANSWER != 0);
        is_answer_to(bytes, bytes);
        if let Ok(query) = parse(bytes) {
            let query = Query { kind: A, ..query };
            let records = vec![Record::A(Ipv4Addr::LOCALHOST); 50];
            let limit = query.datagram_bytes();
            let answer = answer(&query, &records, limit);
            prop_assert!(answer.len() <= limit.max(HEADER_BYTES + query.question.len() + 11));
            prop_assert!(is_answer_to(&no_name(&query), bytes));
        }
        Ok(())
    }
}
