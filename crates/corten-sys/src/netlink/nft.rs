//! The packet filter and address translation (`nf_tables`), without the `nft` program.
//!
//! A [`Batch`] is a transaction: the kernel carries out all of it or nothing. Only the few
//! expressions that Corten's own rules are made of can be written; of foreign tables only the
//! chains, and the bytes of their rules, are read.

use std::net::{IpAddr, Ipv4Addr};

use rustix::net::netlink::NETFILTER;

use super::message::{Builder, Message};
use super::{ACKNOWLEDGE, CREATE, DUMP, NetlinkError, REQUEST, Socket, flag};

/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// Bytes of `struct nfgenmsg`: family, version, and the subsystem in network byte order.
const HEADER_BYTES: usize = 4;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u8 = 10;

/// Starts and ends a transaction (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`).
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Appends to the end of a chain instead of inserting at its beginning.
const APPEND: u16 = flag(libc::NLM_F_APPEND);

// The numbers below are from `linux/netfilter/nf_tables.h`; libc has only the first group.
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// `NFT_JUMP`, which is -3.
const JUMP: u32 = 0xffff_fffd;

const META_REGISTER: u16 = 1;
const META_KEY: u16 = 2;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_PROTOCOL: u32 = 16;

const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
/// Where the source and the destination stand in an IPv4 header.
const IPV4_SOURCE_OFFSET: u32 = 12;
const IPV4_DESTINATION_OFFSET: u32 = 16;
/// The same in an IPv6 header.
const IPV6_SOURCE_OFFSET: u32 = 8;
const IPV6_DESTINATION_OFFSET: u32 = 24;
const PAYLOAD_TRANSPORT_HEADER: u32 = 2;
/// Where the destination port stands in a header of TCP and of UDP.
const PORT_DESTINATION_OFFSET: u32 = 2;

const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATE: u32 = 0;

const BITWISE_FROM: u16 = 1;
const BITWISE_TO: u16 = 2;
const BITWISE_LENGTH: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;

const COMPARE_REGISTER: u16 = 1;
const COMPARE_OPERATION: u16 = 2;
const COMPARE_DATA: u16 = 3;

const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS_REGISTER: u16 = 3;
const NAT_PORT_REGISTER: u16 = 5;
/// `NFT_NAT_DNAT`.
const NAT_OF_DESTINATION: u32 = 1;

const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;

const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;

/// The two states of a connection whose packets are answers: established (2) and related (4).
const STATE_ANSWER: u32 = 2 | 4;
const STATE_NEW: u32 = 8;

/// The protocols that a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6 (`inet`).
    Inet,
    /// IPv4 (`ip`).
    Ipv4,
    /// IPv6 (`ip6`).
    Ipv6,
}

impl Family {
    /// Returns the name that the `nft` program uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// Where in a packet's way a chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before it is decided where the packet goes.
    Prerouting,
    /// On its way to the host itself.
    Input,
    /// On its way through the host.
    Forward,
    /// On its way from the host itself.
    Output,
    /// Before it leaves.
    Postrouting,
}

impl Hook {
    const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Lets packets pass or not.
    Filter,
    /// Changes addresses; sees the first packet of a connection only.
    Nat,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It vanishes.
    Drop,
    /// It passes this chain.
    Accept,
}

impl Verdict {
    const fn number(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
        }
    }
}

/// Whether an expression looks for the value or for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The value itself.
    Is,
    /// Anything but the value.
    IsNot,
}

/// One part of a rule; a rule does its last part to the packets that all parts before it match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expression<'a> {
    /// The interface that the packet came in by.
    InputInterface(Test, &'a str),
    /// The interface that the packet will leave by.
    OutputInterface(Test, &'a str),
    /// The packet came in by an interface whose name begins so.
    InputInterfaces(&'a str),
    /// The packet will leave by an interface whose name begins so.
    OutputInterfaces(&'a str),
    /// The network of the sender: its first address, of the table's family, and its bits.
    Source(Test, IpAddr, u8),
    /// The network of the receiver: its first address, of the table's family, and its bits.
    Destination(Test, IpAddr, u8),
    /// The protocol above IP (`IPPROTO_TCP`, `IPPROTO_UDP`) and the port of the receiver.
    Port(u8, u16),
    /// Whether the packet belongs to a connection that was let through before.
    Answer(Test),
    /// The packet begins a connection.
    New,
    /// Counts the packets; `iptables` shows a rule of its tables only with a counter.
    Counter,
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade,
    /// Sends the packet, and the rest of its connection, to this address and port.
    Redirect(Ipv4Addr, u16),
    /// Decides.
    Verdict(Verdict),
    /// Goes on with the rules of another chain of the table, and comes back.
    Jump(&'a str),
}

/// How packets reach a chain that no rule jumps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What the chain is for.
    pub kind: ChainKind,
    /// Where it is called.
    pub hook: Hook,
    /// The lower, the earlier.
    pub priority: i32,
    /// What happens to packets that its rules do not decide about.
    pub policy: Verdict,
}

/// A chain that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
    /// Where it is called; `None` for a chain that is only jumped to.
    pub hook: Option<Hook>,
    /// What happens to packets that pass all rules.
    pub policy: Option<Verdict>,
}

/// A rule that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain that it is in.
    pub chain: String,
    /// Its expressions as bytes; an interface's name stands in them as text.
    pub expressions: Vec<u8>,
}

impl Rule {
    /// Returns true if an expression holds exactly this text: an interface's name as a prefix is
    /// compared without the zero byte of a whole name.
    pub fn mentions_prefix(&self, text: &str) -> bool {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + text.len()).unwrap_or_default();
        let mut needle = length.to_ne_bytes().to_vec();
        needle.extend_from_slice(&DATA_VALUE.to_ne_bytes());
        needle.extend_from_slice(text.as_bytes());
        self.expressions.windows(needle.len()).any(|window| window == needle)
    }

    /// Returns true if an expression holds this text, followed by a zero byte.
    pub fn mentions(&self, text: &str) -> bool {
        let mut needle = text.as_bytes().to_vec();
        needle.push(0);
        self.expressions.windows(needle.len()).any(|window| window == needle)
    }
}

/// A table that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What its maker wrote into it; kernels before 5.10 do not keep it.
    pub user_data: Vec<u8>,
}

/// Changes that the kernel makes all at once or not at all.
#[derive(Debug)]
pub struct Batch {
    builder: Builder,
    sequence: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Starts an empty transaction.
    pub fn new() -> Self {
        let mut builder = Builder::new();
        // In the frame of a transaction the resource is the subsystem.
        builder.message(BATCH_BEGIN, REQUEST, 0).header(&[0, 0, 0, SUBSYSTEM]);
        Self { builder, sequence: 0 }
    }

    /// Makes a table, unless it exists.
    pub fn add_table(&mut self, family: Family, name: &str, user_data: &[u8]) -> &mut Self {
        let builder = self.message(family, NEW_TABLE, CREATE).text(TABLE_NAME, name);
        if !user_data.is_empty() {
            builder.attribute(TABLE_USERDATA, user_data);
        }
        self
    }

    /// Removes a table that exists, with all that is in it.
    pub fn remove_table(&mut self, family: Family, name: &str) -> &mut Self {
        self.message(family, DELETE_TABLE, 0).text(TABLE_NAME, name);
        self
    }

    /// Makes a chain: one that packets reach by a hook, or one that rules jump to.
    pub fn add_chain(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
        base: Option<Base>,
    ) -> &mut Self {
        let builder =
            self.message(family, NEW_CHAIN, CREATE).text(CHAIN_TABLE, table).text(CHAIN_NAME, name);
        let Some(base) = base else { return self };
        let kind = match base.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        builder
            .nested(CHAIN_HOOK, |hook| {
                hook.number_be(HOOK_NUMBER, base.hook.number())
                    .attribute(HOOK_PRIORITY, &base.priority.to_be_bytes());
            })
            .number_be(CHAIN_POLICY, base.policy.number())
            .text(CHAIN_TYPE, kind);
        self
    }

    /// Adds a rule at the end of a chain.
    pub fn append_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        expressions: &[Expression<'_>],
    ) -> &mut Self {
        self.rule(APPEND, family, table, chain, expressions)
    }

    /// Adds a rule at the beginning of a chain.
    pub fn insert_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        expressions: &[Expression<'_>],
    ) -> &mut Self {
        self.rule(0, family, table, chain, expressions)
    }

    fn rule(
        &mut self,
        flags: u16,
        family: Family,
        table: &str,
        chain: &str,
        expressions: &[Expression<'_>],
    ) -> &mut Self {
        self.message(family, NEW_RULE, CREATE | flags)
            .text(RULE_TABLE, table)
            .text(RULE_CHAIN, chain)
            .nested(RULE_EXPRESSIONS, |list| {
                for expression in expressions {
                    write_expression(list, expression);
                }
            });
        self
    }

    fn message(&mut self, family: Family, kind: u8, flags: u16) -> &mut Builder {
        self.sequence += 1;
        self.builder
            .message(message_kind(kind), REQUEST | ACKNOWLEDGE | flags, self.sequence)
            .header(&[family.number(), 0, 0, 0])
    }

    fn finish(mut self) -> (Builder, u32) {
        self.builder.message(BATCH_END, REQUEST, self.sequence + 1).header(&[0, 0, 0, SUBSYSTEM]);
        (self.builder, self.sequence)
    }
}

/// A socket to the packet filter.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
}

impl NftSocket {
    /// Opens a socket to the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(Some(NETFILTER))? })
    }

    /// Carries out a transaction, whole or not at all.
    pub fn commit(&mut self, operation: &str, batch: Batch) -> Result<(), NetlinkError> {
        let (builder, last_sequence) = batch.finish();
        // The numbers of a batch start at 1; later requests of this socket must not share them.
        self.socket.sequence = self.socket.sequence.max(last_sequence + 1);
        self.socket.request(operation, builder.as_bytes(), last_sequence, &mut |_| {})
    }

    /// Returns a table, if it exists.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<Table>, NetlinkError> {
        let sequence = self.socket.next_sequence();
        let mut builder = Builder::new();
        builder
            .message(message_kind(GET_TABLE), REQUEST | ACKNOWLEDGE, sequence)
            .header(&[family.number(), 0, 0, 0])
            .text(TABLE_NAME, name);
        let operation = format!("look up the firewall table `{} {name}`", family.name());
        let mut found = None;
        let result =
            self.socket.request(&operation, builder.as_bytes(), sequence, &mut |message| {
                found = parse_table(message);
            });
        match result {
            Err(error) if error.is_not_found() => Ok(None),
            result => result.map(|()| found),
        }
    }

    /// Lists the chains of every table of a family.
    pub fn chains(&mut self, family: Family) -> Result<Vec<Chain>, NetlinkError> {
        let build = |sequence| {
            let mut builder = Builder::new();
            builder.message(message_kind(GET_CHAIN), REQUEST | DUMP, sequence).header(&[
                family.number(),
                0,
                0,
                0,
            ]);
            builder
        };
        self.socket
            .dump("list the firewall chains", &build, &|message| parse_chain(family, message))
    }

    /// Lists the rules of a table.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<Rule>, NetlinkError> {
        let build = |sequence| {
            let mut builder = Builder::new();
            builder
                .message(message_kind(GET_RULE), REQUEST | DUMP, sequence)
                .header(&[family.number(), 0, 0, 0])
                .text(RULE_TABLE, table);
            builder
        };
        let operation = format!("list the rules of the firewall table `{table}`");
        self.socket.dump(&operation, &build, &|message| parse_rule(table, message))
    }
}

fn message_kind(kind: u8) -> u16 {
    u16::from_be_bytes([SUBSYSTEM, kind])
}

fn write_expression(list: &mut Builder, expression: &Expression<'_>) {
    match *expression {
        Expression::InputInterface(test, name) => {
            write_interface(list, META_INPUT_NAME, test, name);
        }
        Expression::OutputInterface(test, name) => {
            write_interface(list, META_OUTPUT_NAME, test, name);
        }
        Expression::InputInterfaces(prefix) => {
            load_meta(list, META_INPUT_NAME);
            compare(list, Test::Is, prefix.as_bytes());
        }
        Expression::OutputInterfaces(prefix) => {
            load_meta(list, META_OUTPUT_NAME);
            compare(list, Test::Is, prefix.as_bytes());
        }
        Expression::Source(test, network, bits) => {
            let offset = if network.is_ipv4() { IPV4_SOURCE_OFFSET } else { IPV6_SOURCE_OFFSET };
            write_network(list, offset, test, network, bits);
        }
        Expression::Destination(test, network, bits) => {
            let offset =
                if network.is_ipv4() { IPV4_DESTINATION_OFFSET } else { IPV6_DESTINATION_OFFSET };
            write_network(list, offset, test, network, bits);
        }
        Expression::Port(protocol, port) => {
            load_meta(list, META_PROTOCOL);
            compare(list, Test::Is, &[protocol]);
            load_payload(list, PAYLOAD_TRANSPORT_HEADER, PORT_DESTINATION_OFFSET, 2);
            compare(list, Test::Is, &port.to_be_bytes());
        }
        Expression::Redirect(address, port) => write_redirect(list, address, port),
        Expression::Answer(test) => write_state(list, STATE_ANSWER, test),
        Expression::New => write_state(list, STATE_NEW, Test::Is),
        Expression::Counter => element(list, "counter", |_| {}),
        Expression::Masquerade => element(list, "masq", |_| {}),
        Expression::Verdict(verdict) => write_verdict(list, |code| {
            code.number_be(VERDICT_CODE, verdict.number());
        }),
        Expression::Jump(chain) => write_verdict(list, |code| {
            code.number_be(VERDICT_CODE, JUMP).text(VERDICT_CHAIN, chain);
        }),
    }
}

fn write_verdict(list: &mut Builder, fill: impl FnOnce(&mut Builder)) {
    element(list, "immediate", |data| {
        data.number_be(IMMEDIATE_REGISTER, REGISTER_VERDICT).nested(IMMEDIATE_DATA, |value| {
            value.nested(DATA_VERDICT, fill);
        });
    });
}

fn element(list: &mut Builder, name: &str, fill: impl FnOnce(&mut Builder)) {
    list.nested(LIST_ELEMENT, |element| {
        element.text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, fill);
    });
}

fn load_meta(list: &mut Builder, key: u32) {
    element(list, "meta", |data| {
        data.number_be(META_REGISTER, REGISTER_1).number_be(META_KEY, key);
    });
}

fn load_payload(list: &mut Builder, base: u32, offset: u32, length: u32) {
    element(list, "payload", |data| {
        data.number_be(PAYLOAD_REGISTER, REGISTER_1)
            .number_be(PAYLOAD_BASE, base)
            .number_be(PAYLOAD_OFFSET, offset)
            .number_be(PAYLOAD_LENGTH, length);
    });
}

fn write_interface(list: &mut Builder, key: u32, test: Test, name: &str) {
    load_meta(list, key);
    // The name with its zero byte: this is how `iptables` writes an exact name, and it has to be
    // able to read the rules that we put into its tables.
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    compare(list, test, &value);
}

fn write_network(list: &mut Builder, offset: u32, test: Test, network: IpAddr, bits: u8) {
    match network {
        IpAddr::V4(network) => {
            load_payload(list, PAYLOAD_NETWORK_HEADER, offset, 4);
            let host_bits = u32::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
            mask(list, &(!host_bits).to_be_bytes());
            compare(list, test, &network.octets());
        }
        IpAddr::V6(network) => {
            load_payload(list, PAYLOAD_NETWORK_HEADER, offset, 16);
            let host_bits = u128::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
            mask(list, &(!host_bits).to_be_bytes());
            compare(list, test, &network.octets());
        }
    }
}

fn write_redirect(list: &mut Builder, address: Ipv4Addr, port: u16) {
    load_immediate(list, REGISTER_1, &address.octets());
    load_immediate(list, REGISTER_2, &port.to_be_bytes());
    element(list, "nat", |data| {
        data.number_be(NAT_TYPE, NAT_OF_DESTINATION)
            .number_be(NAT_FAMILY, u32::from(Family::Ipv4.number()))
            .number_be(NAT_ADDRESS_REGISTER, REGISTER_1)
            .number_be(NAT_PORT_REGISTER, REGISTER_2);
    });
}

fn load_immediate(list: &mut Builder, register: u32, value: &[u8]) {
    element(list, "immediate", |data| {
        data.number_be(IMMEDIATE_REGISTER, register).nested(IMMEDIATE_DATA, |data| {
            data.attribute(DATA_VALUE, value);
        });
    });
}

/// Tests whether a connection is in one of these states.
fn write_state(list: &mut Builder, states: u32, test: Test) {
    element(list, "ct", |data| {
        data.number_be(CT_REGISTER, REGISTER_1).number_be(CT_KEY, CT_STATE);
    });
    // The state is a number of the machine's byte order in the register.
    mask(list, &states.to_ne_bytes());
    let none_of_them = match test {
        Test::Is => Test::IsNot,
        Test::IsNot => Test::Is,
    };
    compare(list, none_of_them, &[0; 4]);
}

fn mask(list: &mut Builder, mask: &[u8]) {
    element(list, "bitwise", |data| {
        data.number_be(BITWISE_FROM, REGISTER_1)
            .number_be(BITWISE_TO, REGISTER_1)
            .number_be(BITWISE_LENGTH, u32::try_from(mask.len()).unwrap_or_default())
            .nested(BITWISE_MASK, |value| {
                value.attribute(DATA_VALUE, mask);
            })
            .nested(BITWISE_XOR, |value| {
                value.attribute(DATA_VALUE, &vec![0; mask.len()]);
            });
    });
}

fn compare(list: &mut Builder, test: Test, value: &[u8]) {
    let operation = match test {
        Test::Is => 0,
        Test::IsNot => 1,
    };
    element(list, "cmp", |data| {
        data.number_be(COMPARE_REGISTER, REGISTER_1)
            .number_be(COMPARE_OPERATION, operation)
            .nested(COMPARE_DATA, |data| {
                data.attribute(DATA_VALUE, value);
            });
    });
}

fn parse_table(message: Message<'_>) -> Option<Table> {
    if message.kind != message_kind(NEW_TABLE) {
        return None;
    }
    let (_, attributes) = message.split(HEADER_BYTES)?;
    let user_data = attributes.find(TABLE_USERDATA).unwrap_or_default().to_vec();
    Some(Table { user_data })
}

fn parse_chain(family: Family, message: Message<'_>) -> Option<Chain> {
    if message.kind != message_kind(NEW_CHAIN) {
        return None;
    }
    let (_, attributes) = message.split(HEADER_BYTES)?;
    let number = attributes.inside(CHAIN_HOOK).number_be(HOOK_NUMBER);
    let policy = attributes.number_be(CHAIN_POLICY);
    Some(Chain {
        family,
        table: attributes.text(CHAIN_TABLE)?,
        name: attributes.text(CHAIN_NAME)?,
        hook: Hook::ALL.into_iter().find(|hook| Some(hook.number()) == number),
        policy: [Verdict::Drop, Verdict::Accept]
            .into_iter()
            .find(|verdict| Some(verdict.number()) == policy),
    })
}

fn parse_rule(table: &str, message: Message<'_>) -> Option<Rule> {
    if message.kind != message_kind(NEW_RULE) {
        return None;
    }
    let (_, attributes) = message.split(HEADER_BYTES)?;
    // Kernels before 4.10 ignore the filter of the request.
    if attributes.text(RULE_TABLE)? != table {
        return None;
    }
    Some(Rule {
        chain: attributes.text(RULE_CHAIN)?,
        expressions: attributes.find(RULE_EXPRESSIONS).unwrap_or_default().to_vec(),
    })
}

/// Tries every reader on a message.
#[cfg(test)]
pub(super) fn parse_anything(message: Message<'_>) {
    drop((parse_table(message), parse_chain(Family::Ipv4, message), parse_rule("", message)));
}

#[cfg(test)]
mod tests {
    use super::super::message::{Attributes, Messages};
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_transaction_is_framed_byte_for_byte() {
        let mut batch = Batch::new();
        batch.add_table(Family::Ipv4, "corten", b"v1");
        let (builder, last) = batch.finish();
        assert_eq!(last, 1);
        assert_eq!(
            builder.words(),
            "14000000 10000100 00000000 00000000 0000000a \
             28000000 000a0504 01000000 00000000 02000000 \
             0b000100 636f7274 656e0000 \
             06000600 76310000 \
             14000000 11000100 02000000 00000000 0000000a"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_chain_is_asked_for_byte_for_byte() {
        let mut batch = Batch::new();
        let base = Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: 100,
            policy: Verdict::Accept,
        };
        batch.add_chain(Family::Ipv4, "corten", "post", Some(base));
        let text = batch.builder.words();
        let (_, message) = text.split_once("0000000a ").unwrap();
        assert_eq!(
            message,
            "50000000 030a0504 01000000 00000000 02000000 \
             0b000100 636f7274 656e0000 \
             09000300 706f7374 00000000 \
             14000480 08000100 00000004 08000200 00000064 \
             08000500 00000001 \
             08000700 6e617400"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_verdict_is_written_byte_for_byte() {
        let mut builder = Builder::new();
        builder.message(0, 0, 0);
        write_expression(&mut builder, &Expression::Verdict(Verdict::Accept));
        assert_eq!(
            builder.words().split_once("00000000 00000000 00000000 ").unwrap().1,
            "30000180 0e000100 696d6d65 64696174 65000000 \
             1c000280 08000100 00000000 10000280 0c000280 08000100 00000001"
        );
    }

    fn expressions(expression: Expression<'_>) -> Vec<String> {
        let mut builder = Builder::new();
        builder.message(0, 0, 0);
        write_expression(&mut builder, &expression);
        Attributes(&builder.as_bytes()[super::super::HEADER_BYTES..])
            .iter()
            .map(|(_, element)| Attributes(element).text(EXPRESSION_NAME).unwrap())
            .collect()
    }

    #[test]
    fn a_network_is_loaded_masked_and_compared() {
        let expression = Expression::Source(Test::Is, IpAddr::from([10, 213, 0, 0]), 22);
        assert_eq!(expressions(expression), ["payload", "bitwise", "cmp"]);
    }

    #[test]
    fn an_interface_is_loaded_and_compared() {
        assert_eq!(expressions(Expression::InputInterface(Test::Is, "corten0")), ["meta", "cmp"]);
    }

    #[test]
    fn the_interfaces_of_a_prefix_are_compared_without_the_end_of_a_name() {
        let mut builder = Builder::new();
        builder.message(0, 0, 0);
        write_expression(&mut builder, &Expression::InputInterfaces("ctn-"));
        let rule = Rule { chain: "FORWARD".into(), expressions: builder.as_bytes().to_vec() };
        assert!(rule.mentions_prefix("ctn-") && !rule.mentions_prefix("ctn"));
        assert!(!rule.mentions("ctn-"));
    }

    #[test]
    fn a_port_is_compared_after_its_protocol_and_a_redirection_has_both_registers() {
        assert_eq!(expressions(Expression::Port(17, 53)), ["meta", "cmp", "payload", "cmp"]);
        let redirect = Expression::Redirect(Ipv4Addr::new(127, 0, 0, 11), 40_000);
        assert_eq!(expressions(redirect), ["immediate", "immediate", "nat"]);
    }

    #[test]
    fn the_state_of_a_connection_is_loaded_masked_and_compared() {
        assert_eq!(expressions(Expression::Answer(Test::Is)), ["ct", "bitwise", "cmp"]);
    }

    #[test]
    fn a_rule_mentions_an_interface_only_by_its_whole_name() {
        let mut builder = Builder::new();
        builder.message(0, 0, 0);
        write_expression(&mut builder, &Expression::InputInterface(Test::Is, "corten01"));
        let rule = Rule { chain: "FORWARD".into(), expressions: builder.as_bytes().to_vec() };
        assert!(rule.mentions("corten01"));
        assert!(!rule.mentions("corten0"));
    }

    #[test]
    fn a_chain_is_read_with_its_hook_and_policy() {
        let mut builder = Builder::new();
        builder
            .message(message_kind(NEW_CHAIN), 0, 1)
            .header(&[2, 0, 0, 0])
            .text(CHAIN_TABLE, "filter")
            .text(CHAIN_NAME, "FORWARD")
            .nested(CHAIN_HOOK, |hook| {
                hook.number_be(HOOK_NUMBER, 2).number_be(HOOK_PRIORITY, 0);
            })
            .number_be(CHAIN_POLICY, 0);
        let chain = parse_chain(Family::Ipv4, Messages(builder.as_bytes()).next().unwrap());
        let expected = Chain {
            family: Family::Ipv4,
            table: "filter".into(),
            name: "FORWARD".into(),
            hook: Some(Hook::Forward),
            policy: Some(Verdict::Drop),
        };
        assert_eq!(chain, Some(expected));
    }

    #[test]
    fn a_chain_that_is_only_jumped_to_has_neither_hook_nor_policy() {
        let mut builder = Builder::new();
        builder
            .message(message_kind(NEW_CHAIN), 0, 1)
            .header(&[2, 0, 0, 0])
            .text(CHAIN_TABLE, "filter")
            .text(CHAIN_NAME, "DOCKER-USER");
        let chain =
            parse_chain(Family::Ipv4, Messages(builder.as_bytes()).next().unwrap()).unwrap();
        assert_eq!((chain.hook, chain.policy), (None, None));
    }

    #[test]
    fn cut_answers_are_passed_over() {
        for kind in [NEW_TABLE, NEW_CHAIN, NEW_RULE] {
            let mut builder = Builder::new();
            builder.message(message_kind(kind), 0, 1).header(&[]);
            let message = Messages(builder.as_bytes()).next().unwrap();
            assert_eq!(parse_table(message), None);
            assert_eq!(parse_chain(Family::Ipv4, message), None);
            assert_eq!(parse_rule("filter", message), None);
        }
    }
}
