//! Profiles in Docker's JSON format, which is also that of the OCI runtime specification.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Action, Architecture, Clause, Comparison, Policy, Test};
use crate::capability::Capability;

/// `errnoRet` when the profile does not say: "operation not permitted".
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// The kernel keeps 12 bits of an error number.
const ERRNO_MAX: u32 = 4095;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("failed to parse the profile as JSON")]
    Json(#[source] serde_json::Error),
    #[error("`{action}` is no action that Corten knows")]
    UnknownAction { action: String },
    #[error("`{operator}` is no comparison")]
    UnknownOperator { operator: String },
    #[error("`{name}` has a test of argument {index}, and calls have arguments 0 to 5")]
    ArgumentIndex { name: String, index: u32 },
    #[error("`{version}` is no kernel version")]
    KernelVersion { version: String },
    #[error("the profile has no `defaultAction`")]
    NoDefault,
    #[error("error number {errno} is too large")]
    Errno { errno: u32 },
    #[error("the profile is longer than the kernel's limit of 4096 instructions")]
    TooLong,
}

/// What a profile's conditions are about.
#[derive(Debug)]
pub(crate) struct ProfileContext<'a> {
    pub architecture: Architecture,
    pub capabilities: &'a BTreeSet<Capability>,
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    args: Vec<Argument>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<Argument>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Reads a profile into a policy.
pub(crate) fn parse(text: &str, context: &ProfileContext<'_>) -> Result<Policy, ProfileError> {
    let profile: Profile = serde_json::from_str(text).map_err(ProfileError::Json)?;
    let default = profile.default_action.as_deref().ok_or(ProfileError::NoDefault)?;
    let otherwise = action(default, profile.default_errno_ret)?;
    let mut policy = Policy {
        architecture: context.architecture,
        calls: BTreeMap::new(),
        otherwise,
        // As runc does: a program that probes for a new call learns that it is not there.
        unknown: match otherwise {
            Action::Errno(_) => Action::Errno(ENOSYS),
            other => other,
        },
        log: profile.flags.iter().any(|flag| flag == "SECCOMP_FILTER_FLAG_LOG"),
    };
    for rule in &profile.syscalls {
        add(&mut policy, rule, context)?;
    }
    // A tested clause is more special than one without a test, wherever it stands.
    for clauses in policy.calls.values_mut() {
        clauses.sort_by_key(|clause| clause.tests.is_empty());
    }
    Ok(policy)
}

fn add(policy: &mut Policy, rule: &Rule, context: &ProfileContext<'_>) -> Result<(), ProfileError> {
    let action = action(&rule.action, rule.errno_ret)?;
    let names = rule.names.iter().chain(&rule.name);
    if !applies(rule, context)? {
        return Ok(());
    }
    for name in names {
        for tests in alternatives(name, &rule.args)? {
            // A profile is written for many kernels: a call that we do not know is left out.
            if let Some(number) = policy.architecture.number(name) {
                policy.calls.entry(number).or_default().push(Clause { tests, action });
            }
        }
    }
    Ok(())
}

/// All tests of a rule must hold, but several of one argument are alternatives (as in runc).
fn alternatives(name: &str, arguments: &[Argument]) -> Result<Vec<Vec<Test>>, ProfileError> {
    let tests: Vec<Test> =
        arguments.iter().map(|argument| test(name, argument)).collect::<Result<_, _>>()?;
    let different: BTreeSet<u8> = tests.iter().map(|test| test.argument).collect();
    if different.len() == tests.len() {
        return Ok(vec![tests]);
    }
    Ok(tests.into_iter().map(|test| vec![test]).collect())
}

fn test(name: &str, argument: &Argument) -> Result<Test, ProfileError> {
    let index = u8::try_from(argument.index).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| ProfileError::ArgumentIndex {
        name: name.to_owned(),
        index: argument.index,
    })?;
    let (comparison, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Comparison::Equal, argument.value),
        "SCMP_CMP_NE" => (Comparison::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Comparison::Less, argument.value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Comparison::Greater, argument.value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, argument.value),
        // Here `value` is the mask.
        "SCMP_CMP_MASKED_EQ" => {
            let mask = argument.value;
            (Comparison::MaskedEqual { mask }, argument.value_two)
        }
        other => return Err(ProfileError::UnknownOperator { operator: other.to_owned() }),
    };
    Ok(Test { argument: index, comparison, value })
}

fn applies(rule: &Rule, context: &ProfileContext<'_>) -> Result<bool, ProfileError> {
    let has = |name: &String| {
        name.parse::<Capability>().is_ok_and(|name| context.capabilities.contains(&name))
    };
    let architecture = match context.architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Aarch64 => "arm64",
    };
    let is_here = |arches: &[String]| arches.iter().any(|name| name == architecture);
    let (includes, excludes) = (&rule.includes, &rule.excludes);
    let new_enough = |version: &Option<String>| match version {
        None => Ok(true),
        Some(version) => kernel(version).map(|needed| context.kernel >= needed),
    };
    Ok((includes.arches.is_empty() || is_here(&includes.arches))
        && includes.caps.iter().all(has)
        && new_enough(&includes.min_kernel)?
        && !is_here(&excludes.arches)
        && !excludes.caps.iter().any(has)
        && (excludes.min_kernel.is_none() || !new_enough(&excludes.min_kernel)?))
}

fn kernel(version: &str) -> Result<(u32, u32), ProfileError> {
    let parsed = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or_else(|| ProfileError::KernelVersion { version: version.to_owned() })
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, ProfileError> {
    let errno = errno.unwrap_or(u32::from(EPERM));
    let number = || {
        let number = u16::try_from(errno).ok().filter(|_| errno <= ERRNO_MAX);
        number.ok_or(ProfileError::Errno { errno })
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(number()?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(number()?),
        "SCMP_ACT_LOG" => Action::Log,
        other => return Err(ProfileError::UnknownAction { action: other.to_owned() }),
    })
}
