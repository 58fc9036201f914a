use std::process::ExitCode;

use super::Context;
use crate::cli::{self, VersionArgs};
use crate::error::CliError;

/// `corten version`.
pub(super) fn version(context: &Context, arguments: &VersionArgs) {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        let document = serde_json::json!({
            "schema": "corten.version/1",
            "version": version,
            "root": context.settings.root,
            "configuration": context.settings.config.files,
        });
        context.ui.line(&format!("{document:#}"));
    } else {
        context.ui.line(&format!("corten {version}"));
    }
}

/// `corten __reference PAGE`: what `cargo xtask gen` writes to docs/reference.
pub(super) fn reference(context: &Context, page: &str) -> Result<ExitCode, CliError> {
    match page {
        "cli" => {
            context.ui.data(&cli::reference());
            Ok(ExitCode::SUCCESS)
        }
        other => Err(CliError::new(format!("there is no reference page `{other}`"))
            .hint("the page is `cli`".to_owned())),
    }
}
