//! JSON with one spelling, so that its digest is stable.

use serde::Serialize;

/// Serialises without spaces; fields come in the order of their types and maps are sorted.
///
/// A value that JSON cannot express (a map whose keys are not text) is our own bug: all types in
/// this crate can be expressed, and callers pass those.
pub fn canonical<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the types that are stored as JSON have only text as map keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_sorted_and_there_are_no_spaces() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{ "b" : 1, "a" : { "d": [1, 2], "c": "é<>&" } }"#).unwrap();
        let expected = r#"{"a":{"c":"é<>&","d":[1,2]},"b":1}"#;
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), expected);
    }
}
