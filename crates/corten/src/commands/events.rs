//! `corten events`: what happens to containers, images, volumes and networks.

use std::process::ExitCode;

use corten_oci::time::{parse_rfc3339, rfc3339_nanos};
use corten_store::{Event, EventKind};
use corten_sys::clock::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::{Context, duration};
use crate::cli::EventsArgs;
use crate::error::CliError;
use crate::ui::{Format, print_rows, printable_line};

const NANOSECONDS: i64 = 1_000_000_000;

pub(super) fn events(context: &Context, arguments: &EventsArgs) -> Result<ExitCode, CliError> {
    let format = match Format::parse(arguments.format.as_deref(), arguments.json)? {
        Format::Document => Format::JsonLines,
        format => format,
    };
    let filters = arguments.filters.iter().map(|text| Filter::parse(text));
    let filters: Vec<Filter> = filters.collect::<Result<_, _>>()?;
    let now = SystemClock.now();
    let time = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| nanoseconds(name, text, now)).transpose()
    };
    let until = time("until", &arguments.until)?;
    let since = match time("since", &arguments.since)? {
        Some(since) => since,
        // Nothing of before, unless it is asked for by its end.
        None if until.is_some_and(|until| until <= total(now)) => 0,
        None => total(now),
    };
    let store = context.store()?;
    let mut failed = None;
    store.journal().read(since, until, &mut |event| {
        if !wanted(&filters, event) {
            return true;
        }
        let shown = match &format {
            Format::Default => {
                context.ui.line(&line(event));
                Ok(())
            }
            format => print_rows(&context.ui, format, "corten.events/1", &[], &[row(event)]),
        };
        shown.map_err(|error| failed = Some(error)).is_ok()
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn total(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(NANOSECONDS).saturating_add(time.nanoseconds.into())
}

/// A time, a number of seconds since 1970, or how long ago.
fn nanoseconds(flag: &str, text: &str, now: Timestamp) -> Result<i64, CliError> {
    if let Some(seconds) = parse_rfc3339(text).or_else(|| text.parse().ok()) {
        return Ok(seconds.saturating_mul(NANOSECONDS));
    }
    let hint = "for example `2026-11-21T16:30:00Z`, or `10m` for ten minutes ago";
    let ago = duration(flag, text, hint)?;
    Ok(total(now).saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)))
}

/// Docker's words.
fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Volume => "volume",
        EventKind::Network => "network",
    }
}

/// `2026-11-21T16:30:29.123456789Z container start ID (image=app, name=api)`.
fn line(event: &Event) -> String {
    let nanoseconds = u32::try_from(event.time_nano.rem_euclid(NANOSECONDS)).unwrap_or_default();
    let time = rfc3339_nanos(event.time, nanoseconds);
    let attributes = event.actor.attributes.iter();
    let attributes: Vec<String> =
        attributes.map(|(name, value)| format!("{name}={value}")).collect();
    let (kind, action, id) = (word(event.kind), &event.action, &event.actor.id);
    printable_line(&format!("{time} {kind} {action} {id} ({})", attributes.join(", ")))
}

/// Docker's fields, with those that its older versions had.
fn row(event: &Event) -> Value {
    let mut row = json!(event);
    if event.kind == EventKind::Container || event.kind == EventKind::Image {
        row["status"] = json!(event.action);
        row["id"] = json!(event.actor.id);
    }
    if let (EventKind::Container, Some(image)) = (event.kind, event.actor.attributes.get("image")) {
        row["from"] = json!(image);
    }
    row
}

/// Which events are wanted.
struct Filter {
    name: String,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        const NAMES: [&str; 7] =
            ["type", "event", "container", "image", "volume", "network", "label"];
        let hint = || format!("write `NAME=VALUE` with one of {}", NAMES.join(", "));
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::new(format!("the filter `{text}` has no value")).hint(hint())
        })?;
        if !NAMES.contains(&name) {
            return Err(CliError::new(format!("there is no filter `{name}`")).hint(hint()));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    fn matches(&self, event: &Event) -> bool {
        let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
        // By the name, or the beginning of the ID.
        let is_it = |kind: EventKind| {
            event.kind == kind
                && (attribute("name") == Some(&self.value)
                    || event
                        .actor
                        .id
                        .strip_prefix("sha256:")
                        .unwrap_or(&event.actor.id)
                        .starts_with(self.value.strip_prefix("sha256:").unwrap_or(&self.value)))
        };
        match self.name.as_str() {
            "type" => word(event.kind) == self.value,
            // `exec_start: sh -c …` is an `exec_start`, and `health_status: healthy` itself, too.
            "event" => {
                event.action == self.value
                    || event.action.split(':').next() == Some(self.value.as_str())
            }
            "container" => is_it(EventKind::Container),
            "image" => is_it(EventKind::Image) || attribute("image") == Some(&self.value),
            "volume" => is_it(EventKind::Volume),
            "network" => is_it(EventKind::Network),
            _ => match self.value.split_once('=') {
                Some((name, value)) => attribute(name) == Some(value),
                None => attribute(&self.value).is_some(),
            },
        }
    }
}

/// As in Docker, one of those of the same name must fit, of each name.
fn wanted(filters: &[Filter], event: &Event) -> bool {
    filters.iter().all(|filter| {
        filters.iter().filter(|other| other.name == filter.name).any(|other| other.matches(event))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_name_are_alternatives_and_others_come_on_top() {
        let event = Event::new(EventKind::Container, "exec_start: ls", "ab12", &[("name", "one")]);
        let wants = |texts: &[&str]| {
            let filters: Vec<Filter> =
                texts.iter().map(|text| Filter::parse(text).unwrap()).collect();
            wanted(&filters, &event)
        };
        assert!(wants(&[]) && wants(&["event=exec_start", "event=die", "container=one"]));
        assert!(
            wants(&["container=ab"]) && wants(&["label=name=one"]) && wants(&["type=container"])
        );
        assert!(!wants(&["event=start"]) && !wants(&["event=exec_start", "container=two"]));
        assert!(!wants(&["image=ab12"]));
        assert!(Filter::parse("nonsense=1").is_err() && Filter::parse("type").is_err());
    }

    #[test]
    fn a_line_is_dockers() {
        let mut event = Event::new(EventKind::Volume, "create", "data", &[("driver", "local")]);
        (event.time, event.time_nano) = (1, 1_000_000_005);
        let line = line(&event);
        assert_eq!(line, "1970-01-01T00:00:01.000000005Z volume create data (driver=local)");
    }
}
