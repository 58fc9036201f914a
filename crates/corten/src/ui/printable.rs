//! Text of others on the terminal: an image or a build step may not move the cursor, set colours or
//! change the title.

/// Drops control characters and escape sequences; tabs and line feeds stay.
pub(crate) fn printable(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next().is_some_and(|next| !next.is_ascii_alphabetic()) {}
            }
        } else if matches!(character, '\t' | '\n') || !character.is_control() {
            kept.push(character);
        }
    }
    kept
}

/// As [`printable`], on one line.
pub(crate) fn printable_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\u{1b}[31mc\u{7}\n\td"), "abc\n\td");
        assert_eq!(printable("\u{1b}]0;title\u{7}x"), "]0;titlex");
        assert_eq!(printable("\u{9b}2J"), "2J");
        assert_eq!(printable_line("a\nb\tc\r"), "a b c");
    }
}
