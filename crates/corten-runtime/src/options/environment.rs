//! `-e`, `--env-file`, and what an image asks for.

use super::OptionError;

/// Parses `-e`: `NAME=value`, or `NAME` whose value `lookup` finds on the host.
///
/// `None` means that the host does not have it: Docker leaves it out then.
pub fn parse_variable(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, OptionError> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() || text.contains('\0') {
        return Err(OptionError::new(text, "a variable `NAME=value`", "-e MODEL_API_KEY=secret"));
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(lookup(name).map(|value| format!("{name}={value}")))
}

/// Parses the text of an environment file: a variable a line, `#` comments, blank lines.
///
/// As in Docker, values are taken as they are: quotes are part of them.
pub fn parse_file(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, (usize, OptionError)> {
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            let error = OptionError::new(line, "a variable without blanks in its name", "A=1");
            return Err((index + 1, error));
        }
        variables.extend(parse_variable(line, lookup).map_err(|error| (index + 1, error))?);
    }
    Ok(variables)
}

/// Adds variables to others; a later one of the same name takes the earlier one's place.
pub fn merge(into: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for variable in more {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        let same = |known: &String| known.split('=').next() == Some(name.as_str());
        match into.iter().position(same) {
            Some(index) => into[index] = variable,
            None => into.push(variable),
        }
    }
}

/// The required names that are not set, or set to nothing, in order and once each.
pub fn missing(required: &[String], environment: &[String]) -> Vec<String> {
    let set = |name: &str| {
        environment.iter().any(|variable| {
            variable.split_once('=').is_some_and(|(n, value)| n == name && !value.is_empty())
        })
    };
    let mut names: Vec<String> = Vec::new();
    for name in required {
        if !set(name) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/a".to_owned())
    }

    #[test]
    fn a_bare_name_takes_the_hosts_value_or_is_left_out() {
        assert_eq!(parse_variable("A=1=2", &host), Ok(Some("A=1=2".into())));
        assert_eq!(parse_variable("HOME", &host), Ok(Some("HOME=/home/a".into())));
        assert_eq!(parse_variable("NOPE", &host), Ok(None));
        assert!(parse_variable("=x", &host).is_err());
    }

    #[test]
    fn a_file_keeps_quotes_and_names_the_line_of_a_mistake() {
        let text = "# comment\n\nA=\"1\"\n  B=2 3\nHOME\n";
        let expected = ["A=\"1\"", "B=2 3", "HOME=/home/a"].map(String::from);
        assert_eq!(parse_file(text, &host), Ok(expected.to_vec()));
        assert_eq!(parse_file("A=1\nB C=2", &host).unwrap_err().0, 2);
    }

    #[test]
    fn the_last_value_wins_and_keeps_the_first_place() {
        let mut variables = vec!["PATH=/bin".to_owned(), "A=1".to_owned()];
        merge(&mut variables, ["PATH=/usr/bin".to_owned(), "B=2".to_owned()]);
        assert_eq!(variables, ["PATH=/usr/bin", "A=1", "B=2"]);
    }

    #[test]
    fn an_empty_value_does_not_satisfy_a_requirement() {
        let required = ["A", "B", "C", "A"].map(String::from);
        let environment = ["B=".to_owned(), "C=x".to_owned()];
        assert_eq!(missing(&required, &environment), ["A", "B"]);
    }
}
