//! Alternatives: what the calls of `update-alternatives --install` in scripts ask for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;

/// One call of `update-alternatives --install`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The link that users see.
    pub(crate) link: String,
    /// The name of the group.
    pub(crate) name: String,
    /// The file that it leads to.
    pub(crate) path: String,
    /// The highest wins.
    pub(crate) priority: i32,
    /// Further links that follow the choice.
    pub(crate) slaves: Vec<Slave>,
}

/// A link that follows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slave {
    pub(crate) link: String,
    pub(crate) name: String,
    pub(crate) path: String,
}

/// Finds the calls in a script whose arguments are all literal.
pub(crate) fn parse_calls(script: &str) -> Vec<Call> {
    let joined = script.replace("\\\n", " ");
    joined.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Call> {
    let line = line.trim_ascii();
    let rest = line.strip_prefix("update-alternatives")?;
    // Only up to the end of the command; `|| true` is how scripts ignore a missing manual page.
    let rest = rest.split([';', '|', '&', '>', '#']).next().unwrap_or_default();
    let mut words = rest.split_ascii_whitespace();
    let literal = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-=@:".contains(&byte))
    };
    let mut next = || words.next().filter(|word| literal(word)).map(ToOwned::to_owned);
    let mut option = next()?;
    while option == "--quiet" || option == "--force" {
        option = next()?;
    }
    if option != "--install" {
        return None;
    }
    let (link, name, path, priority) = (next()?, next()?, next()?, next()?.parse().ok()?);
    let mut call = Call { link, name, path, priority, slaves: Vec::new() };
    while let Some(option) = next() {
        if option != "--slave" {
            return None;
        }
        call.slaves.push(Slave { link: next()?, name: next()?, path: next()? });
    }
    is_safe(&call).then_some(call)
}

/// A call must not lead out of the image or of the folder of alternatives.
fn is_safe(call: &Call) -> bool {
    let good_path = |text: &String| text.starts_with('/') && !text.contains("/../");
    let good_name = |text: &String| !text.contains('/');
    let good_slave =
        |slave: &Slave| good_path(&slave.link) && good_path(&slave.path) && good_name(&slave.name);
    good_path(&call.link)
        && good_path(&call.path)
        && good_name(&call.name)
        && call.slaves.iter().all(good_slave)
}

/// Makes the links and the records of all groups.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    let mut groups: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for package in context.packages.iter().filter(|package| package.is_installed) {
        for call in parse_calls(package.control.text("postinst")) {
            groups.entry(call.name.clone()).or_default().push(call);
        }
    }
    for (name, mut calls) in groups {
        // What leads nowhere, for example to a manual page that is left out, is no choice.
        calls.retain(|call| context.rootfs.node(call.path.trim_start_matches('/')).is_some());
        calls.sort_by(|left, right| left.path.cmp(&right.path));
        make(context, &name, &calls).or_else(of("alternatives"))?;
    }
    Ok(())
}

fn make(context: &mut Context<'_, '_>, name: &str, calls: &[Call]) -> Result<(), RootfsError> {
    let rootfs = &mut *context.rootfs;
    // The first of those with the highest priority, as update-alternatives chooses.
    let Some(best) = calls.iter().rev().max_by_key(|call| call.priority) else { return Ok(()) };
    rootfs.symlink(&format!("etc/alternatives/{name}"), &best.path)?;
    rootfs.symlink(best.link.trim_start_matches('/'), &format!("/etc/alternatives/{name}"))?;
    for slave in &best.slaves {
        if rootfs.node(slave.path.trim_start_matches('/')).is_some() {
            rootfs.symlink(&format!("etc/alternatives/{}", slave.name), &slave.path)?;
            rootfs.symlink(
                slave.link.trim_start_matches('/'),
                &format!("/etc/alternatives/{}", slave.name),
            )?;
        }
    }
    rootfs.write(&format!("var/lib/dpkg/alternatives/{name}"), record(&best.link, calls), 0o644)
}

/// The record of one group in the format of dpkg: the links, an empty line, then for each choice its
/// path, its priority and the paths of its slaves.
fn record(link: &str, calls: &[Call]) -> String {
    let mut slaves: BTreeMap<&str, &str> = BTreeMap::new();
    for slave in calls.iter().flat_map(|call| &call.slaves) {
        slaves.insert(&slave.name, &slave.link);
    }
    let mut text = format!("auto\n{link}\n");
    for (name, link) in &slaves {
        write!(text, "{name}\n{link}\n").expect("writing to a string cannot fail");
    }
    text.push('\n');
    for call in calls {
        write!(text, "{}\n{}\n", call.path, call.priority)
            .expect("writing to a string cannot fail");
        for name in slaves.keys() {
            let path = call
                .slaves
                .iter()
                .find(|slave| slave.name == *name)
                .map_or("", |slave| &slave.path);
            writeln!(text, "{path}").expect("writing to a string cannot fail");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const MAWK: &str = "if true; then\n        update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n\
        \x20           --slave /usr/bin/nawk nawk /usr/bin/mawk \\\n  --slave /m/awk.1.gz awk.1.gz /m/mawk.1.gz\nfi\n";

    #[test]
    fn calls_over_several_lines_are_found() {
        let calls = parse_calls(MAWK);
        assert_eq!(calls.len(), 1);
        assert_eq!(
            (calls[0].name.as_str(), calls[0].priority, calls[0].slaves.len()),
            ("awk", 5, 2)
        );
        assert_eq!(parse_calls("update-alternatives --quiet --install /a a /b 1 || true").len(), 1);
    }

    #[test]
    fn calls_with_variables_or_other_verbs_are_left_alone() {
        for line in [
            "update-alternatives --remove rename /usr/bin/prename",
            "update-alternatives --install /usr/bin/$x x /usr/bin/y 1",
            "update-alternatives --install /usr/bin/x x \"$path\" 1",
            "update-alternatives --install usr/bin/x x /usr/bin/y 1",
            "update-alternatives --install /usr/bin/x ../x /usr/bin/y 1",
            "# update-alternatives --install /a a /b 1",
        ] {
            assert_eq!(parse_calls(line), [], "{line}");
        }
    }

    #[test]
    fn a_record_has_the_form_of_dpkg() {
        let mut calls = parse_calls(MAWK);
        calls.push(Call {
            path: "/usr/bin/other".into(),
            priority: 1,
            slaves: Vec::new(),
            ..calls[0].clone()
        });
        expect![[r#"
            auto
            /usr/bin/awk
            awk.1.gz
            /m/awk.1.gz
            nawk
            /usr/bin/nawk

            /usr/bin/mawk
            5
            /m/mawk.1.gz
            /usr/bin/mawk
            /usr/bin/other
            1



        "#]]
        .assert_eq(&record("/usr/bin/awk", &calls));
    }
}
