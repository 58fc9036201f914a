//! YAML and JSON as one kind of tree whose parts know their lines.
//!
//! Of YAML it is what such files have: one document, without anchors that are used again (a small
//! text can stand for a huge tree with those) and without tags.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::Fault;

/// No description of devices is nested deeper.
const DEPTH_MAX: usize = 32;
/// More values than the largest machine has devices, mounts and links.
const VALUES_MAX: usize = 200_000;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// From 1; JSON does not tell.
    pub(super) line: Option<usize>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// A text, a number or a truth value as it is written; `quoted` ones are texts in any case.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// The name of its kind with an article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { quoted: true, .. } => "a text",
            Self::Scalar { .. } => "a plain value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Reads JSON.
pub(super) fn parse_json(text: &str) -> Result<Node, Fault> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        // The place is told beside it.
        let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
        Fault::new(Some(error.line()), "", reason)
    })?;
    Ok(from_json(value))
}

/// The depth is limited by `serde_json`.
fn from_json(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let plain = |text: String| Value::Scalar { text, quoted: false };
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => plain(truth.to_string()),
        Json::Number(number) => plain(number.to_string()),
        Json::String(text) => Value::Scalar { text, quoted: true },
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(fields) => {
            Value::Map(fields.into_iter().map(|(name, value)| (name, from_json(value))).collect())
        }
    };
    Node { line: None, value }
}

/// Reads YAML of one document.
pub(super) fn parse_yaml(text: &str) -> Result<Node, Fault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Fault::new(Some(error.marker().line()), "", error.info().to_owned())
        })?;
        builder.take(event, span)?;
    }
    builder.root.ok_or_else(|| Fault::new(Some(1), "", "the file is empty"))
}

/// A list or a mapping that is not complete.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, Node)>, Option<String>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    values: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        let refuse = |reason: &str| Err(Fault::new(Some(line), "", reason));
        match event {
            Event::Alias(_) => refuse("aliases (`*name`) are not accepted"),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => refuse("tags (`!name`) are not accepted"),
            Event::DocumentStart(_) if self.root.is_some() => {
                refuse("there is a second document; one file describes one kind of device")
            }
            Event::Scalar(text, style, _, None) => {
                self.scalar(line, text.into_owned(), style == ScalarStyle::Plain)
            }
            Event::SequenceStart(..) => self.begin(line, Open::List(line, Vec::new())),
            Event::MappingStart(..) => self.begin(line, Open::Map(line, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(line, items)) => self.value(line, Value::List(items)),
                Some(Open::Map(line, fields, _)) => self.value(line, Value::Map(fields)),
                None => refuse("something ends that did not begin"),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, open: Open) -> Result<(), Fault> {
        if let Some(Open::Map(_, _, None)) = self.open.last() {
            return Err(Fault::new(Some(line), "", "the key of a mapping is not a text"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::new(
                Some(line),
                "",
                format!("it is nested deeper than {DEPTH_MAX}"),
            ));
        }
        self.open.push(open);
        Ok(())
    }

    fn scalar(&mut self, line: usize, text: String, plain: bool) -> Result<(), Fault> {
        if let Some(Open::Map(_, fields, key @ None)) = self.open.last_mut() {
            if fields.iter().any(|(known, _)| *known == text) {
                return Err(Fault::new(Some(line), "", format!("`{text}` is there twice")));
            }
            *key = Some(text);
            return Ok(());
        }
        let is_null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let value = if is_null { Value::Null } else { Value::Scalar { text, quoted: !plain } };
        self.value(line, value)
    }

    fn value(&mut self, line: usize, value: Value) -> Result<(), Fault> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Fault::new(
                Some(line),
                "",
                format!("it has more than {VALUES_MAX} values"),
            ));
        }
        let node = Node { line: Some(line), value };
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, fields, key)) => {
                if let Some(name) = key.take() {
                    fields.push((name, node));
                }
            }
        }
        Ok(())
    }
}
