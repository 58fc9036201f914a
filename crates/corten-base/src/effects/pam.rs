//! What `pam-auth-update` makes of the profiles of packages.

use std::fmt::Write as _;

use super::{Context, EffectError, of};
use crate::deb822;
use crate::rootfs::RootfsError;

/// The kinds of configuration: file, word in the lines, fields of a profile, and whether profiles for
/// interactive sessions only are left out.
const KINDS: [Kind; 5] = [
    Kind { file: "auth", word: "auth", field: "Auth", interactive: true },
    Kind { file: "account", word: "account", field: "Account", interactive: true },
    Kind { file: "session", word: "session", field: "Session", interactive: true },
    Kind { file: "session-noninteractive", word: "session", field: "Session", interactive: false },
    Kind { file: "password", word: "password", field: "Password", interactive: true },
];

struct Kind {
    file: &'static str,
    word: &'static str,
    field: &'static str,
    interactive: bool,
}

struct Profile<'t> {
    name: String,
    priority: i64,
    is_default: bool,
    fields: deb822::Paragraph<'t>,
}

/// Writes `/etc/pam.d/common-*` and the state in `/var/lib/pam`.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    if context.rootfs.node("usr/share/pam/common-auth").is_none() {
        return Ok(());
    }
    write(context).or_else(of("pam"))
}

fn write(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    const FOLDER: &str = "usr/share/pam-configs";
    let rootfs = &mut *context.rootfs;
    let mut texts = Vec::new();
    for name in rootfs.list(FOLDER) {
        let name = String::from_utf8_lossy(&name).into_owned();
        let text = rootfs.need(&format!("{FOLDER}/{name}"), "pam")?;
        texts.push((name, text));
    }
    let mut profiles: Vec<Profile<'_>> =
        texts.iter().map(|(name, text)| profile(name, text)).collect();
    profiles.sort_by(|left, right| {
        right.priority.cmp(&left.priority).then_with(|| left.name.cmp(&right.name))
    });
    for kind in &KINDS {
        let template = rootfs.need(&format!("usr/share/pam/common-{}", kind.file), "pam")?;
        let stack = Stack::new(kind, &profiles);
        let text = stack.fill(&template, kind.word);
        rootfs.write(&format!("etc/pam.d/common-{}", kind.file), text, 0o644)?;
        rootfs.write(&format!("var/lib/pam/{}", kind.file), stack.state, 0o644)?;
    }
    let seen: String = profiles.iter().flat_map(|profile| [&profile.name, "\n"]).collect();
    rootfs.write("var/lib/pam/seen", seen, 0o644)
}

fn profile<'t>(name: &str, text: &'t str) -> Profile<'t> {
    let fields = deb822::paragraphs(text).next().unwrap_or_default();
    Profile {
        name: name.to_owned(),
        priority: fields.text("Priority").parse().unwrap_or_default(),
        is_default: fields.text("Default") == "yes",
        fields,
    }
}

/// The lines of one kind.
struct Stack {
    primary: Vec<String>,
    additional: Vec<String>,
    /// What `pam-auth-update` will compare with the next time.
    state: String,
}

impl Stack {
    fn new(kind: &Kind, profiles: &[Profile<'_>]) -> Self {
        let mut stack = Self { primary: Vec::new(), additional: Vec::new(), state: String::new() };
        for profile in profiles.iter().filter(|profile| profile.is_default) {
            let only_interactive = profile.fields.text("Session-Interactive-Only") == "yes";
            if kind.word == "session" && only_interactive && !kind.interactive {
                continue;
            }
            let is_primary = profile.fields.text(&format!("{}-Type", kind.field)) == "Primary";
            let list = if is_primary { &mut stack.primary } else { &mut stack.additional };
            // The first module of a block has a form of its own: nothing comes before it to use.
            let initial =
                profile.fields.get(&format!("{}-Initial", kind.field)).filter(|_| list.is_empty());
            let Some(lines) = initial.or_else(|| profile.fields.get(kind.field)) else { continue };
            let lines: Vec<&str> =
                lines.lines().map(str::trim_ascii).filter(|line| !line.is_empty()).collect();
            list.extend(lines.iter().map(|line| (*line).to_owned()));
            write!(stack.state, "Module: {}\n{}\n", profile.name, lines.join("\n"))
                .expect("writing to a string cannot fail");
        }
        if stack.primary.is_empty() {
            // A block of jumps needs something to jump over.
            stack.primary.push("[default=1]\t\t\tpam_permit.so".to_owned());
            stack.state.insert_str(0, "Module: null\n[default=1]\t\t\tpam_permit.so\n");
        }
        stack
    }

    fn fill(&self, template: &str, word: &str) -> String {
        let block = |lines: &[String]| {
            let count = lines.len();
            let line = |(at, line): (usize, &String)| {
                // `end` means a jump over the rest of the block and the line that refuses.
                format!("{word}\t{}", line.replace("=end", &format!("={}", count - at)))
            };
            lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
        };
        let mut text = String::new();
        for line in template.lines() {
            let filled = match line {
                line if line.starts_with('$') && line.ends_with("_primary") => block(&self.primary),
                line if line.starts_with('$') && line.ends_with("_additional") => {
                    block(&self.additional)
                }
                line => line.to_owned(),
            };
            if !filled.is_empty() || line.is_empty() {
                text.push_str(&filled);
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const UNIX: &str = "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\
        \t[success=end default=ignore]\tpam_unix.so try_first_pass\nAuth-Initial:\n\t[success=end default=ignore]\tpam_unix.so nullok\n\
        Session-Type: Additional\nSession:\n\trequired\tpam_unix.so\n";
    const KRB5: &str = "Name: Kerberos\nDefault: yes\nPriority: 704\nAuth-Type: Primary\nAuth:\n\
        \t[success=end default=ignore]\tpam_krb5.so minimum_uid=1000\n";
    const HOME: &str = "Name: Home\nDefault: no\nPriority: 0\nSession-Type: Additional\nSession-Interactive-Only: yes\nSession:\n\toptional\tpam_mkhomedir.so\n";
    const TEMPLATE: &str =
        "# head\n\n$auth_primary\nauth requisite pam_deny.so\n$auth_additional\n# end\n";

    fn stack(kind: usize) -> (String, String) {
        let profiles = [profile("krb5", KRB5), profile("unix", UNIX), profile("home", HOME)];
        let stack = Stack::new(&KINDS[kind], &profiles);
        (stack.fill(TEMPLATE, KINDS[kind].word), stack.state)
    }

    #[test]
    fn jumps_lead_behind_the_line_that_refuses() {
        expect![[r#"
            # head

            auth	[success=2 default=ignore]	pam_krb5.so minimum_uid=1000
            auth	[success=1 default=ignore]	pam_unix.so try_first_pass
            auth requisite pam_deny.so
            # end
        "#]]
        .assert_eq(&stack(0).0);
    }

    #[test]
    fn a_kind_without_primary_modules_permits() {
        let (text, state) = stack(2);
        assert!(text.contains("session\t[default=1]\t\t\tpam_permit.so\n"));
        assert!(text.contains("session\trequired\tpam_unix.so\n"));
        assert_eq!(
            state,
            "Module: null\n[default=1]\t\t\tpam_permit.so\nModule: unix\nrequired\tpam_unix.so\n"
        );
    }
}
