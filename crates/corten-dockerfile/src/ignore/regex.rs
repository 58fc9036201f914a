//! The regular expressions that ignore patterns turn into.
//!
//! The original hands patterns to Go's `regexp`, so that sets and escapes mean there what they mean
//! in a regular expression: `[[:alpha:]]` is a class, and `\d` a digit. This reads that part of the
//! syntax that can come up and matches in time proportional to pattern and path. `\p` and `\Q` are
//! refused.

/// A compiled expression, matched from the beginning to the end of a text.
#[derive(Clone, Debug)]
pub(super) struct Regex {
    program: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Literal(char),
    /// Any character but a line ending.
    Any,
    Set(Set),
    Begin,
    End,
    WordBoundary {
        wanted: bool,
    },
    /// Goes on at both places.
    Split(usize, usize),
    Jump(usize),
    Match,
}

#[derive(Clone, Debug, Default)]
struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn contains(&self, character: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != self.negated
    }

    /// Adds what a class such as `\D` leaves out.
    fn add_inverted(&mut self, ranges: &[(char, char)]) {
        let mut from = '\0';
        for (low, high) in ranges {
            if let Some(before) = char::from_u32(u32::from(*low).wrapping_sub(1))
                && from <= before
            {
                self.ranges.push((from, before));
            }
            from = char::from_u32(u32::from(*high) + 1).unwrap_or(char::MAX);
        }
        self.ranges.push((from, char::MAX));
    }
}

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// The classes with a name, in the order of their characters.
const NAMED: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\u{7f}')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

impl Regex {
    /// Compiles an expression; none when it is malformed.
    pub(super) fn new(expression: &str) -> Option<Self> {
        let mut compiler = Compiler { rest: expression, program: Vec::new() };
        compiler.sequence(false)?;
        compiler.program.push(Step::Match);
        Some(Self { program: compiler.program })
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        let mut current = Threads::new(self.program.len());
        let mut next = Threads::new(self.program.len());
        let mut before = None;
        self.add(&mut current, 0, (before, text.chars().next()));
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let after = characters.clone().next();
            let places = (Some(character), after);
            for index in std::mem::take(&mut current.list) {
                let goes_on = match &self.program[index] {
                    Step::Literal(literal) => *literal == character,
                    Step::Any => character != '\n',
                    Step::Set(set) => set.contains(character),
                    _ => false,
                };
                if goes_on {
                    self.add(&mut next, index + 1, places);
                }
            }
            if next.list.is_empty() {
                return false;
            }
            before = Some(character);
            current.clear();
            std::mem::swap(&mut current, &mut next);
        }
        debug_assert!(before.is_some() || text.is_empty(), "every character was looked at");
        current.list.iter().any(|index| matches!(self.program[*index], Step::Match))
    }

    /// Adds a place in the program and all that it leads to without a character.
    fn add(&self, threads: &mut Threads, index: usize, around: (Option<char>, Option<char>)) {
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut threads.seen[index], true) {
                continue;
            }
            let word = |character: Option<char>| {
                character.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            match &self.program[index] {
                Step::Jump(to) => pending.push(*to),
                Step::Split(one, other) => pending.extend([*one, *other]),
                Step::Begin if around.0.is_some() => {}
                Step::End if around.1.is_some() => {}
                Step::WordBoundary { wanted } if (word(around.0) != word(around.1)) != *wanted => {}
                Step::Begin | Step::End | Step::WordBoundary { .. } => pending.push(index + 1),
                _ => threads.list.push(index),
            }
        }
    }
}

/// The places in the program that the text read so far leads to.
struct Threads {
    list: Vec<usize>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Self {
        Self { list: Vec::new(), seen: vec![false; steps] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.seen.fill(false);
    }
}

struct Compiler<'a> {
    rest: &'a str,
    program: Vec<Step>,
}

impl Compiler<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn take(&mut self, wanted: char) -> bool {
        let after = self.rest.strip_prefix(wanted);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// Compiles up to the end, or up to the parenthesis that ends a group.
    fn sequence(&mut self, in_group: bool) -> Option<()> {
        loop {
            let start = self.program.len();
            let Some(character) = self.next() else { return (!in_group).then_some(()) };
            match character {
                ')' => return in_group.then_some(()),
                // Groups are not nested: those of a pattern itself are escaped.
                '(' if in_group => return None,
                '(' => self.sequence(true)?,
                '^' => self.program.push(Step::Begin),
                '$' => self.program.push(Step::End),
                '.' => self.program.push(Step::Any),
                '[' => {
                    let set = self.set()?;
                    self.program.push(Step::Set(set));
                }
                '\\' => {
                    let step = self.escape()?;
                    self.program.push(step);
                }
                other => self.program.push(Step::Literal(other)),
            }
            self.repeat(start);
        }
    }

    /// Applies `*` or `?` to the steps from here on.
    fn repeat(&mut self, start: usize) {
        let star = self.take('*');
        if !star && !self.take('?') {
            return;
        }
        self.make_room(start);
        if star {
            self.program.push(Step::Jump(start));
        }
        self.program[start] = Step::Split(start + 1, self.program.len());
    }

    /// Makes room for one step and moves the places from there on.
    fn make_room(&mut self, at: usize) {
        for step in &mut self.program[at..] {
            match step {
                Step::Split(one, other) => {
                    *one += usize::from(*one >= at);
                    *other += usize::from(*other >= at);
                }
                Step::Jump(to) => *to += usize::from(*to >= at),
                _ => {}
            }
        }
        self.program.insert(at, Step::Match);
    }

    fn escape(&mut self) -> Option<Step> {
        let mut set = Set::default();
        let letter = self.rest.chars().next()?;
        match letter {
            'b' | 'B' => {
                self.next();
                return Some(Step::WordBoundary { wanted: letter == 'b' });
            }
            'A' => {
                self.next();
                return Some(Step::Begin);
            }
            'z' => {
                self.next();
                return Some(Step::End);
            }
            _ => {}
        }
        if self.class_letter(&mut set) {
            return Some(Step::Set(set));
        }
        self.escaped().map(Step::Literal)
    }

    /// Reads a letter that stands for a class, behind the backslash.
    fn class_letter(&mut self, set: &mut Set) -> bool {
        let ranges = match self.rest.chars().next() {
            Some('d' | 'D') => DIGIT,
            Some('s' | 'S') => SPACE,
            Some('w' | 'W') => WORD,
            _ => return false,
        };
        if self.next().is_some_and(|letter| letter.is_ascii_lowercase()) {
            set.ranges.extend_from_slice(ranges);
        } else {
            set.add_inverted(ranges);
        }
        true
    }

    /// Reads an escape that stands for one character, behind the backslash.
    fn escaped(&mut self) -> Option<char> {
        let character = self.next()?;
        Some(match character {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => {
                let digits = self.rest.get(..2)?;
                let both = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let value = u8::from_str_radix(digits, 16).ok().filter(|_| both)?;
                self.rest = &self.rest[2..];
                char::from(value)
            }
            '0'..='7' => return self.octal(character),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
            _ => return None,
        })
    }

    /// Reads up to three octal digits; one alone would be a back reference, unless it is 0.
    fn octal(&mut self, first: char) -> Option<char> {
        let second = self.rest.starts_with(|c: char| c.is_digit(8));
        if first != '0' && !second {
            return None;
        }
        let mut value = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            value = value * 8 + digit;
            self.next();
        }
        char::from_u32(value)
    }

    /// Reads a set from behind its opening bracket.
    fn set(&mut self) -> Option<Set> {
        let mut set = Set { negated: self.take('^'), ranges: Vec::new() };
        let mut first = true;
        loop {
            if !first && self.take(']') {
                return Some(set);
            }
            first = false;
            if self.named(&mut set)? {
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix('\\') {
                let before = std::mem::replace(&mut self.rest, rest);
                if self.class_letter(&mut set) {
                    continue;
                }
                self.rest = before;
            }
            let low = self.set_character()?;
            let mut high = low;
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                high = self.set_character()?;
            }
            if high < low {
                return None;
            }
            set.ranges.push((low, high));
        }
    }

    fn set_character(&mut self) -> Option<char> {
        if self.take('\\') { self.escaped() } else { self.next() }
    }

    /// Reads `[:name:]` or `[:^name:]`; an unknown name is an error.
    fn named(&mut self, set: &mut Set) -> Option<bool> {
        let Some(body) = self.rest.strip_prefix("[:") else { return Some(false) };
        let Some((name, after)) = body.split_once(":]") else { return Some(false) };
        let (negated, name) = match name.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, name),
        };
        let (_, ranges) = NAMED.iter().find(|(known, _)| *known == name)?;
        if negated {
            set.add_inverted(ranges);
        } else {
            set.ranges.extend_from_slice(ranges);
        }
        self.rest = after;
        Some(true)
    }
}
