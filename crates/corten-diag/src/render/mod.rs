//! Diagnostics as text and as JSON.

mod concise;
mod full;
mod json;

pub use concise::concise;
pub use full::full;
pub use json::{JSON_VERSION, json};

/// Shows characters that would steer a terminal instead of sending them; newlines stay.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && steers(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The same for what has to stay on one line.
fn printable_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// Whether a character is a control character, or turns the direction of the text round.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}
