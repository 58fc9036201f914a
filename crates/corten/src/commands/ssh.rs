//! `--ssh`: agents and keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_build::remote::Remotes;
use corten_build::ssh::{HostSocket, SshAgent, SshError};

use super::Context;
use crate::error::CliError;

/// The agent that `git` uses, and a mount without an id.
const DEFAULT: &str = "default";

/// The variable that names the socket of the caller's agent.
const VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads all `--ssh`; keys are read, too, so that a wrong one is told before anything is built.
pub(super) fn agents(
    context: &Context,
    texts: &[String],
) -> Result<BTreeMap<String, SshAgent>, CliError> {
    let mut agents = BTreeMap::new();
    for text in texts {
        let socket = context.settings.environment.path(VARIABLE);
        let (id, paths) = parse(text, socket)?;
        if agents.contains_key(&id) {
            return Err(CliError::new(format!("`--ssh {id}` is given twice"))
                .hint(format!("name several keys in one: `--ssh {id}=KEY,KEY`")));
        }
        agents.insert(id, SshAgent::open(&paths)?);
    }
    Ok(agents)
}

/// `ID[=PATH[,PATH]]`; an ID alone means the caller's agent.
fn parse(text: &str, socket: Option<PathBuf>) -> Result<(String, Vec<PathBuf>), CliError> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, paths),
        None => (text, ""),
    };
    if id.is_empty() {
        return Err(CliError::new(format!("`--ssh {text}` has no name"))
            .hint("write `--ssh default`, or `--ssh ID=SOCKET|KEYFILE`".to_owned()));
    }
    let paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    match (paths.is_empty(), socket) {
        (false, _) => Ok((id.to_owned(), paths)),
        (true, Some(socket)) => Ok((id.to_owned(), vec![socket])),
        (true, None) => Err(CliError::new(format!(
            "`--ssh {id}` means the agent of `{VARIABLE}`, which is not set"
        ))
        .hint(SshError::Nothing.hint())),
    }
}

/// Lets `git` use the default agent.
pub(super) fn for_git(
    context: &Context,
    agents: &BTreeMap<String, SshAgent>,
    remotes: &mut Remotes,
) -> Result<Option<HostSocket>, CliError> {
    let Some(agent) = agents.get(DEFAULT) else { return Ok(None) };
    let socket = agent.for_host(&context.store()?)?;
    let variables = &mut remotes.git.environment;
    variables.retain(|(name, _)| name != VARIABLE);
    variables.push((VARIABLE.to_owned(), socket.path().display().to_string()));
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_name_and_perhaps_a_socket_or_keys() {
        let socket = || Some(PathBuf::from("/agent"));
        let of = |text: &str| parse(text, socket()).ok();
        let pair = |id: &str, paths: &[&str]| {
            Some((id.to_owned(), paths.iter().map(PathBuf::from).collect::<Vec<_>>()))
        };
        assert_eq!(of("default"), pair("default", &["/agent"]));
        assert_eq!(of("default="), pair("default", &["/agent"]));
        assert_eq!(of("a=/k"), pair("a", &["/k"]));
        assert_eq!(of("a=/k,/l"), pair("a", &["/k", "/l"]));
        assert_eq!(of("=/k"), None);
        assert!(parse("default", None).is_err());
    }
}
