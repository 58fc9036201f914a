//! From a policy to classic BPF.

use std::collections::BTreeMap;

use corten_sys::seccomp::Instruction;

use super::{Action, Architecture, Clause, Comparison, Policy, Test};

/// `struct seccomp_data`: number, architecture, instruction pointer, six arguments of 64 bits.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// x32 calls have this bit in their number; Docker allows them, we know no use for them.
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const fn instruction(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

const fn branch(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

/// Consecutive calls with the same answer, up to the next range's start.
struct Range<'a> {
    start: u32,
    answer: Answer<'a>,
}

#[derive(PartialEq)]
enum Answer<'a> {
    Always(Action),
    Tested(&'a [Clause]),
}

/// Compiles a policy. A call of another architecture ends the process.
pub(crate) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, OFFSET_ARCHITECTURE),
        branch(JUMP_EQUAL, policy.architecture.audit(), 1, 0),
        instruction(RETURN, Action::KillProcess.value()),
        instruction(LOAD, OFFSET_NUMBER),
    ];
    if policy.architecture == Architecture::X86_64 {
        program.push(branch(JUMP_GREATER_EQUAL, X32_BIT, 0, 1));
        program.push(instruction(RETURN, policy.unknown.value()));
    }
    program.extend(search(&ranges(policy), policy.otherwise));
    program
}

fn ranges(policy: &Policy) -> Vec<Range<'_>> {
    let mut answers: BTreeMap<u32, Answer<'_>> =
        policy.architecture.numbers().map(|n| (n, Answer::Always(policy.otherwise))).collect();
    for (number, clauses) in &policy.calls {
        let answer = match clauses.first() {
            Some(first) if first.tests.is_empty() => Answer::Always(first.action),
            Some(_) => Answer::Tested(clauses),
            None => Answer::Always(policy.otherwise),
        };
        answers.insert(*number, answer);
    }
    let mut all = Vec::new();
    let mut next = 0;
    for (number, answer) in answers {
        if number > next {
            all.push(Range { start: next, answer: Answer::Always(policy.unknown) });
        }
        all.push(Range { start: number, answer });
        next = number + 1;
    }
    all.push(Range { start: next, answer: Answer::Always(policy.unknown) });
    all.dedup_by(|later, earlier| later.answer == earlier.answer);
    all
}

/// Emits a bisection over the ranges; every path through it returns.
fn search(ranges: &[Range<'_>], otherwise: Action) -> Vec<Instruction> {
    match ranges {
        [] => vec![instruction(RETURN, otherwise.value())],
        [only] => match only.answer {
            Answer::Always(action) => vec![instruction(RETURN, action.value())],
            Answer::Tested(clauses) => tested(clauses, otherwise),
        },
        _ => {
            let middle = ranges.len() / 2;
            let (low, high) = ranges.split_at(middle);
            let low = search(low, otherwise);
            let mut program = Vec::new();
            // A conditional jump reaches 255 instructions, an unconditional one any number.
            if let Ok(distance) = u8::try_from(low.len()) {
                program.push(branch(JUMP_GREATER_EQUAL, high[0].start, distance, 0));
            } else {
                program.push(branch(JUMP_GREATER_EQUAL, high[0].start, 0, 1));
                program.push(instruction(JUMP, length(&low)));
            }
            program.extend(low);
            program.extend(search(high, otherwise));
            program
        }
    }
}

fn length<T>(program: &[T]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

fn tested(clauses: &[Clause], otherwise: Action) -> Vec<Instruction> {
    let mut program = Vec::new();
    for clause in clauses {
        let mut body = vec![instruction(RETURN, clause.action.value())];
        for test in clause.tests.iter().rev() {
            // What follows a test ends with the clause, so a failed test jumps over all of it.
            let mut code = compare(test, length(&body));
            code.extend(body);
            body = code;
        }
        program.extend(body);
    }
    program.push(instruction(RETURN, otherwise.value()));
    program
}

/// Where a comparison goes next.
#[derive(Clone, Copy)]
enum Target {
    /// Behind the test: it holds.
    Hold,
    /// Behind the clause: it does not.
    Fail,
    /// To the next instruction.
    Next,
}

/// An instruction whose jumps say where they lead instead of how far.
type Draft = (u16, u32, Target, Target);

/// Emits one test; `rest` is the number of instructions of the clause that follow it.
fn compare(test: &Test, rest: u32) -> Vec<Instruction> {
    let drafts = match test.comparison {
        Comparison::MaskedEqual { mask } => draft_masked(test, mask),
        _ => draft_ordered(test),
    };
    let total = length(&drafts);
    let distance = |position: u32, target| match target {
        Target::Next => 0,
        Target::Hold => total - position - 1,
        Target::Fail => total - position - 1 + rest,
    };
    let emit = |(position, (code, value, if_true, if_false)): (u32, &Draft)| {
        // A clause has at most six tests of six instructions.
        let near = |target| u8::try_from(distance(position, target)).unwrap_or(u8::MAX);
        branch(*code, *value, near(*if_true), near(*if_false))
    };
    (0..).zip(&drafts).map(emit).collect()
}

/// Loads the lower or the upper half of the test's argument: the machine has 32 bits. Both
/// architectures are little-endian, so that the upper half comes second.
fn load(test: &Test, upper: bool) -> Draft {
    let offset = OFFSET_ARGUMENTS + 8 * u32::from(test.argument) + if upper { 4 } else { 0 };
    (LOAD, offset, Target::Next, Target::Next)
}

/// Of the upper halves one that differs decides; equal ones leave it to the lower halves.
fn draft_ordered(test: &Test) -> Vec<Draft> {
    use Target::{Fail, Hold, Next};
    let (upper, lower) = halves(test.value);
    let (decide, decide_lower) = match test.comparison {
        Comparison::NotEqual => {
            (vec![(JUMP_EQUAL, upper, Next, Hold)], (JUMP_EQUAL, lower, Fail, Next))
        }
        Comparison::Greater => (greater(upper), (JUMP_GREATER, lower, Next, Fail)),
        Comparison::GreaterOrEqual => (greater(upper), (JUMP_GREATER_EQUAL, lower, Next, Fail)),
        Comparison::Less => (less(upper), (JUMP_GREATER_EQUAL, lower, Fail, Next)),
        Comparison::LessOrEqual => (less(upper), (JUMP_GREATER, lower, Fail, Next)),
        Comparison::Equal | Comparison::MaskedEqual { .. } => {
            (vec![(JUMP_EQUAL, upper, Next, Fail)], (JUMP_EQUAL, lower, Next, Fail))
        }
    };
    let mut drafts = vec![load(test, true)];
    drafts.extend(decide);
    drafts.extend([load(test, false), decide_lower]);
    drafts
}

fn greater(upper: u32) -> Vec<Draft> {
    use Target::{Fail, Hold, Next};
    vec![(JUMP_GREATER, upper, Hold, Next), (JUMP_EQUAL, upper, Next, Fail)]
}

fn less(upper: u32) -> Vec<Draft> {
    use Target::{Fail, Hold, Next};
    vec![(JUMP_GREATER, upper, Fail, Next), (JUMP_EQUAL, upper, Next, Hold)]
}

fn draft_masked(test: &Test, mask: u64) -> Vec<Draft> {
    use Target::{Fail, Next};
    let (mask_upper, mask_lower) = halves(mask);
    let (upper, lower) = halves(test.value);
    let mut drafts = Vec::new();
    for (is_upper, mask, value) in [(true, mask_upper, upper), (false, mask_lower, lower)] {
        // Bits that are not looked at cannot differ.
        if mask != 0 || value != 0 {
            drafts.push(load(test, is_upper));
            drafts.push((AND, mask, Next, Next));
            drafts.push((JUMP_EQUAL, value, Next, Fail));
        }
    }
    drafts
}

/// Splits a value into its upper and its lower half.
fn halves(value: u64) -> (u32, u32) {
    (to_u32(value >> 32), to_u32(value))
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}
