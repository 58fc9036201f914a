//! Users and groups: the lists of base-passwd, with shadow passwords.

use std::fmt::Write as _;

use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;

/// Debian's number of the group `shadow`.
const SHADOW: u32 = 42;

/// Does what the scripts of base-passwd and of passwd (`shadowconfig on`) do.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    write(context).or_else(of("users"))
}

fn write(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let has_shadow = context.package("passwd").is_some();
    let rootfs = &mut *context.rootfs;
    let Some(users) = rootfs.read_text("usr/share/base-passwd/passwd.master")? else {
        return Ok(());
    };
    let groups = rootfs.need("usr/share/base-passwd/group.master", "users")?;
    // The day of the last change of a password must not be the day of the build.
    let day = rootfs.epoch().max(0) / 86400;
    let (passwd, shadow) = split(&users, |name| format!("{name}:*:{day}:0:99999:7:::"));
    let (group, gshadow) = split(&groups, |name| format!("{name}:*::"));
    if has_shadow {
        for (path, text) in [("etc/passwd", &passwd), ("etc/group", &group)] {
            rootfs.write(path, text, 0o644)?;
        }
        for (path, text) in [("etc/shadow", &shadow), ("etc/gshadow", &gshadow)] {
            rootfs.write_for(path, text, 0o640, SHADOW)?;
        }
    } else {
        rootfs.write("etc/passwd", users, 0o644)?;
        rootfs.write("etc/group", groups, 0o644)?;
    }
    Ok(())
}

/// Moves the password of each line to a line of its own in the shadow file.
fn split(lines: &str, shadow_line: impl Fn(&str) -> String) -> (String, String) {
    let (mut open, mut shadow) = (String::new(), String::new());
    for line in lines.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        let Some(name) = fields.first().copied().filter(|name| !name.is_empty()) else { continue };
        if let Some(password) = fields.get_mut(1) {
            *password = "x";
        }
        writeln!(open, "{}", fields.join(":")).expect("writing to a string cannot fail");
        writeln!(shadow, "{}", shadow_line(name)).expect("writing to a string cannot fail");
    }
    (open, shadow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_move_to_the_shadow_file() {
        let (open, shadow) =
            split("root:*:0:0:root:/root:/bin/bash\n", |name| format!("{name}:*:1:::"));
        assert_eq!(open, "root:x:0:0:root:/root:/bin/bash\n");
        assert_eq!(shadow, "root:*:1:::\n");
    }
}
