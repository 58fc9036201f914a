//! Netlink messages as bytes: a builder, and readers that never trust a length.
//!
//! A message is a header of 16 bytes, a header of the protocol (`ifinfomsg`, `nfgenmsg`, …) and
//! attributes. An attribute is a length and a kind of two bytes each, then the value, padded to
//! four bytes; a nested attribute holds attributes as its value. Numbers are in the byte order of
//! the machine, except where a protocol says otherwise (nftables: big endian).
//!
//! What comes from the kernel is read with the same care as what comes from anywhere: a length
//! that does not fit ends the reading, it does not panic.

/// Bytes of a message's header (`struct nlmsghdr`).
pub(super) const HEADER_BYTES: usize = 16;

/// Bytes of an attribute's header (`struct nlattr`).
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// The two upper bits of an attribute's kind are flags (nested, network byte order).
const ATTRIBUTE_KIND_MASK: u16 = 0x3fff;

/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// Rounds up to the four bytes that netlink aligns everything to.
const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Builds one or more messages that are sent in one call.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    message_start: usize,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Starts a message; the one before it is finished.
    pub(super) fn message(&mut self, kind: u16, flags: u16, sequence: u32) -> &mut Self {
        self.message_start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // The port of the sender; the kernel knows it from the socket.
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.close(self.message_start);
        self
    }

    /// Adds the header of the protocol.
    pub(super) fn header(&mut self, header: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(header);
        self.pad();
        self.close(self.message_start);
        self
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open_attribute(kind);
        self.bytes.extend_from_slice(value);
        self.close_attribute(start);
        self
    }

    /// Adds a number in the byte order of the machine.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order.
    pub(super) fn number_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds text with the zero byte that the kernel expects at its end.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open_attribute(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close_attribute(start);
        self
    }

    /// Adds an attribute whose value is written by `fill`.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open_attribute(kind | NESTED);
        fill(self);
        self.close_attribute(start);
        self
    }

    /// Adds bytes as they are, inside of [`Self::nested`].
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the bytes as text, four to a word.
    #[cfg(test)]
    pub(super) fn words(&self) -> String {
        let mut text = String::new();
        for (index, byte) in self.bytes.iter().enumerate() {
            let gap = if index > 0 && index % 4 == 0 { " " } else { "" };
            text += &format!("{gap}{byte:02x}");
        }
        text
    }

    fn open_attribute(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close_attribute(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start)
            .expect("an attribute holds names, addresses and rules, far below 64 KiB");
        if let Some(field) = self.bytes.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
        self.close(self.message_start);
    }

    fn close(&mut self, start: usize) {
        let length = u32::try_from(self.bytes.len() - start)
            .expect("a message is built from attributes below 64 KiB");
        if let Some(field) = self.bytes.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

/// One message as the kernel sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the header of the protocol and the attributes behind it.
    pub(super) fn split(&self, header_bytes: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let header = self.payload.get(..header_bytes)?;
        let rest = self.payload.get(align(header_bytes)..).unwrap_or_default();
        Some((header, Attributes(rest)))
    }
}

/// The messages of one datagram; ends at the first length that does not fit.
#[derive(Debug, Clone)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = usize::try_from(number(bytes, 0)?).ok()?;
        let payload = bytes.get(HEADER_BYTES..length)?;
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some(Message {
            kind: short(bytes, 4)?,
            flags: short(bytes, 6)?,
            sequence: number(bytes, 8)?,
            payload,
        })
    }
}

/// Attributes, as pairs of kind and value; they end at the first length that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

/// Reads one attribute after the other.
#[derive(Debug, Clone)]
pub(super) struct AttributeReader<'a>(&'a [u8]);

impl<'a> Iterator for AttributeReader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let bytes = self.0;
        let length = usize::from(short(bytes, 0)?);
        let kind = short(bytes, 2)? & ATTRIBUTE_KIND_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// Returns the attributes one after the other.
    pub(super) fn iter(self) -> AttributeReader<'a> {
        AttributeReader(self.0)
    }

    /// Returns the value of the first attribute of this kind.
    pub(super) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// Returns the attributes inside the first attribute of this kind, or none.
    pub(super) fn inside(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }

    /// Returns a number in the byte order of the machine.
    pub(super) fn number(self, kind: u16) -> Option<u32> {
        number(self.find(kind)?, 0)
    }

    /// Returns a number in network byte order.
    pub(super) fn number_be(self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Returns text up to its zero byte; bytes that are not UTF-8 are replaced.
    pub(super) fn text(self, kind: u16) -> Option<String> {
        self.find(kind).map(text)
    }
}

/// Reads text up to its zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// Reads four bytes in the byte order of the machine.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Reads two bytes in the byte order of the machine.
pub(super) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_its_kind_and_padded_attributes() {
        let mut builder = Builder::new();
        builder.message(16, 0x0005, 7).header(&[1, 2, 3, 4]).text(3, "lo").number(4, 1400);
        let mut expected = Vec::new();
        expected.extend_from_slice(&36_u32.to_ne_bytes());
        expected.extend_from_slice(&16_u16.to_ne_bytes());
        expected.extend_from_slice(&5_u16.to_ne_bytes());
        expected.extend_from_slice(&7_u32.to_ne_bytes());
        expected.extend_from_slice(&[0; 4]);
        expected.extend_from_slice(&[1, 2, 3, 4]);
        // "lo" and its zero make seven bytes with the header, then one byte of padding.
        expected.extend_from_slice(&7_u16.to_ne_bytes());
        expected.extend_from_slice(&3_u16.to_ne_bytes());
        expected.extend_from_slice(b"lo\0\0");
        expected.extend_from_slice(&8_u16.to_ne_bytes());
        expected.extend_from_slice(&4_u16.to_ne_bytes());
        expected.extend_from_slice(&1400_u32.to_ne_bytes());
        assert_eq!(builder.as_bytes(), expected);
    }

    #[test]
    fn a_nested_attribute_counts_its_content_and_carries_the_flag() {
        let mut builder = Builder::new();
        builder.message(0, 0, 0).nested(18, |data| {
            data.number_be(1, 1);
        });
        let attribute = &builder.as_bytes()[HEADER_BYTES..];
        let mut expected = Vec::new();
        expected.extend_from_slice(&12_u16.to_ne_bytes());
        expected.extend_from_slice(&0x8012_u16.to_ne_bytes());
        expected.extend_from_slice(&8_u16.to_ne_bytes());
        expected.extend_from_slice(&1_u16.to_ne_bytes());
        expected.extend_from_slice(&[0, 0, 0, 1]);
        assert_eq!(attribute, expected);
    }

    #[test]
    fn two_messages_in_one_buffer_have_lengths_of_their_own() {
        let mut builder = Builder::new();
        builder.message(1, 0, 1).attribute(9, &[1]);
        builder.message(2, 0, 2).attribute(9, &[1, 2, 3, 4, 5]);
        let seen: Vec<_> = Messages(builder.as_bytes())
            .map(|message| (message.kind, message.sequence, message.payload.len()))
            .collect();
        assert_eq!(seen, [(1, 1, 8), (2, 2, 12)]);
    }

    #[test]
    fn what_was_built_is_read_back() {
        let mut builder = Builder::new();
        builder.message(5, 2, 9).header(&[0; 4]).text(1, "corten0").nested(2, |data| {
            data.number(3, 77).number_be(4, 78);
        });
        let message = Messages(builder.as_bytes()).next().unwrap();
        let (header, attributes) = message.split(4).unwrap();
        assert_eq!(header, [0; 4]);
        assert_eq!(attributes.text(1).as_deref(), Some("corten0"));
        assert_eq!(attributes.inside(2).number(3), Some(77));
        assert_eq!(attributes.inside(2).number_be(4), Some(78));
        assert_eq!(attributes.inside(9).number(3), None);
    }

    #[test]
    fn a_message_that_claims_more_than_there_is_ends_the_reading() {
        let mut bytes = vec![0_u8; HEADER_BYTES];
        bytes[..4].copy_from_slice(&64_u32.to_ne_bytes());
        assert_eq!(Messages(&bytes).next(), None);
    }

    #[test]
    fn a_message_shorter_than_its_header_ends_the_reading() {
        let mut bytes = vec![0_u8; HEADER_BYTES];
        bytes[..4].copy_from_slice(&8_u32.to_ne_bytes());
        assert_eq!(Messages(&bytes).next(), None);
    }

    #[test]
    fn an_attribute_of_length_zero_ends_the_reading_instead_of_looping() {
        assert_eq!(Attributes(&[0; 16]).iter().count(), 0);
    }

    #[test]
    fn a_truncated_attribute_is_not_read() {
        let mut builder = Builder::new();
        builder.message(0, 0, 0).attribute(1, &[1, 2, 3, 4]).attribute(2, &[5, 6, 7, 8]);
        let bytes = &builder.as_bytes()[HEADER_BYTES..];
        for length in 0..bytes.len() {
            let seen = Attributes(&bytes[..length]).iter().count();
            assert_eq!(seen, usize::from(length >= 8), "cut at {length}");
        }
    }

    #[test]
    fn text_without_a_zero_byte_is_read_whole() {
        assert_eq!(text(b"eth0"), "eth0");
        assert_eq!(text(b"eth0\0junk"), "eth0");
        assert_eq!(text(b""), "");
    }
}
