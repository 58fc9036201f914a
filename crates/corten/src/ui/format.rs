//! `--format`: `json`, `table TEMPLATE` or a Go template, over rows of JSON objects.

use serde_json::Value;
use thiserror::Error;

use super::template::{Template, TemplateError};
use super::{Ui, printable_line, table};

/// What `--format` asked for.
#[derive(Debug)]
pub(crate) enum Format {
    /// The command's own table.
    Default,
    /// One JSON object a line, as Docker prints `--format json`.
    JsonLines,
    /// One versioned document: `--json`.
    Document,
    Table(Template, Vec<String>),
    Template(Template),
}

#[derive(Debug, Error)]
pub(crate) enum FormatError {
    #[error("`--format {text}` cannot be read")]
    Parse {
        text: String,
        #[source]
        source: TemplateError,
    },
    #[error("the template cannot be filled in")]
    Execute(#[source] TemplateError),
}

impl Format {
    /// Parses the value of `--format`; `json` is the command's `--json` flag.
    pub(crate) fn parse(format: Option<&str>, json: bool) -> Result<Self, FormatError> {
        let Some(text) = format else {
            return Ok(if json { Self::Document } else { Self::Default });
        };
        let parse = |template: &str| {
            // Scripts write `\t` and `\n` inside single quotes.
            let template = template.replace("\\t", "\t").replace("\\n", "\n");
            Template::parse(&template)
                .map_err(|source| FormatError::Parse { text: text.to_owned(), source })
        };
        match text {
            "json" => Ok(Self::JsonLines),
            "table" => Ok(Self::Default),
            _ => match text.strip_prefix("table ") {
                Some(columns) => {
                    let header = columns.replace("\\t", "\t");
                    let header = header.split('\t').map(heading).collect();
                    Ok(Self::Table(parse(columns)?, header))
                }
                None => Ok(Self::Template(parse(text)?)),
            },
        }
    }
}

/// `{{.Repository}}` becomes `REPOSITORY`.
fn heading(column: &str) -> String {
    column
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || *character == ' ')
        .collect::<String>()
        .trim()
        .to_ascii_uppercase()
}

/// Prints rows as asked; `columns` are (heading, key) pairs of the command's own table.
pub(crate) fn print_rows(
    ui: &Ui,
    format: &Format,
    schema: &str,
    columns: &[(&str, &str)],
    rows: &[Value],
) -> Result<(), FormatError> {
    match format {
        Format::Default => {
            let header: Vec<String> = columns.iter().map(|pair| pair.0.to_owned()).collect();
            let cells: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    columns.iter().map(|pair| printable_line(&plain(&row[pair.1]))).collect()
                })
                .collect();
            ui.data(&table::layout(&header, &cells));
        }
        Format::JsonLines => {
            for row in rows {
                ui.line(&row.to_string());
            }
        }
        Format::Document => {
            let document = serde_json::json!({ "schema": schema, "items": rows });
            ui.line(&format!("{document:#}"));
        }
        Format::Table(template, header) => {
            let mut cells = Vec::new();
            for row in rows {
                let line = template.execute(row).map_err(FormatError::Execute)?;
                cells.push(line.split('\t').map(str::to_owned).collect());
            }
            ui.data(&table::layout(header, &cells));
        }
        Format::Template(template) => {
            for row in rows {
                ui.line(&template.execute(row).map_err(FormatError::Execute)?);
            }
        }
    }
    Ok(())
}

/// A value as Go's templates print it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
