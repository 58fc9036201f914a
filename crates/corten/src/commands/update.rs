//! `corten update`: other limits and another restart policy, at once and from now on.

use std::process::ExitCode;

use corten_monitor::{Definition, MonitorError, ParseRestartError, Restart};
use corten_runtime::options;
use corten_runtime::{Limit, Resources};
use corten_store::{Container, Event, Store};

use super::life::{each, reach};
use super::{Context, flag, tell};
use crate::cli::UpdateArgs;
use crate::error::CliError;

/// What is to be otherwise; `None` stays as it is.
struct Change {
    limits: Resources,
    /// There is to be no limit of processes.
    any_pids: bool,
    restart: Option<Restart>,
}

pub(super) fn update(context: &Context, arguments: &UpdateArgs) -> Result<ExitCode, CliError> {
    let change = Change::of(arguments)?;
    let store = context.store()?;
    Ok(each(context, &store, &arguments.containers, |container, name| {
        for warning in update_one(&store, container, &change)? {
            context.ui.warning(&warning);
        }
        tell(context, &store, &Event::of(&container.record, "update", &[]));
        context.ui.line(name);
        Ok(())
    }))
}

/// Changes a container that runs first: what it refuses is not written down.
fn update_one(
    store: &Store,
    container: &Container,
    change: &Change,
) -> Result<Vec<String>, CliError> {
    if change.restart.is_some_and(|restart| restart != Restart::No)
        && container.record.remove_at_end
    {
        return Err(CliError::new("a container cannot be both removed and started again")
            .hint("it was made with `--rm`, which goes on".to_owned()));
    }
    let control = reach(store, container)?;
    let mut warnings = Vec::new();
    store.change_definition(&container.record.id, |bytes| {
        let mut definition = Definition::decode(bytes)?;
        change.apply(&mut definition);
        if let Some(control) = control {
            warnings = control.update(definition.clone())?;
        }
        Ok::<_, CliError>(definition.encode().map_err(|error: MonitorError| error)?)
    })?;
    Ok(warnings)
}

impl Change {
    fn of(arguments: &UpdateArgs) -> Result<Self, CliError> {
        let bytes = |name: &str, text: &Option<String>| -> Result<Option<Limit<u64>>, CliError> {
            let text = text.as_ref().map(|text| flag(name, options::parse_bytes(text)));
            Ok(text.transpose()?.map(Limit::required))
        };
        let swap = arguments.memory_swap.as_ref();
        let swap = swap.map(|text| flag("memory-swap", options::parse_swap(text))).transpose()?;
        let cpus = arguments.cpus.as_ref();
        let cpus = cpus.map(|text| flag("cpus", options::parse_cpus(text))).transpose()?;
        let pids = arguments.pids_limit.filter(|count| ![0, -1].contains(count));
        let pids = pids.map(|count| {
            u64::try_from(count).map_err(|_| {
                CliError::new(format!("`--pids-limit {count}` is no number of processes"))
                    .hint("write a number, or -1 for no limit".to_owned())
            })
        });
        let limits = Resources {
            memory_bytes: bytes("memory", &arguments.memory)?,
            memory_swap_bytes: swap.map(Limit::required),
            memory_reservation_bytes: bytes("memory-reservation", &arguments.memory_reservation)?,
            cpu_millis: cpus.map(Limit::required),
            cpu_quota_us: arguments.cpu_quota.map(Limit::required),
            cpu_period_us: arguments.cpu_period.map(Limit::required),
            cpu_shares: arguments.cpu_shares.map(Limit::required),
            cpuset: arguments.cpuset_cpus.clone().map(Limit::required),
            memory_nodes: arguments.cpuset_mems.clone().map(Limit::required),
            pids: pids.transpose()?.map(Limit::required),
            block_weight: arguments.blkio_weight.map(Limit::required),
            ..Resources::default()
        };
        let restart = arguments.restart.as_deref().map(str::parse).transpose();
        let restart = restart.map_err(|error: ParseRestartError| {
            let hint = error.hint().to_owned();
            CliError::new(format!("failed to read `--restart`: {error}")).hint(hint)
        })?;
        let any_pids = arguments.pids_limit.is_some() && limits.pids.is_none();
        let change = Self { limits, any_pids, restart };
        if change.limits == Resources::default() && !any_pids && restart.is_none() {
            return Err(CliError::new("nothing is to be changed")
                .hint("for example `corten update --memory 2g NAME`".to_owned()));
        }
        Ok(change)
    }

    fn apply(&self, definition: &mut Definition) {
        fn put<T: Clone>(place: &mut Option<T>, wanted: Option<&T>) {
            if let Some(wanted) = wanted {
                *place = Some(wanted.clone());
            }
        }
        let (now, wanted) = (&mut definition.spec.resources, &self.limits);
        if let (Some(bytes), Some(both)) = (&wanted.memory_bytes, &mut now.memory_swap_bytes) {
            // Memory is a part of it.
            both.value = both.value.max(bytes.value);
        }
        // Two ways to say the same.
        if wanted.cpu_millis.is_some() {
            (now.cpu_quota_us, now.cpu_period_us) = (None, None);
        }
        if wanted.cpu_quota_us.is_some() {
            now.cpu_millis = None;
        }
        put(&mut now.memory_bytes, wanted.memory_bytes.as_ref());
        put(&mut now.memory_swap_bytes, wanted.memory_swap_bytes.as_ref());
        put(&mut now.memory_reservation_bytes, wanted.memory_reservation_bytes.as_ref());
        put(&mut now.cpu_millis, wanted.cpu_millis.as_ref());
        put(&mut now.cpu_quota_us, wanted.cpu_quota_us.as_ref());
        put(&mut now.cpu_period_us, wanted.cpu_period_us.as_ref());
        put(&mut now.cpu_shares, wanted.cpu_shares.as_ref());
        put(&mut now.cpuset, wanted.cpuset.as_ref());
        put(&mut now.memory_nodes, wanted.memory_nodes.as_ref());
        put(&mut now.pids, wanted.pids.as_ref());
        put(&mut now.block_weight, wanted.block_weight.as_ref());
        if self.any_pids {
            now.pids = None;
        }
        if let Some(restart) = self.restart {
            definition.restart = restart;
        }
    }
}
