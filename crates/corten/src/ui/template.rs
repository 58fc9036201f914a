//! The part of Go's `text/template` that scripts around Docker use.
//!
//! Fields (`{{.Config.Env}}`), `json`, `join`, `index`, `len`, `lower`, `upper`, `split`,
//! `println`, `range`, `with`, `if`/`else if`/`else`, `eq`/`ne`/`not`/`and`/`or`, string
//! and number literals, pipes, and `{{-`/`-}}` trimming. Variables and nested templates
//! are refused with a clear message.

use serde_json::Value;
use thiserror::Error;

use super::format::plain;

/// Deeper nesting than this is not written by hand.
const DEPTH_MAX: usize = 32;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error("`{{{{` at byte {0} is never closed by `}}}}`")]
    Unclosed(usize),
    #[error("`{0}` without an `{{{{end}}}}`")]
    MissingEnd(String),
    #[error("`{0}` without an opening `if`, `range` or `with`")]
    UnexpectedEnd(String),
    #[error("`{0}` is not understood here")]
    Syntax(String),
    #[error("there is no function `{0}`")]
    UnknownFunction(String),
    #[error("there is no field `{0}`")]
    UnknownField(String),
    #[error("`{function}` cannot use {value}")]
    Type { function: &'static str, value: String },
    #[error("the template nests deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Text(String),
    Output(Pipe),
    Range { over: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipe, body: Vec<Node>, otherwise: Vec<Node> },
    If { condition: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands joined by `|`: each result is the last argument of the next.
type Pipe = Vec<Call>;

#[derive(Debug)]
struct Call {
    words: Vec<Word>,
}

#[derive(Debug)]
enum Word {
    /// `.A.B`, or `.` for an empty path.
    Field(Vec<String>),
    Literal(Value),
    Name(String),
    Group(Pipe),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let pieces = split(text)?;
        let mut parser = Parser { pieces, next: 0 };
        let (nodes, end) = parser.nodes(0)?;
        match end {
            None => Ok(Self { nodes }),
            Some(word) => Err(TemplateError::UnexpectedEnd(word)),
        }
    }

    pub(crate) fn execute(&self, data: &Value) -> Result<String, TemplateError> {
        let mut text = String::new();
        render(&self.nodes, data, &mut text)?;
        Ok(text)
    }
}

/// A value as Go prints it: lists as `[a b]`, objects as `map[a:1 b:2]`.
fn printed(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(printed).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", printed(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => plain(other),
    }
}

enum Piece {
    Text(String),
    Action(String),
}

/// Cuts the text at `{{` and `}}`, with the trimming that `{{-` and `-}}` ask for.
fn split(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let offset = text.len() - rest.len() + open;
        let mut before = &rest[..open];
        let action = &rest[open + 2..];
        let close = action.find("}}").ok_or(TemplateError::Unclosed(offset))?;
        let mut inner = &action[..close];
        if trim_next {
            before = before.trim_start();
        }
        if let Some(trimmed) = inner.strip_prefix("- ") {
            inner = trimmed;
            before = before.trim_end();
        }
        trim_next = inner.ends_with(" -");
        inner = inner.strip_suffix(" -").unwrap_or(inner);
        pieces.push(Piece::Text(before.to_owned()));
        let inner = inner.trim();
        if !inner.starts_with("/*") {
            pieces.push(Piece::Action(inner.to_owned()));
        }
        rest = &action[close + 2..];
    }
    pieces.push(Piece::Text(if trim_next { rest.trim_start() } else { rest }.to_owned()));
    Ok(pieces)
}

struct Parser {
    pieces: Vec<Piece>,
    next: usize,
}

impl Parser {
    /// Nodes up to `end`, `else` or the end of the text; gives the word that stopped it.
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<String>), TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::TooDeep);
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.next) {
            self.next += 1;
            let action = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text.clone()));
                    }
                    continue;
                }
                Piece::Action(action) => action.clone(),
            };
            let (keyword, argument) =
                action.split_once(char::is_whitespace).unwrap_or((action.as_str(), ""));
            match keyword {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" | "range" | "with" => nodes.push(self.block(keyword, argument, depth)?),
                _ => nodes.push(Node::Output(pipe(&action)?)),
            }
        }
        Ok((nodes, None))
    }

    fn block(
        &mut self,
        keyword: &str,
        argument: &str,
        depth: usize,
    ) -> Result<Node, TemplateError> {
        let head = pipe(argument)?;
        let (body, end) = self.nodes(depth + 1)?;
        let otherwise = match end.as_deref() {
            Some("end") => Vec::new(),
            Some("else") => {
                let (nodes, end) = self.nodes(depth + 1)?;
                if end.as_deref() != Some("end") {
                    return Err(TemplateError::MissingEnd(keyword.to_owned()));
                }
                nodes
            }
            Some(chained) => match chained.strip_prefix("else if ") {
                Some(condition) if keyword == "if" => {
                    vec![self.block("if", condition, depth + 1)?]
                }
                _ => return Err(TemplateError::Syntax(chained.to_owned())),
            },
            None => return Err(TemplateError::MissingEnd(keyword.to_owned())),
        };
        Ok(match keyword {
            "range" => Node::Range { over: head, body, otherwise },
            "with" => Node::With { value: head, body, otherwise },
            _ => Node::If { condition: head, then: body, otherwise },
        })
    }
}

/// Reads `a b | c`.
fn pipe(text: &str) -> Result<Pipe, TemplateError> {
    let mut scanner = Scanner { rest: text.trim(), depth: 0 };
    let pipe = scanner.pipe(false)?;
    if scanner.rest.is_empty() { Ok(pipe) } else { Err(TemplateError::Syntax(text.to_owned())) }
}

struct Scanner<'a> {
    rest: &'a str,
    depth: usize,
}

impl Scanner<'_> {
    fn pipe(&mut self, grouped: bool) -> Result<Pipe, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::TooDeep);
        }
        let mut calls = Vec::new();
        let mut words = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None if grouped => return Err(TemplateError::Syntax("(".to_owned())),
                None => break,
                Some(')') if grouped => {
                    self.rest = &self.rest[1..];
                    break;
                }
                Some('|') => {
                    self.rest = &self.rest[1..];
                    calls.push(Call { words: std::mem::take(&mut words) });
                }
                Some(_) => words.push(self.word()?),
            }
        }
        calls.push(Call { words });
        self.depth -= 1;
        if calls.iter().any(|call| call.words.is_empty()) {
            return Err(TemplateError::Syntax("an empty command".to_owned()));
        }
        Ok(calls)
    }

    fn word(&mut self) -> Result<Word, TemplateError> {
        let text = self.rest;
        if let Some(rest) = text.strip_prefix('(') {
            self.rest = rest;
            return Ok(Word::Group(self.pipe(true)?));
        }
        for quote in ['"', '`', '\''] {
            if text.starts_with(quote) {
                return self.quoted(quote);
            }
        }
        let end = text
            .find(|c: char| c.is_whitespace() || matches!(c, '|' | '(' | ')'))
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        if let Some(path) = word.strip_prefix('.') {
            let fields = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned);
            return Ok(Word::Field(fields.collect()));
        }
        if word.starts_with('$') || word.is_empty() {
            return Err(TemplateError::Syntax(text.to_owned()));
        }
        Ok(match word {
            "true" => Word::Literal(Value::Bool(true)),
            "false" => Word::Literal(Value::Bool(false)),
            _ => match word.parse::<i64>() {
                Ok(number) => Word::Literal(number.into()),
                Err(_) => Word::Name(word.to_owned()),
            },
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Word, TemplateError> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            if character == quote {
                self.rest = &self.rest[index + character.len_utf8()..];
                return Ok(Word::Literal(Value::String(value)));
            }
            if character == '\\' && quote == '"' {
                let escaped = characters.next().map(|pair| pair.1);
                value.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => break,
                });
                continue;
            }
            value.push(character);
        }
        Err(TemplateError::Syntax(self.rest.to_owned()))
    }
}

fn render(nodes: &[Node], data: &Value, text: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(literal) => text.push_str(literal),
            Node::Output(value) => text.push_str(&printed(&evaluate(value, data)?)),
            Node::If { condition, then, otherwise } => {
                let chosen = if truth(&evaluate(condition, data)?) { then } else { otherwise };
                render(chosen, data, text)?;
            }
            Node::With { value, body, otherwise } => {
                let value = evaluate(value, data)?;
                if truth(&value) {
                    render(body, &value, text)?;
                } else {
                    render(otherwise, data, text)?;
                }
            }
            Node::Range { over, body, otherwise } => {
                let items: Vec<Value> = match evaluate(over, data)? {
                    Value::Array(items) => items,
                    Value::Object(map) => map.into_iter().map(|pair| pair.1).collect(),
                    Value::Null => Vec::new(),
                    value => {
                        return Err(TemplateError::Type {
                            function: "range",
                            value: value.to_string(),
                        });
                    }
                };
                if items.is_empty() {
                    render(otherwise, data, text)?;
                }
                for item in &items {
                    render(body, item, text)?;
                }
            }
        }
    }
    Ok(())
}

fn evaluate(pipe: &Pipe, data: &Value) -> Result<Value, TemplateError> {
    let mut last: Option<Value> = None;
    for call in pipe {
        let mut arguments = Vec::new();
        for word in call.words.iter().skip(1) {
            arguments.push(value_of(word, data)?);
        }
        arguments.extend(last.take());
        let first = &call.words[0];
        last = Some(match first {
            Word::Name(function) => apply(function, arguments)?,
            other if arguments.is_empty() => value_of(other, data)?,
            other => return Err(TemplateError::Syntax(format!("{other:?}"))),
        });
    }
    Ok(last.unwrap_or(Value::Null))
}

fn value_of(word: &Word, data: &Value) -> Result<Value, TemplateError> {
    match word {
        Word::Literal(value) => Ok(value.clone()),
        Word::Group(pipe) => evaluate(pipe, data),
        Word::Name(function) => apply(function, Vec::new()),
        Word::Field(path) => {
            let mut value = data;
            for field in path {
                value = match value {
                    Value::Null => return Ok(Value::Null),
                    Value::Object(map) => map.get(field).ok_or_else(|| {
                        TemplateError::UnknownField(format!(".{}", path.join(".")))
                    })?,
                    _ => return Err(TemplateError::UnknownField(format!(".{}", path.join(".")))),
                };
            }
            Ok(value.clone())
        }
    }
}

fn apply(function: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
    let mut arguments = arguments.into_iter();
    let mut next = |function: &'static str| {
        arguments
            .next()
            .ok_or(TemplateError::Type { function, value: "fewer arguments than it needs".into() })
    };
    Ok(match function {
        "json" => Value::String(next("json")?.to_string()),
        "lower" => Value::String(plain(&next("lower")?).to_lowercase()),
        "upper" => Value::String(plain(&next("upper")?).to_uppercase()),
        "println" => Value::String(format!("{}\n", printed(&next("println")?))),
        "len" => length(&next("len")?)?,
        "not" => Value::Bool(!truth(&next("not")?)),
        "eq" => Value::Bool(plain(&next("eq")?) == plain(&next("eq")?)),
        "ne" => Value::Bool(plain(&next("ne")?) != plain(&next("ne")?)),
        "and" => {
            let (left, right) = (next("and")?, next("and")?);
            if truth(&left) { right } else { left }
        }
        "or" => {
            let (left, right) = (next("or")?, next("or")?);
            if truth(&left) { left } else { right }
        }
        "join" => {
            let (list, separator) = (next("join")?, plain(&next("join")?));
            match list {
                Value::Array(items) => {
                    Value::String(items.iter().map(plain).collect::<Vec<_>>().join(&separator))
                }
                Value::Null => Value::String(String::new()),
                other => {
                    return Err(TemplateError::Type { function: "join", value: other.to_string() });
                }
            }
        }
        "split" => {
            let (text, separator) = (plain(&next("split")?), plain(&next("split")?));
            Value::Array(text.split(&separator).map(|part| Value::String(part.into())).collect())
        }
        "index" => {
            let mut value = next("index")?;
            for key in arguments {
                value = match (&value, &key) {
                    (Value::Array(items), Value::Number(n)) => {
                        let index = n.as_u64().and_then(|index| usize::try_from(index).ok());
                        index.and_then(|index| items.get(index)).cloned().unwrap_or(Value::Null)
                    }
                    (Value::Object(map), Value::String(name)) => {
                        map.get(name).cloned().unwrap_or(Value::Null)
                    }
                    (Value::Null, _) => Value::Null,
                    _ => {
                        return Err(TemplateError::Type {
                            function: "index",
                            value: format!("{key} on {value}"),
                        });
                    }
                };
            }
            value
        }
        other => return Err(TemplateError::UnknownFunction(other.to_owned())),
    })
}

fn length(value: &Value) -> Result<Value, TemplateError> {
    Ok(match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::String(text) => text.len(),
        Value::Null => 0,
        other => return Err(TemplateError::Type { function: "len", value: other.to_string() }),
    }
    .into())
}

/// Go's truth: everything but false, zero, nil and the empty.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str) -> Result<String, TemplateError> {
        let data = serde_json::json!({
            "ID": "abc", "Tags": ["a:1", "b:2"], "Size": 12, "Empty": [],
            "Config": { "Env": ["A=1"], "Labels": { "x.y": "z" }, "User": null },
        });
        Template::parse(template)?.execute(&data)
    }

    #[test]
    fn the_forms_that_scripts_use() {
        let cases = [
            ("{{.ID}}", "abc"),
            ("{{ .ID }}-{{.Size}}", "abc-12"),
            ("{{json .Tags}}", r#"["a:1","b:2"]"#),
            ("{{.Tags}} {{.Empty}} {{.Config.Labels}}", "[a:1 b:2] [] map[x.y:z]"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.User}}u{{else}}root{{end}}", "root"),
            ("{{if eq .ID \"x\"}}1{{else if eq .ID \"abc\"}}2{{else}}3{{end}}", "2"),
            ("{{index .Tags 1}}", "b:2"),
            ("{{index .Config.Labels \"x.y\"}}", "z"),
            ("{{index .Config.Labels \"none\"}}", ""),
            ("{{join .Tags \", \"}}", "a:1, b:2"),
            ("{{.ID | upper}}", "ABC"),
            ("{{len .Tags}}", "2"),
            ("{{index (split (index .Tags 0) \":\") 0}}", "a"),
            ("a {{- .ID -}} b", "aabcb"),
            ("{{with .Config}}{{index .Env 0}}{{end}}", "A=1"),
            ("{{/* a comment */}}x", "x"),
        ];
        for (template, expected) in cases {
            assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(run("{{.ID"), Err(TemplateError::Unclosed(0)));
        assert_eq!(run("{{.Nope}}"), Err(TemplateError::UnknownField(".Nope".into())));
        assert_eq!(run("{{frob .ID}}"), Err(TemplateError::UnknownFunction("frob".into())));
        assert_eq!(run("{{range .Tags}}"), Err(TemplateError::MissingEnd("range".into())));
        assert_eq!(run("{{end}}"), Err(TemplateError::UnexpectedEnd("end".into())));
        assert!(matches!(run("{{$x}}"), Err(TemplateError::Syntax(_))));
        assert!(run(&"{{(".repeat(3)).is_err());
        assert_eq!(run(&format!("{{{{{}", "(".repeat(99))), Err(TemplateError::Unclosed(0)));
        assert_eq!(run(&format!("{{{{{}}}}}", "(".repeat(99))), Err(TemplateError::TooDeep));
    }
}
