//! The packet filter and address translation (`nf_tables`), without the `nft` program.
//!
//! A [`Batch`] is a transaction: the kernel carries out all of it or nothing. Only the few
//! expressions that Corten's own rules are made of can be written; of foreign tables only the
//! chains, and the bytes of their rules, are read.

use std::net::Ipv4Addr;

use rustix::net::netlink::NETFILTER;

use super::message::{Builder, Message};
use super::{ACKNOWLEDGE, CREATE, DUMP, NetlinkError, REQUEST, Socket, flag};

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

const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
/// Where the source and the destination stand in an IPv4 header.
const IPV4_SOURCE_OFFSET: u32 = 12;
const IPV4_DESTINATION_OFFSET: u32 = 16;

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

const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;

const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;

/// The two states of a connection whose packets are answers: established (2) and related (4).
const STATE_ANSWER: u32 = 2 | 4;

/// The protocols that a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6 (`inet`).
    Inet,
    /// IPv4 (`ip`).
    Ipv4,
}

impl Family {
    /// Returns the name that the `nft` program uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
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
    /// The network of the sender: its first address and its bits.
    Source(Test, Ipv4Addr, u8),
    /// The network of the receiver: its first address and its bits.
    Destination(Test, Ipv4Addr, u8),
    /// Whether the packet belongs to a connection that was let through before.
    Answer(Test),
    /// Counts the packets; `iptables` shows a rule of its tables only with a counter.
    Counter,
    /// Gives the packet the address of the interface that it leaves by.
    Masquerade,
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
        Expression::Source(test, network, bits) => {
            write_network(list, IPV4_SOURCE_OFFSET, test, network, bits);
        }
        Expression::Destination(test, network, bits) => {
            write_network(list, IPV4_DESTINATION_OFFSET, test, network, bits);
        }
        Expression::Answer(test) => write_answer(list, test),
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

fn write_interface(list: &mut Builder, key: u32, test: Test, name: &str) {
    element(list, "meta", |data| {
        data.number_be(META_REGISTER, REGISTER_1).number_be(META_KEY, key);
    });
    // The name with its zero byte: this is how `iptables` writes an exact name, and it has to be
    // able to read the rules that we put into its tables.
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    compare(list, test, &value);
}

fn write_network(list: &mut Builder, offset: u32, test: Test, network: Ipv4Addr, bits: u8) {
    element(list, "payload", |data| {
        data.number_be(PAYLOAD_REGISTER, REGISTER_1)
            .number_be(PAYLOAD_BASE, PAYLOAD_NETWORK_HEADER)
            .number_be(PAYLOAD_OFFSET, offset)
            .number_be(PAYLOAD_LENGTH, 4);
    });
    let host_bits = u32::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
    mask(list, (!host_bits).to_be_bytes());
    compare(list, test, &network.octets());
}

fn write_answer(list: &mut Builder, test: Test) {
    element(list, "ct", |data| {
        data.number_be(CT_REGISTER, REGISTER_1).number_be(CT_KEY, CT_STATE);
    });
    // The state is a number of the machine's byte order in the register.
    mask(list, STATE_ANSWER.to_ne_bytes());
    let none_of_them = match test {
        Test::Is => Test::IsNot,
        Test::IsNot => Test::Is,
    };
    compare(list, none_of_them, &[0; 4]);
}

fn mask(list: &mut Builder, mask: [u8; 4]) {
    element(list, "bitwise", |data| {
        data.number_be(BITWISE_FROM, REGISTER_1)
            .number_be(BITWISE_TO, REGISTER_1)
            .number_be(BITWISE_LENGTH, 4)
            .nested(BITWISE_MASK, |value| {
                value.attribute(DATA_VALUE, &mask);
            })
            .nested(BITWISE_XOR, |value| {
                value.attribute(DATA_VALUE, &[0; 4]);
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
        let expression = Expression::Source(Test::Is, Ipv4Addr::new(10, 213, 0, 0), 22);
        assert_eq!(expressions(expression), ["payload", "bitwise", "cmp"]);
    }

    #[test]
    fn an_interface_is_loaded_and_compared() {
        assert_eq!(expressions(Expression::InputInterface(Test::Is, "corten0")), ["meta", "cmp"]);
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
