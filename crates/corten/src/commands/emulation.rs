//! `corten system emulation`: programs of other processors.

use std::process::ExitCode;

use corten_oci::platform::Platform;
use corten_runtime::emulation::{self, Emulation, Execution, Registered};
use serde_json::{Value, json};

use super::Context;
use crate::cli::EmulationArgs;
use crate::error::CliError;
use crate::ui::{Format, print_rows};

pub(super) fn emulation(
    context: &Context,
    arguments: &EmulationArgs,
) -> Result<ExitCode, CliError> {
    let mut wanted = Vec::new();
    let known = emulation::architectures();
    for text in &arguments.architectures {
        let architecture = Platform::new("linux", text, None).architecture;
        if !known.contains(&architecture) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = corten_diag::suggest::nearest(text, &names);
            return Err(CliError::new(format!("no processor `{text}` is known")).hint(
                near.map_or_else(
                    || format!("there are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                ),
            ));
        }
        wanted.push(architecture);
    }
    if arguments.register {
        let registered = emulation::register(&wanted).map_err(|error| {
            let hint = error.hint();
            CliError::new(error).hint(hint)
        })?;
        tell(context, &registered);
        if !arguments.json {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let shown = if wanted.is_empty() { known } else { wanted };
    list(context, &shown, arguments.json)
}

fn tell(context: &Context, registered: &[Registered]) {
    for Registered { architecture, interpreter, already } in registered {
        let verb = if *already { "known" } else { "registered" };
        context.ui.done(verb, &format!("{architecture}  {}", interpreter.display()));
    }
}

fn list(context: &Context, architectures: &[String], json: bool) -> Result<ExitCode, CliError> {
    let (host, facts) = (Platform::host(), Emulation::gather()?);
    let mut rows: Vec<Value> = Vec::new();
    let mut remedy = None;
    for architecture in architectures {
        let platform = Platform::new(&host.os, architecture, None);
        let (how, detail) = match facts.execution(&host, &platform) {
            Ok(Execution::Native) => ("native", String::new()),
            Ok(Execution::Emulated { interpreter }) => {
                ("emulated", interpreter.display().to_string())
            }
            Err(refused) => {
                remedy.get_or_insert(refused.hint());
                ("no", refused.reason.to_string())
            }
        };
        rows.push(json!({ "Architecture": architecture, "Execution": how, "Detail": detail }));
    }
    let columns = [("ARCHITECTURE", "Architecture"), ("EXECUTION", "Execution"), ("", "Detail")];
    let format = Format::parse(None, json)?;
    print_rows(&context.ui, &format, "corten.system-emulation/1", &columns, &rows)?;
    if let (Some(remedy), false) = (remedy, json) {
        context.ui.hint(&remedy);
    }
    Ok(ExitCode::SUCCESS)
}
