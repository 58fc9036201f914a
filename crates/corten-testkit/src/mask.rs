//! What differs from run to run, replaced by names in one place, so that tests can compare text.

/// Replaces directories, digests, ids, times, ages and durations.
///
/// | in the output | becomes |
/// |---|---|
/// | a directory of the test | the name that the context gave it, such as `[ROOT]` |
/// | 64 hexadecimal digits | `[DIGEST]` |
/// | 12 hexadecimal digits | `[ID]` |
/// | `2026-01-02T03:04:05Z` | `[TIME]` |
/// | `3 seconds ago`, `just now` | `[AGE]` |
/// | `12 ms`, `1.5s`, `2 min 5 s` | `[DURATION]` |
/// | `4.41MB`, `1.2GB`: of images made of the machine's programs | `[SIZE]` |
/// | `0.123` before a text, as in a build's log | `[ELAPSED]` |
/// | `"elapsed_ms":5` in JSON | `"elapsed_ms":[MS]` |
///
/// The width of an age or a duration shifts the columns of a table. Where one is replaced, columns
/// are therefore set two spaces apart.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    literals: Vec<(String, String)>,
    keep_digests: bool,
}

impl Mask {
    /// Replaces a text, such as a path, wherever it occurs; longer texts are replaced first.
    pub fn literal(&mut self, text: impl Into<String>, name: &str) {
        self.literals.push((text.into(), format!("[{name}]")));
        self.literals.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// Leaves digests and ids as they are: for tests that pin them.
    pub fn keep_digests(&mut self) {
        self.keep_digests = true;
    }

    /// Returns the text with everything replaced.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (literal, name) in &self.literals {
            text = text.replace(literal, name);
        }
        let mut masked = String::with_capacity(text.len());
        let mut has_varying_width = false;
        let mut before = ' ';
        let mut rest = text.as_str();
        while let Some(next) = rest.chars().next() {
            let found = if is_word(before) { None } else { self.find(rest) };
            if let Some(found) = found {
                has_varying_width |= found.varies;
                masked.push_str(found.name);
                rest = &rest[found.length..];
                before = ']';
            } else {
                masked.push(next);
                rest = &rest[next.len_utf8()..];
                before = next;
            }
        }
        if has_varying_width { close_columns(&masked) } else { masked }
    }

    /// Recognizes something to replace at the start of the text.
    fn find(&self, text: &str) -> Option<Found> {
        if let Some(length) = timestamp(text) {
            return Some(Found { length, name: "[TIME]", varies: true });
        }
        if !self.keep_digests
            && let Some(found) = digest(text)
        {
            return Some(found);
        }
        if let Some(length) = age(text) {
            return Some(Found { length, name: "[AGE]", varies: true });
        }
        if let Some(length) = large_size(text) {
            return Some(Found { length, name: "[SIZE]", varies: true });
        }
        if let Some(length) = duration(text) {
            return Some(Found { length, name: "[DURATION]", varies: true });
        }
        if let Some(length) = milliseconds(text) {
            return Some(Found { length, name: "\"elapsed_ms\":[MS]", varies: false });
        }
        elapsed(text).map(|length| Found { length, name: "[ELAPSED]", varies: false })
    }
}

struct Found {
    length: usize,
    name: &'static str,
    /// The width is not the same each time.
    varies: bool,
}

/// Characters that continue a word, so that nothing is recognized in the middle of one.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.')
}

fn ends_word(rest: &str) -> bool {
    !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
}

/// Matches digits and fixed characters: `0` stands for any digit.
fn matches_shape(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

fn timestamp(text: &str) -> Option<usize> {
    const SHAPES: [&str; 2] = ["0000-00-00T00:00:00", "0000-00-00 00:00:00"];
    let shape = SHAPES.iter().find(|shape| matches_shape(text, shape))?;
    let mut length = shape.len();
    if text[length..].starts_with('.') {
        length += 1 + digits(&text[length + 1..]);
    }
    for zone in ["Z", "+00:00", "-00:00", " +0000 UTC", " UTC"] {
        if matches_shape(&text[length..], zone) {
            length += zone.len();
            break;
        }
    }
    Some(length)
}

fn digest(text: &str) -> Option<Found> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let length = text.bytes().take_while(|byte| is_digit(byte)).count();
    if !ends_word(&text[length..]) {
        return None;
    }
    match length {
        64 => Some(Found { length, name: "[DIGEST]", varies: false }),
        // A word of letters only is no id: one in 130,000 ids has no digit.
        12 if text[..length].bytes().any(|byte| byte.is_ascii_digit()) => {
            Some(Found { length, name: "[ID]", varies: false })
        }
        _ => None,
    }
}

fn age(text: &str) -> Option<usize> {
    const JUST_NOW: &str = "just now";
    if text.starts_with(JUST_NOW) && ends_word(&text[JUST_NOW.len()..]) {
        return Some(JUST_NOW.len());
    }
    let number = digits(text);
    let rest = text[number..].strip_prefix(' ').filter(|_| number > 0)?;
    ["second", "minute", "hour", "day", "week", "month", "year"].iter().find_map(|unit| {
        let rest = rest.strip_prefix(unit)?;
        let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix(" ago")?;
        ends_word(rest).then(|| text.len() - rest.len())
    })
}

/// Matches a size from a megabyte on; smaller ones are those of files that tests write.
fn large_size(text: &str) -> Option<usize> {
    let mut number = digits(text);
    if number == 0 {
        return None;
    }
    if text[number..].starts_with('.') {
        number += 1 + digits(&text[number + 1..]);
    }
    let rest = &text[number..];
    let unit = ["MB", "GB"].iter().find(|unit| rest.starts_with(**unit))?;
    ends_word(&rest[unit.len()..]).then_some(number + unit.len())
}

/// Matches seconds with three decimals and without a unit, which only a build's log has.
fn elapsed(text: &str) -> Option<usize> {
    let seconds = digits(text);
    let fraction = text[seconds..].strip_prefix('.').filter(|_| seconds > 0)?;
    (digits(fraction) == 3 && fraction[3..].starts_with(' ')).then_some(seconds + 4)
}

/// Matches the field of an event that says how long something took.
fn milliseconds(text: &str) -> Option<usize> {
    const FIELD: &str = "\"elapsed_ms\":";
    let number = digits(text.strip_prefix(FIELD)?);
    (number > 0).then_some(FIELD.len() + number)
}

/// Matches one or more of a number and a unit of time.
fn duration(text: &str) -> Option<usize> {
    let mut end = one_duration(text)?;
    while let Some(more) = text[end..].strip_prefix(' ').and_then(one_duration) {
        end += 1 + more;
    }
    Some(end)
}

fn one_duration(text: &str) -> Option<usize> {
    let mut number = digits(text);
    if number == 0 {
        return None;
    }
    if text[number..].starts_with('.') {
        let fraction = digits(&text[number + 1..]);
        if fraction == 0 {
            return None;
        }
        number += 1 + fraction;
    }
    let rest = &text[number..];
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    ["ns", "µs", "us", "ms", "min", "s"].iter().find_map(|unit| {
        let rest = rest.strip_prefix(unit)?;
        ends_word(rest).then(|| text.len() - rest.len())
    })
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Sets columns two spaces apart; the indentation of a line stays.
fn close_columns(text: &str) -> String {
    let mut closed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let content = line.trim_start_matches(' ');
        closed.push_str(&line[..line.len() - content.len()]);
        let mut spaces = 0;
        for character in content.chars() {
            if character == ' ' {
                spaces += 1;
                if spaces > 2 {
                    continue;
                }
            } else {
                spaces = 0;
            }
            closed.push(character);
        }
    }
    closed
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn masked(text: &str) -> String {
        Mask::default().apply(text)
    }

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let digest = "0123456789abcdef".repeat(4);
        let cases = [
            format!("sha256:{digest} and {digest}"),
            "image 0a1b2c3d4e5f built in 1.2 s (12ms, 2 min 5 s)".to_owned(),
            "created 2026-01-02T03:04:05.678Z, 3 seconds ago, just now".to_owned(),
            "2026-01-02 03:04:05 +0000 UTC|".to_owned(),
        ];
        let text = cases.map(|case| masked(&case)).join("\n");
        expect![[r#"
            sha256:[DIGEST] and [DIGEST]
            image [ID] built in [DURATION] ([DURATION], [DURATION])
            created [TIME], [AGE], [AGE]
            [TIME]|"#]]
        .assert_eq(&text);
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for text in [
            "python3.11-slim",
            "v1.2s",
            "5 sources",
            "12 minutes",
            "facade deadbeefcafe",
            "abc0123456789abcx",
            "1.2.3",
            "10.0.0.1",
            "512m",
            "3 MB",
            "step 2/5",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn columns_stay_comparable_when_an_age_changes_its_width() {
        let one = "NAME  CREATED         SIZE\n  app   9 seconds ago   1kB\n";
        let two = "NAME  CREATED          SIZE\n  app   10 seconds ago   1kB\n";
        assert_eq!(masked(one), masked(two));
        assert_eq!(masked(two), "NAME  CREATED  SIZE\n  app  [AGE]  1kB\n");
    }

    #[test]
    fn the_longer_path_is_replaced_first() {
        let mut mask = Mask::default();
        mask.literal("/tmp/a", "HOME");
        mask.literal("/tmp/a/store", "ROOT");
        assert_eq!(mask.apply("/tmp/a/store/tmp and /tmp/a/x"), "[ROOT]/tmp and [HOME]/x");
    }

    #[test]
    fn sizes_of_programs_are_masked() {
        assert_eq!(masked("id  4.41MB  512kB 12GB 3MBit"), "id  [SIZE]  512kB [SIZE] 3MBit");
    }

    #[test]
    fn times_of_a_log_are_masked_without_a_unit() {
        assert_eq!(masked("#1 0.014 working"), "#1 [ELAPSED] working");
        assert_eq!(masked(r#"{"elapsed_ms":12}"#), r#"{"elapsed_ms":[MS]}"#);
        assert_eq!(masked("#1 10.014 soon"), "#1 [ELAPSED] soon");
        assert_eq!(masked("version 1.250, 0.5 and 1.250"), "version 1.250, 0.5 and 1.250");
    }

    #[test]
    fn digests_can_be_pinned() {
        let mut mask = Mask::default();
        mask.keep_digests();
        assert_eq!(mask.apply("0a1b2c3d4e5f in 3 ms"), "0a1b2c3d4e5f in [DURATION]");
    }
}
