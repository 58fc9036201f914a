//! The text format of Debian's indexes, control files and `.sources` files.
//!
//! The parser borrows and never fails: a line that is no field is skipped, since a foreign file that
//! is odd in one line is still useful in the others. What a field must hold is checked by its reader.

/// One paragraph: fields in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paragraph<'t> {
    fields: Vec<Field<'t>>,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'t> {
    /// The name as written.
    pub(crate) name: &'t str,
    /// The value as written: the rest of the first line without outer blanks, and the continuation
    /// lines with their leading blank.
    pub(crate) value: &'t str,
}

impl<'t> Paragraph<'t> {
    /// Returns the value of a field; names are compared without regard to case.
    pub(crate) fn get(&self, name: &str) -> Option<&'t str> {
        self.fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Returns the value of a field, or nothing if it is empty.
    pub(crate) fn text(&self, name: &str) -> &'t str {
        self.get(name).unwrap_or_default()
    }

    /// Returns the fields in the order of the text.
    pub(crate) fn fields(&self) -> &[Field<'t>] {
        &self.fields
    }

    /// Returns the words of a field, over all its lines; comment lines do not count.
    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &'t str> {
        self.text(name)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
    }
}

/// Goes through the paragraphs of a text.
pub(crate) fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { rest: text }
}

/// The iterator behind [`paragraphs`].
#[derive(Debug, Clone)]
pub(crate) struct Paragraphs<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Paragraphs<'t> {
    type Item = Paragraph<'t>;

    fn next(&mut self) -> Option<Paragraph<'t>> {
        let mut fields: Vec<Field<'t>> = Vec::new();
        while !self.rest.is_empty() {
            let (line, after) = split_line(self.rest);
            if line.trim_ascii().is_empty() {
                self.rest = after;
                if fields.is_empty() {
                    continue;
                }
                break;
            }
            let length = line.len() + continuation(after);
            let field = self.rest.get(..length).unwrap_or(self.rest);
            self.rest = skip_newline(self.rest.get(length..).unwrap_or_default());
            if let Some(field) = parse_field(field) {
                fields.push(field);
            }
        }
        (!fields.is_empty()).then_some(Paragraph { fields })
    }
}

/// Splits a text into its first line, without the newline, and what comes after the newline.
fn split_line(text: &str) -> (&str, &str) {
    match memchr::memchr(b'\n', text.as_bytes()) {
        Some(at) => {
            text.split_at_checked(at).map_or((text, ""), |(line, rest)| (line, skip_newline(rest)))
        }
        None => (text, ""),
    }
}

fn skip_newline(text: &str) -> &str {
    text.strip_prefix('\n').unwrap_or(text)
}

/// Returns how many bytes after a first line belong to its field, the newline before them included.
fn continuation(after: &str) -> usize {
    let mut length = 0;
    let mut pending = 0;
    let mut rest = after;
    while !rest.is_empty() {
        let (line, next) = split_line(rest);
        let continues = line.starts_with([' ', '\t']) && !line.trim_ascii().is_empty();
        pending += line.len() + 1;
        if continues {
            length = pending;
        } else if !line.starts_with('#') {
            // A comment may stand between two continuation lines; anything else ends the field.
            break;
        }
        rest = next;
    }
    length
}

fn parse_field(text: &str) -> Option<Field<'_>> {
    if text.starts_with(['#', ' ', '\t']) {
        return None;
    }
    let (name, value) = text.split_once(':')?;
    let name = name.trim_ascii();
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Field { name, value: value.trim_start_matches([' ', '\t']).trim_ascii_end() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: &Expect) {
        let mut out = String::new();
        for paragraph in paragraphs(text) {
            for Field { name, value } in paragraph.fields() {
                out.push_str(&format!("{name} = {value:?}\n"));
            }
            out.push_str("--\n");
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn fields_continue_on_lines_that_start_with_a_blank() {
        check(
            "Package: a\nDescription: short\n long\n .\n more\nSize:  12 \n\n\nPackage: b\n",
            &expect![[r#"
                Package = "a"
                Description = "short\n long\n .\n more"
                Size = "12"
                --
                Package = "b"
                --
            "#]],
        );
    }

    #[test]
    fn comments_and_lines_that_are_no_field_are_skipped() {
        check(
            "# head\nTypes: deb\n# in between\nURIs: x\n#c\n y\nnonsense\n: no name\n stray\nSuites: s",
            &expect![[r#"
                Types = "deb"
                URIs = "x\n#c\n y"
                Suites = "s"
                --
            "#]],
        );
        let paragraph = paragraphs("URIs: x\n#c d\n y\n").next().unwrap();
        assert_eq!(paragraph.words("uris").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn a_value_may_stand_on_the_next_lines_only() {
        check(
            "SHA256:\n a 1 f\n b 2 g\n",
            &expect![[r#"
            SHA256 = "\n a 1 f\n b 2 g"
            --
        "#]],
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends_and_every_value_is_part_of_it(text in "[a-c:# \t\n\réA]{0,60}") {
            for paragraph in paragraphs(&text) {
                for field in paragraph.fields() {
                    assert!(text.contains(field.value));
                }
            }
        }
    }
}
