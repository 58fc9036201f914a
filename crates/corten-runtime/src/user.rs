//! Who `USER name[:group]` is, from the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are Docker's: a number is always an id and need not be listed; a user without a group
//! gets the primary group and every group that lists the name; a group that is given stands alone.

/// The largest id that Linux tools agree on.
const MAX_ID: u32 = 0x7fff_ffff;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    /// The login name, when the user is listed.
    pub name: Option<String>,
    /// The home directory, `/` when the user is not listed.
    pub home: String,
}

/// Why a user specification names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("failed to find user `{name}` in the image's `/etc/passwd`")]
    UnknownUser { name: String },
    #[error("failed to find group `{name}` in the image's `/etc/group`")]
    UnknownGroup { name: String },
    #[error("id `{id}` is out of range: ids go from 0 to 2147483647")]
    OutOfRange { id: String },
}

impl UserError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownUser { name } => Some(format!(
                "create it in the image (`RUN useradd --create-home {name}`) or give a number"
            )),
            Self::UnknownGroup { name } => {
                Some(format!("create it in the image (`RUN groupadd {name}`) or give a number"))
            }
            Self::OutOfRange { .. } => None,
        }
    }
}

/// Finds the user that `spec` means; an empty one is root.
pub fn resolve(passwd: &[u8], group: &[u8], spec: &str) -> Result<User, UserError> {
    let (user_part, group_part) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let mut user = resolve_user(passwd, user_part)?;
    if let Some(wanted) = group_part {
        user.gid = resolve_group(group, wanted)?;
    } else if let Some(name) = &user.name {
        user.additional_gids = groups_of(group, name);
    }
    Ok(user)
}

/// Finds the number of a group that is given as a name or a number, as `--chown` does.
pub fn resolve_group(group: &[u8], wanted: &str) -> Result<u32, UserError> {
    if let Some(id) = parse_id(wanted)? {
        return Ok(id);
    }
    let mut entries = entries(group);
    let found = entries.find_map(|fields| match fields.as_slice() {
        [name, _, gid, ..] if *name == wanted => listed_id(gid),
        _ => None,
    });
    found.ok_or_else(|| UserError::UnknownGroup { name: wanted.to_owned() })
}

fn resolve_user(passwd: &[u8], wanted: &str) -> Result<User, UserError> {
    let id = if wanted.is_empty() { Some(0) } else { parse_id(wanted)? };
    let listed = entries(passwd).find_map(|fields| {
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
        let (uid, gid) = (listed_id(uid)?, listed_id(gid)?);
        let matches = id.map_or(*name == wanted, |id| id == uid);
        let home = rest.get(1).copied().filter(|home| !home.is_empty()).unwrap_or("/");
        matches.then(|| User {
            uid,
            gid,
            additional_gids: Vec::new(),
            name: Some((*name).to_owned()),
            home: home.to_owned(),
        })
    });
    match (listed, id) {
        (Some(user), _) => Ok(user),
        (None, Some(uid)) => {
            Ok(User { uid, gid: 0, additional_gids: Vec::new(), name: None, home: "/".to_owned() })
        }
        (None, None) => Err(UserError::UnknownUser { name: wanted.to_owned() }),
    }
}

fn groups_of(group: &[u8], user: &str) -> Vec<u32> {
    let mut gids = Vec::new();
    for fields in entries(group) {
        let [_, _, gid, members] = fields.as_slice() else { continue };
        let Some(gid) = listed_id(gid) else { continue };
        if members.split(',').any(|member| member == user) && !gids.contains(&gid) {
            gids.push(gid);
        }
    }
    gids
}

/// Reads a decimal number; `None` is a name, a number that no id can be is an error.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange { id: text.to_owned() }),
    }
}

/// Reads an id of the image's files. One out of range makes its line broken: to the kernel, the
/// largest number means "as before", with which the user would stay root.
fn listed_id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// Returns the colon-separated fields of each line that is text and no comment.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim();
        (!line.is_empty() && !line.starts_with('#')).then(|| line.split(':').collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # a comment\n\
        \n\
        app:x:1000:1001::/home/app:/bin/sh\n\
        1234:x:77:78::/home/odd:/bin/sh\n\
        nohome:x:5:6:::\n\
        short:x\n\
        bad:x:notanumber:0::/:\n\
        \xff\xfe:x:9:9::/:\n";
    const GROUP: &[u8] = b"root:x:0:root\nvideo:x:44:app,other\nrender:x:105:other,app\n\
        app:x:1001:\napplication:x:2000:application\nbroken\n";

    fn of(spec: &str) -> User {
        resolve(PASSWD, GROUP, spec).expect("the user exists")
    }

    #[test]
    fn an_empty_user_is_root_with_its_home_and_groups() {
        let user = of("");
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/root"));
        assert_eq!(user.additional_gids, [0]);
    }

    #[test]
    fn a_name_brings_its_primary_group_and_the_groups_that_list_it() {
        let user = of("app");
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/home/app"));
        assert_eq!(user.additional_gids, [44, 105]);
    }

    #[test]
    fn a_listed_number_is_the_same_as_its_name() {
        assert_eq!(of("1000"), of("app"));
    }

    #[test]
    fn a_number_is_an_id_even_when_a_user_has_it_as_name() {
        assert_eq!(of("1234").uid, 1234);
    }

    #[test]
    fn an_unlisted_number_is_in_group_0_and_at_home_in_the_root_directory() {
        let user = of("4242");
        assert_eq!((user.uid, user.gid, user.home.as_str()), (4242, 0, "/"));
        assert!(user.additional_gids.is_empty() && user.name.is_none());
    }

    #[test]
    fn a_given_group_stands_alone() {
        let user = of("app:video");
        assert_eq!((user.uid, user.gid), (1000, 44));
        assert!(user.additional_gids.is_empty());
        assert_eq!(of("app:9999").gid, 9999);
        assert_eq!(of("1:2").gid, 2);
    }

    #[test]
    fn an_empty_group_is_no_group() {
        assert_eq!(of("app:"), of("app"));
        assert_eq!(of(":video").gid, 44);
    }

    #[test]
    fn a_user_without_a_home_lives_in_the_root_directory() {
        assert_eq!(of("nohome").home, "/");
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_errors_that_name_them() {
        let error = |spec| resolve(PASSWD, GROUP, spec).expect_err("nobody").to_string();
        assert_eq!(error("nobody"), "failed to find user `nobody` in the image's `/etc/passwd`");
        assert_eq!(error("app:staff"), "failed to find group `staff` in the image's `/etc/group`");
        assert_eq!(
            error("4294967295"),
            "id `4294967295` is out of range: ids go from 0 to 2147483647"
        );
        assert!(error("-1").contains("out of range"));
        assert!(error("99999999999999999999").contains("out of range"));
    }

    #[test]
    fn a_listed_id_that_means_no_change_to_the_kernel_is_no_user_and_no_group() {
        let passwd = b"evil:x:4294967295:0::/:\nworse:x:0:4294967295::/:\nodd:x:7:8::/:\n";
        let group = b"evil:x:4294967295:odd\nfine:x:9:odd\n";
        assert!(resolve(passwd, group, "evil").is_err());
        assert!(resolve(passwd, group, "worse").is_err());
        assert!(resolve(passwd, group, "odd:evil").is_err());
        assert_eq!(resolve(passwd, group, "odd").map(|user| user.additional_gids), Ok(vec![9]));
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert!(resolve(PASSWD, GROUP, "short").is_err());
        assert!(resolve(PASSWD, GROUP, "bad").is_err());
        assert_eq!(resolve(b"", b"", "7:8").map(|user| (user.uid, user.gid)), Ok((7, 8)));
    }
}
