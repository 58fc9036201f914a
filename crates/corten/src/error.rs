//! What a command can fail with, and the exit code that it becomes.

use std::process::ExitCode;

use corten_runtime::cdi::CdiError;

use crate::cli::EXIT_FAILURE;
use crate::ui::Ui;

/// A failure on its way to the terminal: the error, what to do about it, the exit code.
#[derive(Debug)]
pub(crate) struct CliError {
    pub error: Box<dyn std::error::Error + Send + Sync>,
    pub hints: Vec<String>,
    pub code: u8,
    /// The error was shown already (a diagnostic with its source line, say).
    pub shown: bool,
}

impl CliError {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: error.into(), hints: Vec::new(), code: EXIT_FAILURE, shown: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hints.extend(hint.into());
        self
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn shown(mut self) -> Self {
        self.shown = true;
        self
    }

    pub(crate) fn print(&self, ui: &Ui) -> ExitCode {
        if !self.shown {
            ui.error(self.error.as_ref(), &self.hints);
        }
        ExitCode::from(self.code)
    }
}

/// Gives every library error its hint on the way up.
macro_rules! with_hint {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                Self::new(error).hint(hint)
            }
        }
    )*};
}

with_hint!(
    corten_base::BaseError,
    corten_build::BuildError,
    corten_build::ChangeError,
    corten_build::output::OutputError,
    corten_build::recording::LockError,
    corten_build::ssh::SshError,
    corten_http::HttpError,
    corten_runtime::PlanError,
    corten_runtime::RunError,
    corten_runtime::SettleError,
    corten_runtime::files::FilesError,
    corten_runtime::network::PortError,
    corten_runtime::user::UserError,
    corten_store::StoreError,
    corten_sys::userns::UsernsError,
);

impl From<CdiError> for CliError {
    fn from(error: CdiError) -> Self {
        // A description that cannot be read may be why a device is not known.
        let unread = error.notes().iter().map(|note| format!("not read: {note}"));
        let mut hints: Vec<String> = unread.collect();
        hints.extend(error.hint());
        let mut error = Self::new(error);
        error.hints = hints;
        error
    }
}

impl From<corten_monitor::MonitorError> for CliError {
    fn from(error: corten_monitor::MonitorError) -> Self {
        let (hint, code) = (error.hint(), error.exit_code());
        Self::new(error).hint(hint).with_code(code.unwrap_or(EXIT_FAILURE))
    }
}

impl From<corten_runtime::network::NetworkError> for CliError {
    fn from(error: corten_runtime::network::NetworkError) -> Self {
        let hint = error.hint();
        Self::new(error).hint(hint)
    }
}

impl From<crate::settings::ConfigError> for CliError {
    fn from(error: crate::settings::ConfigError) -> Self {
        let hint = error.hint().to_owned();
        Self::new(error).hint(hint)
    }
}

impl From<crate::ui::FormatError> for CliError {
    fn from(error: crate::ui::FormatError) -> Self {
        Self::new(error)
            .hint("use `json`, `table {{.Field}}` or a Go template such as `{{.ID}}`".to_owned())
    }
}

impl From<corten_oci::reference::ReferenceError> for CliError {
    fn from(error: corten_oci::reference::ReferenceError) -> Self {
        Self::new(error).hint("a name is `[registry/]repository[:tag]`, in lower case".to_owned())
    }
}

impl From<corten_oci::platform::PlatformError> for CliError {
    fn from(error: corten_oci::platform::PlatformError) -> Self {
        Self::new(error).hint("a platform is `linux/amd64`, `linux/arm64` and the like".to_owned())
    }
}

impl From<corten_sys::error::IoError> for CliError {
    fn from(error: corten_sys::error::IoError) -> Self {
        Self::new(error)
    }
}
