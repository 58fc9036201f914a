//! Instructions that change nothing but what an image says about itself: `commit --change` and `import
//! --change`.

use corten_diag::Span;
use corten_dockerfile::{CommandLine, Instruction, Kind, Pair, Word};
use corten_oci::image::ImageConfig;

use super::instruction::is_signal;
use super::scope::Variables;
use super::{PlanResult, Scope, error};
use crate::config::StageConfig;

/// A change that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change `{change}` cannot be made: {reason}")]
pub struct ChangeError {
    change: String,
    reason: String,
    hint: Option<String>,
}

impl ChangeError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        let known = "changes are `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, \
                     `SHELL`, `STOPSIGNAL`, `USER`, `VOLUME` and `WORKDIR`, as in a Dockerfile";
        Some(self.hint.clone().unwrap_or_else(|| known.to_owned()))
    }
}

/// Applies instructions to a configuration; neither its history nor its layers change.
pub fn change_config(image: &ImageConfig, changes: &[String]) -> Result<ImageConfig, ChangeError> {
    let mut changed = image.clone();
    let mut config = StageConfig::from_image(image, 0);
    // What is not there is not added; triggers stay.
    config.image.config = image.config.clone();
    let mut variables = Variables::default();
    for variable in &image.config.env {
        if let Some((name, value)) = variable.split_once('=') {
            variables.set(name, value);
        }
    }
    for change in changes {
        let wrong = |reason: String, hint: Option<String>| ChangeError {
            change: change.clone(),
            reason,
            hint,
        };
        let parsed = corten_dockerfile::parse(change);
        if let Some(diagnostic) = parsed.diagnostics.iter().find(|each| each.is_error()) {
            return Err(wrong(diagnostic.message.clone(), diagnostic.hint.clone()));
        }
        for each in &parsed.instructions {
            apply(&mut config, &mut variables, each)
                .map_err(|diagnostic| wrong(diagnostic.message.clone(), diagnostic.hint.clone()))?;
        }
    }
    changed.config = config.image.config;
    Ok(changed)
}

fn apply(
    config: &mut StageConfig,
    variables: &mut Variables,
    each: &Instruction,
) -> PlanResult<()> {
    let known = variables.clone();
    let scope = Scope::new(&known, '\\');
    let words = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
    match &each.kind {
        Kind::Env(pairs) => {
            let pairs = expand(&scope, pairs)?;
            for (name, value) in &pairs {
                variables.set(name, value);
            }
            config.env(&pairs);
        }
        Kind::Label(pairs) => config.label(&expand(&scope, pairs)?),
        Kind::Workdir(path) => {
            config.workdir(&scope.expand(path)?);
        }
        Kind::User(user) => config.set_user(&scope.expand(user)?),
        Kind::Expose(ports) => config.expose(expose(&scope, ports)?),
        Kind::Volume(paths) => {
            let paths: PlanResult<Vec<String>> =
                paths.iter().map(|path| scope.expand(path)).collect();
            config.volume(paths?);
        }
        Kind::Cmd(command) => config.cmd(arguments(config, command)),
        Kind::Entrypoint(command) => {
            // Who changes the one alone means to keep the other.
            let cmd = config.image.config.cmd.clone();
            config.entrypoint(arguments(config, command));
            config.image.config.cmd = cmd;
        }
        Kind::Shell(shell) => config.shell(words(shell)),
        Kind::StopSignal(signal) => {
            let signal = scope.expand(signal)?;
            if !is_signal(&signal) {
                return error(format!("`{signal}` is no signal"), Span::default());
            }
            config.stop_signal(&signal);
        }
        Kind::Healthcheck(check) => config.healthcheck(check),
        Kind::OnBuild(inner) => config.on_build(inner.original.clone()),
        _ => return error(format!("`{}` is not such a change", each.name), each.span),
    }
    Ok(())
}

fn arguments(config: &StageConfig, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandLine::Shell(word) => config.with_shell(&word.text),
    }
}

fn expand(scope: &Scope<'_>, pairs: &[Pair]) -> PlanResult<Vec<(String, String)>> {
    pairs.iter().map(|pair| Ok((scope.expand(&pair.key)?, scope.expand(&pair.value)?))).collect()
}

fn expose(scope: &Scope<'_>, words: &[Word]) -> PlanResult<Vec<String>> {
    let mut ports = Vec::new();
    for word in words {
        for text in scope.expand_list(word)? {
            match corten_dockerfile::port::parse(&text) {
                Ok(parsed) => ports.extend(parsed.ports.iter().map(ToString::to_string)),
                Err(cause) => return error(cause.to_string(), word.span),
            }
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig, ChangeError> {
        let mut image = ImageConfig::default();
        image.config.env = vec!["A=one".to_owned()];
        image.config.cmd = Some(vec!["old".to_owned()]);
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        change_config(&image, &changes)
    }

    #[test]
    fn instructions_change_the_configuration_and_nothing_else() {
        let image = changed(&[
            "ENV B=$A-two C=3",
            "cmd [\"run\", \"it\"]",
            "ENTRYPOINT exec /x",
            "EXPOSE 80 53/udp",
            "LABEL k=\"v w\"",
            "USER 7",
            "WORKDIR /srv",
            "WORKDIR $A",
            "VOLUME /data",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK NONE",
        ])
        .unwrap();
        let config = &image.config;
        assert_eq!(config.env, ["A=one", "B=one-two", "C=3"]);
        assert_eq!(config.cmd.as_deref().unwrap(), ["run", "it"]);
        assert_eq!(config.entrypoint.as_deref().unwrap(), ["/bin/sh", "-c", "exec /x"]);
        assert_eq!(config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.labels["k"], "v w");
        assert_eq!(config.user.as_deref(), Some("7"));
        assert_eq!(config.working_dir.as_deref(), Some("/srv/one"));
        assert!(config.volumes.contains("/data"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.on_build, ["RUN x"]);
        assert_eq!(config.healthcheck.as_ref().unwrap().test, ["NONE"]);
        assert_eq!((image.history.len(), image.created), (0, None));
    }

    #[test]
    fn what_would_need_a_build_is_refused() {
        for change in
            ["RUN x", "COPY a b", "FROM x", "ARG X", "NONSENSE", "STOPSIGNAL no", "EXPOSE x", ""]
        {
            let error = changed(&[change]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{change}`")), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
