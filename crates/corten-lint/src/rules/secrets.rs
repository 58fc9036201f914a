//! Values that should not stay in an image.

use corten_dockerfile::Kind;

use super::Finding;
use crate::model::Model;

/// Words that a name of a secret has among its parts.
const TELLING: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that say that it is none.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn in_arg_or_env(model: &Model<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &model.steps {
        let (keyword, names): (_, Vec<&str>) = match &step.instruction.kind {
            Kind::Env(pairs) => ("ENV", pairs.iter().map(|it| it.key.text.as_str()).collect()),
            Kind::Arg(arguments) => {
                ("ARG", arguments.iter().map(|it| it.name.text.as_str()).collect())
            }
            _ => continue,
        };
        for name in names.into_iter().filter(|name| is_secret(name)) {
            let message =
                format!("`{keyword} {name}` looks like a secret, and stays in the image for all");
            let hint = "give it to the step that needs it: `RUN --mount=type=secret,id=…`";
            findings.push(Finding::step(step, message).hint(hint));
        }
    }
    findings
}

fn is_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    has(&TELLING) && !has(&HARMLESS)
}
