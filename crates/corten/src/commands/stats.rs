//! `corten stats`: what running containers use of the machine.

use std::process::ExitCode;
use std::time::Duration;

use corten_runtime::Usage;
use corten_store::{Container, Store};
use corten_sys::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::Context;
use super::life::{control, existing};
use super::ps::SHORT_ID;
use crate::cli::StatsArgs;
use crate::error::CliError;
use crate::ui::{self, Format, print_rows};

/// Between two looks, in which processor time is measured.
const INTERVAL: Duration = Duration::from_secs(1);

/// Puts the cursor to the first line and clears the screen below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

const COLUMNS: [(&str, &str); 8] = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

pub(super) fn stats(context: &Context, arguments: &StatsArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let store = context.store()?;
    let is_once = arguments.no_stream || arguments.json;
    let is_screen = context.ui.data_is_terminal() && matches!(format, Format::Default);
    let mut before = look(&store, arguments)?;
    let mut is_told = false;
    loop {
        std::thread::sleep(INTERVAL);
        let now = look(&store, arguments)?;
        let rows: Vec<Value> = now
            .iter()
            .map(|seen| {
                let earlier = before
                    .iter()
                    .find(|before| before.container.record.id == seen.container.record.id);
                row(seen, earlier, arguments.no_trunc)
            })
            .collect();
        if is_screen && !is_once {
            context.ui.data(CLEAR);
        }
        print_rows(&context.ui, &format, "corten.stats/1", &COLUMNS, &rows)?;
        let is_summed =
            |seen: &Seen| seen.usage.as_ref().is_some_and(|used| !used.memory_is_counted);
        if !is_told && now.iter().any(is_summed) {
            is_told = true;
            context.ui.note(
                "memory marked with `~` is summed over processes, which counts what they share several \
                 times: `--memory` lets the kernel count",
            );
        }
        if is_once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// A container at one moment.
struct Seen {
    container: Container,
    at: Duration,
    /// `None` where nothing runs.
    usage: Option<Usage>,
}

fn look(store: &Store, arguments: &StatsArgs) -> Result<Vec<Seen>, CliError> {
    let containers = if arguments.containers.is_empty() {
        let mut found = store.containers()?;
        found.retain(|container| arguments.all || container.running);
        found.sort_by_key(|container| std::cmp::Reverse(container.record.created));
        found
    } else {
        let names = arguments.containers.iter();
        names.map(|name| existing(store, name)).collect::<Result<_, _>>()?
    };
    let seen = containers.into_iter().map(|container| {
        // One that ends just now uses nothing any more.
        let usage = control(store, &container)?.and_then(|control| control.usage().ok());
        Ok(Seen { container, at: SystemClock.monotonic(), usage })
    });
    seen.collect()
}

fn row(seen: &Seen, before: Option<&Seen>, whole: bool) -> Value {
    let record = &seen.container.record;
    let id = record.id.get(..SHORT_ID).filter(|_| !whole).unwrap_or(&record.id);
    let mut value = json!({
        "ID": id,
        "Container": id,
        "Name": record.name,
        "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "MemPerc": "0.00%",
        "NetIO": "0B / 0B",
        "BlockIO": "0B / 0B",
        "PIDs": "0",
    });
    let Some(used) = &seen.usage else { return value };
    let earlier = before.and_then(|before| Some((before.at, before.usage.as_ref()?.cpu_us)));
    if let Some((at, cpu_us)) = earlier {
        let spent = u128::from(used.cpu_us.saturating_sub(cpu_us));
        value["CPUPerc"] = json!(percent(spent, seen.at.saturating_sub(at).as_micros()));
    }
    let limit = used.memory_limit_bytes;
    let sign = if used.memory_is_counted { "" } else { "~" };
    let binary = |bytes: u64| ui::bytes_binary(bytes).replace(' ', "");
    value["MemUsage"] = json!(format!("{sign}{} / {}", binary(used.memory_bytes), binary(limit)));
    value["MemPerc"] = json!(percent(used.memory_bytes.into(), limit.into()));
    value["NetIO"] = json!(pair(used.received_bytes, used.sent_bytes));
    value["BlockIO"] = json!(pair(used.read_bytes, used.written_bytes));
    value["PIDs"] = json!(used.pids.to_string());
    value
}

/// `12.34%`.
fn percent(part: u128, whole: u128) -> String {
    let hundredths = part.saturating_mul(10_000) / whole.max(1);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// `1.2kB / 0B`, or two dashes for what nobody counts.
fn pair(first: Option<u64>, second: Option<u64>) -> String {
    match (first, second) {
        (Some(first), Some(second)) => format!("{} / {}", ui::bytes(first), ui::bytes(second)),
        _ => "-- / --".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_dockers() {
        assert_eq!(percent(1_234, 10_000), "12.34%");
        assert_eq!(percent(5, 0), "500.00%", "nothing is divided by zero");
        assert_eq!(pair(Some(1_200), Some(0)), "1.20kB / 0B");
        assert_eq!(pair(None, Some(0)), "-- / --");
    }
}
