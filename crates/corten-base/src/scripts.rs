//! Which maintainer scripts are covered by the effects.
//!
//! No script is run. What a script does beyond the lines that helpers generate is hashed, and the
//! table in `data/scripts.toml` says, for each such rest that somebody has read, which effect does
//! the same or why nothing is needed. A rest that is not in the table is reported, never guessed.

use std::collections::BTreeMap;

use corten_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::deb::Control;
use crate::effects;

/// The scripts that run when a package is installed for the first time.
const INSTALL_SCRIPTS: [&str; 2] = ["preinst", "postinst"];

/// All scripts; their digests go into the lock so that a change is seen in review.
const ALL_SCRIPTS: [&str; 5] = ["config", "preinst", "postinst", "prerm", "postrm"];

/// The helpers whose sections do nothing in an image that is made at once: they move files of older
/// versions, enable services, or make what an effect makes too.
const HELPERS: [&str; 12] = [
    "dh_installalternatives",
    "dh_installdeb",
    "dh_installdebconf",
    "dh_installinit",
    "dh_installmenu",
    "dh_installmime",
    "dh_installsystemd",
    "dh_installsystemduser",
    "dh_installtmpfiles",
    "dh_makeshlibs",
    "dh_python3",
    "dh_ucf",
];

/// The table of rests that were read.
const TABLE: &str = include_str!("../data/scripts.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    script: Vec<Row>,
}

/// One rest of a script.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    package: String,
    script: String,
    /// The digests of the rests, of all versions that were read.
    rest: Vec<String>,
    /// The effect that does the same, or `none`.
    effect: String,
    /// Why that is enough.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for those who read the table"))]
    why: String,
}

/// A script that no effect is known to cover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uncovered {
    /// The package.
    pub package: String,
    /// `preinst` or `postinst`.
    pub script: String,
    /// The digest of what the table would have to list.
    pub rest: Digest,
}

/// Knows which scripts are covered.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// Rests by package and script.
    rests: BTreeMap<(String, String), Vec<String>>,
}

impl Coverage {
    pub(crate) fn embedded() -> Self {
        let table: Table = toml::from_str(TABLE).expect("the embedded table is read by a test");
        let mut rests: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for Row { package, script, rest, effect, .. } in table.script {
            debug_assert!(!effect.is_empty(), "each row names an effect");
            rests.entry((package, script)).or_default().extend(rest);
        }
        Self { rests }
    }

    /// Returns true if the rest of a script has been read.
    pub(crate) fn knows(&self, script: &Uncovered) -> bool {
        let known = self.rests.get(&(script.package.clone(), script.script.clone()));
        known.is_some_and(|known| known.contains(&script.rest.hex()))
    }

    /// Returns the scripts of a package that are not covered.
    pub(crate) fn uncovered(&self, package: &Script<'_>, control: &Control) -> Vec<Uncovered> {
        let mut all = Vec::new();
        for script in INSTALL_SCRIPTS {
            let Some(rest) = rest(control.text(script), package) else { continue };
            let found = Uncovered {
                package: package.name.to_owned(),
                script: script.to_owned(),
                rest: Digest::of(rest.as_bytes()),
            };
            if !self.knows(&found) {
                all.push(found);
            }
        }
        all
    }
}

/// Returns the digests of all scripts of a package.
pub(crate) fn digests(control: &Control) -> BTreeMap<String, Digest> {
    let digest = |name: &&str| {
        control.files.get(*name).map(|file| ((*name).to_owned(), Digest::of(&file.bytes)))
    };
    ALL_SCRIPTS.iter().filter_map(digest).collect()
}

/// Whose script it is; what is in it of this is replaced, so that a new version of a package with the
/// same script has the same rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script<'s> {
    pub(crate) name: &'s str,
    pub(crate) version: &'s str,
    pub(crate) architecture: &'s str,
}

/// Returns what a script does beyond what is known to do nothing here; `None` if that is nothing.
pub(crate) fn rest(script: &str, package: &Script<'_>) -> Option<String> {
    let calls = effects::parse_calls(script).len();
    let joined = script.replace("\\\n", " ");
    let mut lines: Vec<String> = Vec::new();
    let mut in_section = false;
    for line in joined.lines() {
        let text = line.trim_ascii();
        if let Some(comment) = text.strip_prefix('#') {
            let comment = comment.trim_ascii();
            if let Some(helper) = comment.strip_prefix("Automatically added by ") {
                let helper = helper.split('/').next().unwrap_or_default();
                in_section = HELPERS.contains(&helper);
            } else if comment.starts_with("End automatically added section") {
                in_section = false;
            }
            continue;
        }
        let is_call = calls > 0 && !effects::parse_calls(text).is_empty();
        if !text.is_empty()
            && !in_section
            && !is_call
            && !text.starts_with("dpkg-maintscript-helper ")
        {
            lines.push(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    let idle =
        |line: &String| matches!(line.as_str(), "set -e" | "set -eu" | "set +eu" | "exit 0" | ":");
    if lines.iter().all(idle) {
        return None;
    }
    let triplet = match package.architecture {
        "arm64" => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    };
    let text = lines.join("\n");
    let text = text.replace(package.version, "@VERSION@").replace(triplet, "@TRIPLET@");
    Some(text.replace(&format!(":{}", package.architecture), ":@ARCH@") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const PACKAGE: Script<'static> = Script { name: "p", version: "1.2-3", architecture: "amd64" };

    fn check(script: &str, expected: &Expect) {
        expected.assert_eq(&rest(script, &PACKAGE).unwrap_or_else(|| "nothing\n".to_owned()));
    }

    #[test]
    fn generated_sections_comments_and_alternatives_leave_nothing() {
        check(
            "#!/bin/sh\nset -e\n\n# Automatically added by dh_installsystemd/13.11.4\nif true; then\n  systemctl x\nfi\n\
             # End automatically added section\ndpkg-maintscript-helper rm_conffile /a 1 -- \"$@\"\n\
             update-alternatives --install /a a /b 1 \\\n  --slave /c c /d\nexit 0\n",
            &expect![[r#"
                nothing
            "#]],
        );
    }

    #[test]
    fn what_is_left_does_not_depend_on_version_architecture_or_layout() {
        check(
            "set -e\n# a comment\nif [ \"$2\" =  \"1.2-3\" ]; then\n\trm /usr/lib/x86_64-linux-gnu/x\nfi\ndpkg -L p:amd64\n\
             # Automatically added by something_new/1\nnew thing\n# End automatically added section\n",
            &expect![[r#"
                set -e
                if [ "$2" = "@VERSION@" ]; then
                rm /usr/lib/@TRIPLET@/x
                fi
                dpkg -L p:@ARCH@
                new thing
            "#]],
        );
        let on = |architecture, triplet: &str| {
            rest(
                &format!("rm /usr/lib/{triplet}/x:{architecture}\n"),
                &Script { architecture, ..PACKAGE },
            )
        };
        assert_eq!(on("amd64", "x86_64-linux-gnu"), on("arm64", "aarch64-linux-gnu"));
    }

    #[test]
    fn the_table_names_effects_that_exist_and_reasons() {
        let table: Table = toml::from_str(TABLE).unwrap();
        let mut previous = (String::new(), String::new());
        for Row { package, script, rest, effect, why } in table.script {
            for name in effect.split(", ") {
                assert!(name == "none" || effects::names().any(|known| known == name), "{name}");
            }
            assert!(why.len() > 10, "{package} {script}");
            assert!(INSTALL_SCRIPTS.contains(&script.as_str()), "{script}");
            assert!(!rest.is_empty() && rest.iter().all(|rest| rest.len() == 64), "{package}");
            let row = (package, script);
            assert!(previous < row, "{row:?} is not in order");
            previous = row;
        }
    }

    #[test]
    fn the_table_is_read_and_a_changed_script_is_reported() {
        let coverage = Coverage::embedded();
        let mut control = Control::default();
        let file =
            |text: &str| crate::deb::ControlFile { bytes: text.into(), mode: 0o755, mtime: 0 };
        control.files.insert("postinst".into(), file("set -e\nrm -rf /somewhere\n"));
        control.files.insert("prerm".into(), file("anything\n"));
        let uncovered = coverage.uncovered(&PACKAGE, &control);
        assert_eq!(uncovered.len(), 1);
        assert_eq!(
            (uncovered[0].package.as_str(), uncovered[0].script.as_str()),
            ("p", "postinst")
        );
        assert_eq!(digests(&control).keys().collect::<Vec<_>>(), ["postinst", "prerm"]);
    }
}
