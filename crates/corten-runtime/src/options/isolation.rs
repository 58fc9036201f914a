//! Flags about namespaces, ids, kernel settings and secrets.

use std::path::{Path, PathBuf};

use super::OptionError;
use crate::namespaces::{IdMapping, Namespace, SharedMemory, UserNamespace};
use crate::secret::{DIRECTORY, Secret, SecretSource, SecretTarget, SecretValue};

const NAMESPACE: &str = "a namespace: `private`, `host`, `container:NAME` or `ns:PATH`";
const IPC: &str =
    "an IPC namespace: `private`, `shareable`, `none`, `host`, `container:NAME` or `ns:PATH`";
const USERS: &str = "a user namespace: `auto`, `host`, `keep-id`, `container:NAME` or `ns:PATH`";
const MAP: &str = "a map of ids `CONTAINER:HOST[:COUNT]`";
const MAP_EXAMPLE: &str = "--uidmap 0:100000:65536";
const SYSCTL: &str = "a kernel setting `NAME=VALUE`";
const SYSCTL_EXAMPLE: &str = "--sysctl net.core.somaxconn=1024";
const SECRET: &str =
    "a secret `id=ID,src=FILE|env=NAME[,target=…][,type=file|env][,mode=,uid=,gid=]`";
const SECRET_EXAMPLE: &str = "--secret id=token,src=./token";

/// What `--userns` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsersOption {
    Namespace(UserNamespace),
    /// The caller shall be this user inside, or the one of the same number.
    KeepId {
        uid: Option<u32>,
        gid: Option<u32>,
    },
}

/// Parses `--pid`, `--uts` and `--cgroupns`.
pub fn parse_namespace(text: &str, example: &'static str) -> Result<Namespace, OptionError> {
    namespace(text).ok_or_else(|| OptionError::new(text, NAMESPACE, example))
}

fn namespace(text: &str) -> Option<Namespace> {
    match text {
        "" | "private" => return Some(Namespace::New),
        "host" => return Some(Namespace::Host),
        _ => {}
    }
    let (kind, value) = text.split_once(':')?;
    match kind {
        "container" if !value.is_empty() => Some(Namespace::Container(value.to_owned())),
        "ns" if value.starts_with('/') => Some(Namespace::Join(PathBuf::from(value))),
        _ => None,
    }
}

/// Parses `--ipc` into the namespace and what is at `/dev/shm`.
pub fn parse_ipc(text: &str) -> Result<(Namespace, SharedMemory), OptionError> {
    match text {
        "" | "shareable" => return Ok((Namespace::New, SharedMemory::Shareable)),
        "private" => return Ok((Namespace::New, SharedMemory::Private)),
        "none" => return Ok((Namespace::New, SharedMemory::None)),
        "host" => return Ok((Namespace::Host, SharedMemory::Host)),
        _ => {}
    }
    let error = || OptionError::new(text, IPC, "--ipc container:web");
    Ok((namespace(text).ok_or_else(error)?, SharedMemory::Shareable))
}

/// Parses `--userns`.
pub fn parse_users(text: &str) -> Result<UsersOption, OptionError> {
    let error = || OptionError::new(text, USERS, "--userns host");
    if let Some(options) = text.strip_prefix("keep-id") {
        let (mut uid, mut gid) = (None, None);
        let options = match options.strip_prefix(':') {
            Some(options) => options.split(',').collect(),
            None if options.is_empty() => Vec::new(),
            None => return Err(error()),
        };
        for option in options {
            let id = |text: &str| text.parse().ok().filter(|id| *id <= i32::MAX.cast_unsigned());
            match option.split_once('=') {
                Some(("uid", value)) => uid = Some(id(value).ok_or_else(error)?),
                Some(("gid", value)) => gid = Some(id(value).ok_or_else(error)?),
                _ => return Err(error()),
            }
        }
        return Ok(UsersOption::KeepId { uid, gid });
    }
    let users = match text {
        "auto" => UserNamespace::Auto,
        text => match namespace(text).ok_or_else(error)? {
            Namespace::New => UserNamespace::Auto,
            Namespace::Host => UserNamespace::Host,
            Namespace::Container(name) => UserNamespace::Container(name),
            // What it has, only its members know.
            Namespace::Join(path) => {
                UserNamespace::Join { path, users: Vec::new(), groups: Vec::new() }
            }
        },
    };
    Ok(UsersOption::Namespace(users))
}

/// Parses `--uidmap` and `--gidmap`; where one is not given, it is as the other.
pub fn parse_maps(
    users: &[String],
    groups: &[String],
) -> Result<Option<UserNamespace>, OptionError> {
    let parse = |list: &[String]| list.iter().map(|text| map(text)).collect::<Result<Vec<_>, _>>();
    let (mut users, mut groups) = (parse(users)?, parse(groups)?);
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    if users.is_empty() {
        users.clone_from(&groups);
    } else if groups.is_empty() {
        groups.clone_from(&users);
    }
    Ok(Some(UserNamespace::Maps { users, groups }))
}

fn map(text: &str) -> Result<IdMapping, OptionError> {
    // Podman's `+` would change what maps there are, which is nothing here.
    let number = |part: &str| part.parse().ok().filter(|_| !part.starts_with('+'));
    let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
    let mapping = match numbers.as_deref() {
        Some([inside, outside]) => Some(IdMapping { inside: *inside, outside: *outside, count: 1 }),
        Some([inside, outside, count]) => {
            Some(IdMapping { inside: *inside, outside: *outside, count: *count })
        }
        _ => None,
    };
    let fits = |mapping: &IdMapping| {
        let last = mapping.count.saturating_sub(1);
        mapping.count > 0
            && mapping.inside.checked_add(last).is_some_and(|id| id < u32::MAX)
            && mapping.outside.checked_add(last).is_some_and(|id| id < u32::MAX)
    };
    mapping.filter(fits).ok_or_else(|| OptionError::new(text, MAP, MAP_EXAMPLE))
}

/// Parses `--sysctl` into name and value.
pub fn parse_sysctl(text: &str) -> Result<(String, String), OptionError> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err(OptionError::new(text, SYSCTL, SYSCTL_EXAMPLE)),
    }
}

/// Parses `--secret`; a relative file is taken from `cwd`, a variable is looked up now.
pub fn parse_secret(
    text: &str,
    cwd: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, OptionError> {
    let error = || OptionError::new(text, SECRET, SECRET_EXAMPLE);
    let (mut id, mut file, mut variable, mut target, mut as_variable) =
        (None, None, None, None, None);
    let (mut mode, mut uid, mut gid) = (0o400, None, None);
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(error)?;
        let number = || value.parse::<u32>().ok().filter(|id| *id <= i32::MAX.cast_unsigned());
        match key.trim() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "target" | "dst" => target = Some(value),
            "type" if value == "file" => as_variable = Some(false),
            "type" if value == "env" => as_variable = Some(true),
            "type" if value == "mount" => as_variable = Some(false),
            "mode" => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                mode = bits.ok_or_else(error)?;
            }
            "uid" => uid = Some(number().ok_or_else(error)?),
            "gid" => gid = Some(number().ok_or_else(error)?),
            _ => return Err(error()),
        }
    }
    let plain =
        |id: &&str| !id.is_empty() && !id.contains(['/', '\0']) && *id != "." && *id != "..";
    let id = id.filter(plain).ok_or_else(error)?;
    let mut value = SecretValue::default();
    let source = match (file, variable) {
        (Some(path), None) if !path.is_empty() => SecretSource::File(cwd.join(path)),
        (None, Some(name)) => {
            let missing =
                || OptionError::new(text, "a secret whose variable is set", SECRET_EXAMPLE);
            value = SecretValue::new(lookup(name).ok_or_else(missing)?.into_bytes());
            SecretSource::Variable(name.to_owned())
        }
        _ => return Err(error()),
    };
    let target = match (as_variable.unwrap_or(false), target.unwrap_or(id)) {
        (true, name) if name.contains(['=', '\0']) || name.is_empty() => return Err(error()),
        (true, name) => SecretTarget::Variable(name.to_owned()),
        (false, path) => {
            let path =
                super::mounts::target_path(&Path::new(DIRECTORY).join(path).to_string_lossy())
                    .ok_or_else(error)?;
            let (uid, gid) = (uid.unwrap_or(UID_OF_USER), gid.unwrap_or(UID_OF_USER));
            SecretTarget::File { path, mode, uid, gid }
        }
    };
    Ok(Secret { id: id.to_owned(), source, target, value })
}

/// Stands for the container's own user, whom the one who asks knows.
pub const UID_OF_USER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_ones_own_the_hosts_or_those_of_others() {
        assert_eq!(parse_namespace("private", "x"), Ok(Namespace::New));
        assert_eq!(parse_namespace("host", "x"), Ok(Namespace::Host));
        let named = Namespace::Container("web".to_owned());
        assert_eq!(parse_namespace("container:web", "x"), Ok(named));
        assert_eq!(parse_namespace("ns:/run/n", "x"), Ok(Namespace::Join("/run/n".into())));
        for text in ["hosts", "container:", "container", "ns:run", "host:a"] {
            assert!(parse_namespace(text, "x").is_err(), "{text}");
        }
        assert_eq!(parse_ipc("none"), Ok((Namespace::New, SharedMemory::None)));
        assert_eq!(parse_ipc("host"), Ok((Namespace::Host, SharedMemory::Host)));
        assert!(parse_ipc("some").is_err());
    }

    #[test]
    fn users_are_chosen_by_a_word_or_by_maps() {
        use UsersOption::{KeepId, Namespace};
        for (text, expected) in [
            ("auto", Namespace(UserNamespace::Auto)),
            ("private", Namespace(UserNamespace::Auto)),
            ("host", Namespace(UserNamespace::Host)),
            ("container:a", Namespace(UserNamespace::Container("a".to_owned()))),
            ("keep-id", KeepId { uid: None, gid: None }),
            ("keep-id:uid=5,gid=6", KeepId { uid: Some(5), gid: Some(6) }),
        ] {
            assert_eq!(parse_users(text), Ok(expected), "{text}");
        }
        for text in
            ["keep-ids", "keep-id:", "keep-id:uid=-1", "auto:size=5", "nomap", "keep-id:x=1"]
        {
            assert!(parse_users(text).is_err(), "{text}");
        }
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse_maps(&[], &[]), Ok(None));
        let maps = parse_maps(&list(&["0:100000:5", "5:7"]), &[]).unwrap();
        let users = vec![
            IdMapping { inside: 0, outside: 100_000, count: 5 },
            IdMapping { inside: 5, outside: 7, count: 1 },
        ];
        assert_eq!(maps, Some(UserNamespace::Maps { users: users.clone(), groups: users }));
        for text in ["0", "0:1:0", "0:1:2:3", "+0:1:2", "a:1", "0:4294967295", "4294967290:0:10"] {
            assert!(parse_maps(&list(&[text]), &[]).is_err(), "{text}");
        }
    }

    fn secret(text: &str) -> Result<Secret, OptionError> {
        let host = |name: &str| (name == "TOKEN").then(|| "hunter2".to_owned());
        parse_secret(text, Path::new("/cwd"), &host)
    }

    #[test]
    fn a_secret_is_a_file_unless_it_is_to_be_a_variable() {
        let found = secret("id=key,src=./key").unwrap();
        assert_eq!(found.source, SecretSource::File("/cwd/./key".into()));
        let file = |path: &str, mode| SecretTarget::File {
            path: path.into(),
            mode,
            uid: UID_OF_USER,
            gid: UID_OF_USER,
        };
        assert_eq!(found.target, file("/run/secrets/key", 0o400));
        let found = secret("id=key,env=TOKEN,target=sub/name,mode=0440").unwrap();
        assert_eq!(found.target, file("/run/secrets/sub/name", 0o440));
        assert_eq!(found.value, SecretValue::new(b"hunter2".to_vec()));
        assert_eq!(
            secret("id=key,src=/k,target=/etc/key").unwrap().target,
            file("/etc/key", 0o400)
        );
        let found = secret("id=key,src=/k,type=env,target=KEY").unwrap();
        assert_eq!(found.target, SecretTarget::Variable("KEY".to_owned()));
        for text in [
            "",
            "id=key",
            "key",
            "id=,src=/a",
            "id=a/b,src=/a",
            "id=a,src=/a,env=TOKEN",
            "id=a,env=NONE",
            "id=a,src=/a,target=../x",
            "id=a,src=/a,mode=9",
            "id=a,src=/a,type=env,target=A=B",
            "id=..,src=/a",
            "id=a,src=/a,other=1",
        ] {
            assert!(secret(text).is_err(), "{text}");
        }
    }

    #[test]
    fn kernel_settings_have_a_value() {
        let parsed = parse_sysctl("net.ipv4.ip_forward=1").unwrap();
        assert_eq!(parsed, ("net.ipv4.ip_forward".to_owned(), "1".to_owned()));
        assert!(parse_sysctl("net.ipv4.ip_forward").is_err());
        assert!(parse_sysctl("=1").is_err());
    }
}
