//! As much of D-Bus as one call needs: messages of version 1, little-endian, over a socket on which the
//! service itself listens.
//!
//! Format: D-Bus specification, "Authentication Protocol", "Marshaling (Wire Format)" and "Message
//! Protocol". What writes is pure.

use std::io::{self, Read, Write};

/// The specification's limit is 128 MiB; the answers to our calls are short.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Signals that the service may send before its answer.
const OTHERS_MAX: usize = 100;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The types of the body.
    pub(super) signature: &'a str,
}

/// Values one after the other, each aligned as its type asks for.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// A string or the path of an object.
    pub(super) fn text(&mut self, text: &str) {
        self.number(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.byte(u8::try_from(text.len()).expect("our signatures are short"));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements begin at multiples of `alignment`.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let bytes = length(self.0.len() - start).to_le_bytes();
        self.0[place..place + 4].copy_from_slice(&bytes);
    }

    /// A structure of a name and a value of any type, `(sv)`.
    pub(super) fn property(&mut self, name: &str, signature: &str, fill: impl FnOnce(&mut Self)) {
        self.align(8);
        self.text(name);
        self.signature(signature);
        fill(self);
    }

    /// A header field, `(yv)`, whose value is a text.
    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.byte(code);
        self.signature(signature);
        match signature {
            "g" => self.signature(value),
            _ => self.text(value),
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("our messages are short")
}

/// Returns the bytes of a call.
fn message(call: Call<'_>, serial: u32, body: &Body) -> Vec<u8> {
    let mut header = Body(vec![b'l', METHOD_CALL, 0, 1]);
    header.number(length(body.0.len()));
    header.number(serial);
    header.array(8, |fields| {
        fields.field(PATH, "o", call.path);
        fields.field(DESTINATION, "s", call.destination);
        fields.field(INTERFACE, "s", call.interface);
        fields.field(MEMBER, "s", call.member);
        fields.field(SIGNATURE, "g", call.signature);
    });
    header.align(8);
    [header.0.as_slice(), body.0.as_slice()].concat()
}

/// Says who we are, and waits until that is believed.
pub(super) fn authenticate(stream: &mut (impl Read + Write), user: u32) -> io::Result<()> {
    // The digits of the number, as the numbers of their letters.
    let mut words = b"\0AUTH EXTERNAL ".to_vec();
    for digit in user.to_string().bytes() {
        words.extend([b'3', digit]);
    }
    words.extend(b"\r\n");
    stream.write_all(&words)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > 512 {
            return Err(garbled());
        }
    }
    if !line.starts_with(b"OK ") {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    stream.write_all(b"BEGIN\r\n")
}

/// Makes a call and waits for its answer, whose content is passed over; a refusal is an error with the
/// service's words.
pub(super) fn call(
    stream: &mut (impl Read + Write),
    call: Call<'_>,
    body: &Body,
) -> io::Result<()> {
    const SERIAL: u32 = 1;
    stream.write_all(&message(call, SERIAL, body))?;
    for _ in 0..OTHERS_MAX {
        let answer = Answer::read(stream)?;
        if answer.reply_serial()? != Some(SERIAL) {
            continue;
        }
        return match answer.kind {
            METHOD_RETURN => Ok(()),
            ERROR => Err(io::Error::other(answer.text().unwrap_or_else(|| "refused".to_owned()))),
            _ => Err(garbled()),
        };
    }
    Err(garbled())
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is no message of D-Bus")
}

/// A message from the service.
struct Answer {
    kind: u8,
    /// The array of header fields, without its length; its first byte is at a multiple of 8.
    fields: Vec<u8>,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut start = [0; 16];
        stream.read_exact(&mut start)?;
        if start[0] != b'l' || start[3] != 1 {
            return Err(garbled());
        }
        let body_bytes = u32_at(&start, 4).ok_or_else(garbled)?;
        let field_bytes = u32_at(&start, 12).ok_or_else(garbled)?;
        if field_bytes.saturating_add(body_bytes) > MESSAGE_BYTES_MAX {
            return Err(garbled());
        }
        let mut fields = vec![0; field_bytes.next_multiple_of(8)];
        stream.read_exact(&mut fields)?;
        fields.truncate(field_bytes);
        let mut body = vec![0; body_bytes];
        stream.read_exact(&mut body)?;
        Ok(Self { kind: start[1], fields, body })
    }

    /// The number of the call that is answered.
    fn reply_serial(&self) -> io::Result<Option<u32>> {
        let mut at = 0;
        while at < self.fields.len() {
            at = at.next_multiple_of(8);
            let Some([code, length, rest @ ..]) = self.fields.get(at..) else { break };
            let signature = rest.get(..usize::from(*length)).ok_or_else(garbled)?;
            // The code, the signature's length, itself and its end.
            let value = at + 3 + signature.len();
            let number = |at: usize| u32_at(&self.fields, at.next_multiple_of(4));
            at = match signature {
                b"u" => {
                    if *code == REPLY_SERIAL {
                        let serial = number(value).ok_or_else(garbled)?;
                        return Ok(Some(u32::try_from(serial).map_err(|_| garbled())?));
                    }
                    value.next_multiple_of(4) + 4
                }
                b"s" | b"o" => {
                    let length = number(value).ok_or_else(garbled)?;
                    value.next_multiple_of(4).saturating_add(length).saturating_add(5)
                }
                b"g" => value + usize::from(*self.fields.get(value).ok_or_else(garbled)?) + 2,
                _ => return Err(garbled()),
            };
        }
        Ok(None)
    }

    /// The string with which the body begins, if it does.
    fn text(&self) -> Option<String> {
        let length = u32_at(&self.body, 0)?;
        let bytes = self.body.get(4..4_usize.checked_add(length)?)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    let value = u32::from_le_bytes(bytes.try_into().ok()?);
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the service would say, and what it is told.
    struct Wire {
        incoming: io::Cursor<Vec<u8>>,
        outgoing: Vec<u8>,
    }

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.incoming.read(buffer)
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.outgoing.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wire(incoming: &[u8]) -> Wire {
        Wire { incoming: io::Cursor::new(incoming.to_vec()), outgoing: Vec::new() }
    }

    const CALL: Call<'static> =
        Call { destination: "a.b", path: "/o", interface: "a.b", member: "M", signature: "s" };

    /// An answer as a service makes it: serial 9, with the given kind and body.
    fn answer(kind: u8, to: u32, body: &Body) -> Vec<u8> {
        let mut header = Body(vec![b'l', kind, 0, 1]);
        header.number(length(body.0.len()));
        header.number(9);
        header.array(8, |fields| {
            fields.field(SIGNATURE, "g", "s");
            fields.field(4, "s", "org.example.Failed");
            fields.align(8);
            fields.byte(REPLY_SERIAL);
            fields.signature("u");
            fields.number(to);
        });
        header.align(8);
        [header.0.as_slice(), body.0.as_slice()].concat()
    }

    fn said(text: &str) -> Body {
        let mut body = Body::default();
        body.text(text);
        body
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_has_it() {
        let bytes = message(CALL, 7, &said("hi"));
        let mut expected = vec![b'l', 1, 0, 1, 7, 0, 0, 0, 7, 0, 0, 0, 71, 0, 0, 0];
        // Each field begins at a multiple of 8.
        expected.extend(b"\x01\x01o\0\x02\0\0\0/o\0\0\0\0\0\0");
        expected.extend(b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0");
        expected.extend(b"\x02\x01s\0\x03\0\0\0a.b\0\0\0\0\0");
        expected.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        expected.extend(b"\x08\x01g\0\x01s\0\0");
        expected.extend(b"\x02\0\0\0hi\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn arrays_count_their_elements_without_the_padding_before() {
        let mut body = Body::default();
        body.array(8, |list| list.property("P", "au", |value| value.array(4, |v| v.number(5))));
        let expected = [
            20, 0, 0, 0, 0, 0, 0, 0, // length, padding
            1, 0, 0, 0, b'P', 0, 2, b'a', b'u', 0, 0, 0, // name, signature, padding
            4, 0, 0, 0, 5, 0, 0, 0,
        ];
        assert_eq!(body.0, expected);
    }

    #[test]
    fn who_we_are_is_told_by_number() {
        let mut believed = wire(b"OK 1234\r\n");
        authenticate(&mut believed, 1000).unwrap();
        assert_eq!(believed.outgoing, b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n");
        let refused = authenticate(&mut wire(b"REJECTED EXTERNAL\r\n"), 1000).unwrap_err();
        assert_eq!(refused.to_string(), "REJECTED EXTERNAL");
    }

    #[test]
    fn the_answer_to_the_call_counts_and_no_other() {
        let signal = answer(4, 7, &said("news"));
        let done = answer(METHOD_RETURN, 1, &said("/job/1"));
        call(&mut wire(&[signal.clone(), done].concat()), CALL, &said("x")).unwrap();
        let failed = answer(ERROR, 1, &said("no such unit"));
        let error = call(&mut wire(&[signal, failed].concat()), CALL, &said("x")).unwrap_err();
        assert_eq!(error.to_string(), "no such unit");
    }

    #[test]
    fn damaged_answers_are_errors() {
        let bytes = answer(ERROR, 1, &said("no such unit"));
        corten_testkit::mutations(&bytes, |damaged| {
            // Some are still answers; none panics or asks for much memory.
            call(&mut wire(damaged), CALL, &said("x")).unwrap_or_default();
        });
    }
}
