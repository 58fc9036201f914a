//! `HEALTHCHECK`.

use std::time::Duration;

use corten_diag::Diagnostic;

use super::flags::{Flags, Known, Takes};
use super::logical::Part;
use super::understand::{Judge, Understood};
use crate::ast::{CommandLine, Healthcheck};
use crate::duration;

const FLAGS: &Known = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

pub(super) fn healthcheck(judge: &mut Judge<'_>) -> Understood<Healthcheck> {
    let raw = judge.raw;
    let Some(kind) = raw.args.words.first() else {
        return judge.refuse_all("`HEALTHCHECK` needs at least one argument".to_owned());
    };
    if kind.text.eq_ignore_ascii_case("NONE") {
        if let Some(second) = raw.args.words.get(1) {
            let message = "`HEALTHCHECK NONE` takes no arguments";
            return judge.refuse(Diagnostic::error(message).at(second.span));
        }
        judge.flags_are_ignored();
        return Ok(Healthcheck::None);
    }
    let mut flags = judge.flags(FLAGS)?;
    if !kind.text.eq_ignore_ascii_case("CMD") {
        let message = format!("`HEALTHCHECK` knows no `{}`", kind.text);
        let hint = "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`";
        return judge.refuse(Diagnostic::error(message).at(kind.span).with_hint(hint));
    }
    if raw.args.words.len() == 1 {
        let message = "`HEALTHCHECK CMD` needs a command";
        return judge.refuse(Diagnostic::error(message).at(kind.span));
    }
    let after = raw.split.rest.start + kind.text.len();
    let command: CommandLine = judge.command(Part::new(after, raw.split.rest.end), 1);
    Ok(Healthcheck::Cmd {
        interval: interval(judge, &mut flags, "interval")?,
        timeout: interval(judge, &mut flags, "timeout")?,
        start_period: interval(judge, &mut flags, "start-period")?,
        start_interval: interval(judge, &mut flags, "start-interval")?,
        retries: retries(judge, &mut flags)?,
        command,
    })
}

fn interval(judge: &mut Judge<'_>, flags: &mut Flags, name: &str) -> Understood<Duration> {
    /// Docker's engine refuses shorter ones.
    const LEAST: Duration = Duration::from_millis(1);
    let Some(value) = flags.value(name) else { return Ok(Duration::ZERO) };
    let message = match duration::parse(&value.text) {
        Ok(duration) if duration.is_zero() || duration >= LEAST => return Ok(duration),
        Ok(_) | Err(duration::DurationError::Negative) => {
            format!("`--{name}` cannot be less than 1ms, `{}` is", value.text)
        }
        Err(error) => format!("invalid duration `{}` for `--{name}`: {error}", value.text),
    };
    let hint = "write a duration like `30s`, `1m30s` or `500ms`";
    judge.refuse(Diagnostic::error(message).at(value.span).with_hint(hint))
}

fn retries(judge: &mut Judge<'_>, flags: &mut Flags) -> Understood<u32> {
    let Some(value) = flags.value("retries") else { return Ok(0) };
    match value.text.parse::<i32>() {
        Ok(number) if number >= 0 => Ok(number.unsigned_abs()),
        _ => {
            let message = format!("invalid number `{}` for `--retries`", value.text);
            judge.refuse(Diagnostic::error(message).at(value.span))
        }
    }
}
