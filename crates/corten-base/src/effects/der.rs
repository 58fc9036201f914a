//! As much of certificates as the names of hash links need.

use sha1::Digest as _;

/// The tags that are needed.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Returns the DER of the first certificate in a PEM text.
pub(super) fn pem_to_der(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in body.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// Returns the hash by which OpenSSL finds a certificate: the first four bytes, in little endian, of
/// the SHA-1 of the subject in canonical form.
pub(super) fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let (tag, certificate, _) = element(certificate)?;
    let (inner, tbs, _) = element(certificate)?;
    if tag != SEQUENCE || inner != SEQUENCE {
        return None;
    }
    let mut rest = tbs;
    if tbs.first() == Some(&EXPLICIT_VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer, validity; then the subject.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (tag, subject, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    let digest = sha1::Sha1::digest(canonical_name(subject)?);
    let first: [u8; 4] = digest.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(first))
}

/// Splits off one element: its tag, its content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, rest) = match bytes {
        [tag, length @ 0..=0x7f, rest @ ..] | [tag, 0x81, length, rest @ ..] => {
            (*tag, usize::from(*length), rest)
        }
        [tag, 0x82, high, low, rest @ ..] => {
            (*tag, usize::from(*high) << 8 | usize::from(*low), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) -> Option<()> {
    out.push(tag);
    match u16::try_from(content.len()).ok()? {
        length @ 0..=0x7f => out.push(u8::try_from(length).ok()?),
        length @ 0x80..=0xff => out.extend_from_slice(&[0x81, u8::try_from(length).ok()?]),
        length => {
            out.push(0x82);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    Some(())
}

/// OpenSSL's canonical form: texts as UTF-8 in lower case with blanks folded, without the outermost
/// sequence.
fn canonical_name(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !name.is_empty() {
        let (tag, mut set, rest) = element(name)?;
        if tag != SET {
            return None;
        }
        let mut members = Vec::new();
        while !set.is_empty() {
            let (_, attribute, rest) = element(set)?;
            let (oid_tag, oid, value) = element(attribute)?;
            let (tag, value, _) = element(value)?;
            let mut inner = Vec::new();
            put(&mut inner, oid_tag, oid)?;
            match canonical_text(tag, value) {
                Some(text) => put(&mut inner, UTF8_STRING, &text)?,
                None => put(&mut inner, tag, value)?,
            }
            let mut member = Vec::new();
            put(&mut member, SEQUENCE, &inner)?;
            members.push(member);
            set = rest;
        }
        members.sort();
        put(&mut out, SET, &members.concat())?;
        name = rest;
    }
    Some(out)
}

/// Returns nothing for types that are not text, which stay as they are.
fn canonical_text(tag: u8, value: &[u8]) -> Option<Vec<u8>> {
    let latin = |value: &[u8]| value.iter().map(|byte| char::from(*byte)).collect::<String>();
    let text = match tag {
        UTF8_STRING => String::from_utf8(value.to_vec()).ok()?,
        // Printable, T61 (which OpenSSL reads as Latin-1), IA5 and Visible strings.
        0x13 | 0x14 | 0x16 | 0x1a => latin(value),
        // BMP string.
        0x1e => {
            let units: Vec<u16> = value
                .chunks_exact(2)
                .map(|pair| u16::from(pair[0]) << 8 | u16::from(pair[1]))
                .collect();
            String::from_utf16(&units).ok()?
        }
        _ => return None,
    };
    let folded = text.split(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let folded: Vec<&str> = folded.filter(|word| !word.is_empty()).collect();
    Some(folded.join(" ").to_ascii_lowercase().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_folded_before_they_are_hashed() {
        assert_eq!(canonical_text(0x13, b"  ISRG \t Root  X1 ").unwrap(), b"isrg root x1");
        assert_eq!(canonical_text(0x1e, &[0, b'A', 0, 0xe9]).unwrap(), "a\u{e9}".as_bytes());
        assert_eq!(canonical_text(0x02, b"1"), None);
    }

    #[test]
    fn lengths_of_all_forms_are_read_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let content = vec![5; length];
            let mut out = Vec::new();
            put(&mut out, SET, &content).unwrap();
            assert_eq!(element(&out), Some((SET, content.as_slice(), &[][..])));
        }
        assert_eq!(element(&[0x30, 0x05, 1]), None);
        assert_eq!(element(&[]), None);
    }

    #[test]
    fn a_name_is_hashed_as_openssl_does() {
        // The subject `CN=Corten  TEST ` within a certificate of which nothing else matters;
        // expected: `openssl x509 -subject_hash` of a certificate with this subject.
        let mut attribute = Vec::new();
        put(&mut attribute, 0x06, &[0x55, 4, 3]).unwrap();
        put(&mut attribute, UTF8_STRING, b"Corten  TEST ").unwrap();
        let wrap = |tag, content: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, tag, content).unwrap();
            out
        };
        let name = wrap(SEQUENCE, &wrap(SET, &wrap(SEQUENCE, &attribute)));
        let filler = [
            wrap(EXPLICIT_VERSION, &[2, 1, 2]),
            wrap(2, &[1]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
        ];
        let certificate = wrap(SEQUENCE, &wrap(SEQUENCE, &[filler.concat(), name].concat()));
        assert_eq!(subject_hash(&certificate), Some(0xdd06_47b7));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(0_u8.., 0..64), text in "[A-Za-z0-9+/=\n -]{0,64}") {
            subject_hash(&bytes);
            pem_to_der(&format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"));
        }
    }
}
