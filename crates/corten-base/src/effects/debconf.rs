//! The database of debconf: the questions of the installed packages, unanswered.
//!
//! Packages that are installed later ask questions of their own and of these, so that a question
//! that the database does not have would be an error in their scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Context, EffectError, of};
use crate::deb822;

/// Writes `/var/cache/debconf`; translations are left out.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    if context.package("debconf").is_none() {
        return Ok(());
    }
    let mut questions: BTreeMap<String, Question> = BTreeMap::new();
    for package in context.packages.iter().filter(|package| package.is_installed) {
        for paragraph in deb822::paragraphs(package.control.text("templates")) {
            let name = paragraph.text("Template").to_owned();
            if !name.is_empty() {
                questions.insert(
                    name,
                    Question { owner: package.name.clone(), fields: template(&paragraph) },
                );
            }
        }
    }
    let (mut templates, mut config) = (String::new(), String::new());
    for (name, Question { owner, fields }) in &questions {
        write!(config, "Name: {name}\nTemplate: {name}\nOwners: {owner}\n\n")
            .expect("writing to a string cannot fail");
        write!(templates, "Name: {name}\n{fields}Owners: {name}\n\n")
            .expect("writing to a string cannot fail");
    }
    let rootfs = &mut *context.rootfs;
    rootfs
        .write("var/cache/debconf/templates.dat", templates, 0o644)
        .and_then(|()| rootfs.write("var/cache/debconf/config.dat", config, 0o644))
        .and_then(|()| rootfs.write("var/cache/debconf/passwords.dat", "", 0o600))
        .or_else(of("debconf"))
}

struct Question {
    owner: String,
    fields: String,
}

/// The fields of a template as the database has them: the long text apart from the short one, lines
/// joined by `\n`.
fn template(paragraph: &deb822::Paragraph<'_>) -> String {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for field in paragraph.fields() {
        if field.name.contains('-') || field.name.eq_ignore_ascii_case("Template") {
            continue;
        }
        let (first, rest) = field.value.split_once('\n').unwrap_or((field.value, ""));
        fields.insert(field.name.to_owned(), first.trim_ascii().to_owned());
        if !rest.is_empty() {
            fields.insert("Extended_description".to_owned(), long_text(rest));
        }
    }
    fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<Vec<_>>().concat()
}

/// Lines of a paragraph are joined, ` .` separates paragraphs, and lines that begin with a further
/// blank stay lines.
fn long_text(text: &str) -> String {
    let mut out = String::new();
    let mut joins = false;
    for line in text.lines() {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_ascii_end();
        if line == "." {
            out.push_str("\\n\\n");
            joins = false;
        } else if line.starts_with([' ', '\t']) {
            let separator = if out.is_empty() || out.ends_with("\\n") { "" } else { "\\n" };
            out.push_str(separator);
            out.push_str(line);
            out.push_str("\\n");
            joins = false;
        } else {
            out.push_str(if joins { " " } else { "" });
            out.push_str(line);
            joins = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_template_loses_its_translations_and_keeps_its_text() {
        let text = "Template: a/b\nType: select\nChoices: x, y\nChoices-de.UTF-8: x, y\nDefault: x\n\
            Description: Short?\n First line\n goes on.\n .\n Second:\n  - item\n  - more\nDescription-de.UTF-8: Kurz?\n";
        let paragraph = deb822::paragraphs(text).next().unwrap();
        expect![[r#"
            Choices: x, y
            Default: x
            Description: Short?
            Extended_description: First line goes on.\n\nSecond:\n - item\n - more\n
            Type: select
        "#]]
        .assert_eq(&template(&paragraph));
    }
}
