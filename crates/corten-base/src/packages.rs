//! What the archive offers: the packages of several indexes as one universe.

use std::collections::BTreeMap;

use corten_oci::digest::Digest;

use crate::deb822::{self, Paragraph};
use crate::relation::{self, Relation};
use crate::version;

/// One version of a package in one index. All text borrows from the index.
#[derive(Debug, Clone)]
pub(crate) struct Package<'t> {
    /// The name.
    pub(crate) name: &'t str,
    /// The version.
    pub(crate) version: &'t str,
    /// The architecture, or `all`.
    pub(crate) architecture: &'t str,
    /// Which index it came from, by number.
    pub(crate) index: usize,
    fields: Paragraph<'t>,
}

/// Where the bytes of a package are and what they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// The path below the root of the archive.
    pub(crate) filename: String,
    /// The size in bytes.
    pub(crate) size_bytes: u64,
    /// The digest.
    pub(crate) sha256: Digest,
}

impl<'t> Package<'t> {
    /// Returns a field of the index.
    pub(crate) fn text(&self, field: &str) -> &'t str {
        self.fields.text(field)
    }

    /// Returns true if the archive calls the package essential.
    pub(crate) fn is_essential(&self) -> bool {
        self.text("Essential") == "yes"
    }

    /// Returns the groups that must hold before and while the package works.
    pub(crate) fn needs(&self, architecture: &str) -> Vec<Vec<Relation<'t>>> {
        let mut groups = relation::parse(self.text("Pre-Depends"), architecture);
        groups.extend(relation::parse(self.text("Depends"), architecture));
        groups
    }

    /// Returns what must not be installed beside the package.
    pub(crate) fn refuses(&self, architecture: &str) -> Vec<Relation<'t>> {
        let mut groups = relation::parse(self.text("Conflicts"), architecture);
        groups.extend(relation::parse(self.text("Breaks"), architecture));
        groups.into_iter().flatten().collect()
    }

    /// Returns the names that the package stands for, with their versions.
    pub(crate) fn provides(&self, architecture: &str) -> Vec<Relation<'t>> {
        relation::parse(self.text("Provides"), architecture).into_iter().flatten().collect()
    }

    /// Returns the name of the source package.
    pub(crate) fn source(&self) -> &'t str {
        self.text("Source").split_ascii_whitespace().next().unwrap_or(self.name)
    }

    /// Returns true if the package satisfies a relation by its own name or by what it provides.
    pub(crate) fn satisfies(&self, relation: &Relation<'_>, architecture: &str) -> bool {
        if self.name == relation.name {
            return relation.version.is_none_or(|constraint| constraint.allows(self.version));
        }
        // An unversioned provision satisfies only relations without version: that is dpkg's rule.
        self.provides(architecture).iter().any(|provided| {
            provided.name == relation.name
                && relation.version.is_none_or(|constraint| {
                    provided.version.is_some_and(|version| constraint.allows(version.version))
                })
        })
    }

    /// Returns where the package is, or which field is missing or wrong.
    pub(crate) fn location(&self) -> Result<Location, &'static str> {
        let filename = self.text("Filename");
        let safe = filename.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !safe || !filename.is_ascii() || filename.contains([':', '?', '#', '%', '\\']) {
            return Err("Filename");
        }
        let size_bytes = self.text("Size").parse().map_err(|_| "Size")?;
        let sha256 = Digest::from_hex(self.text("SHA256")).map_err(|_| "SHA256")?;
        Ok(Location { filename: filename.to_owned(), size_bytes, sha256 })
    }
}

/// All versions of all packages for one architecture.
#[derive(Debug)]
pub(crate) struct Universe<'t> {
    /// The architecture that packages are for.
    pub(crate) architecture: &'t str,
    packages: Vec<Package<'t>>,
    /// Numbers of packages with this name, the newest version first.
    by_name: BTreeMap<&'t str, Vec<u32>>,
    /// Numbers of packages that provide this name, ordered by their name.
    providers: BTreeMap<&'t str, Vec<u32>>,
}

impl<'t> Universe<'t> {
    /// Reads indexes; a package for another architecture, or one without a name or version, is left
    /// out. Of equal versions, the one of the first index is used.
    pub(crate) fn new(indexes: &[&'t str], architecture: &'t str) -> Self {
        let mut packages = Vec::new();
        for (index, text) in indexes.iter().enumerate() {
            for fields in deb822::paragraphs(text) {
                let (name, version) = (fields.text("Package"), fields.text("Version"));
                let of = fields.text("Architecture");
                if !name.is_empty() && !version.is_empty() && (of == architecture || of == "all") {
                    packages.push(Package { name, version, architecture: of, index, fields });
                }
            }
        }
        let mut universe =
            Self { architecture, packages, by_name: BTreeMap::new(), providers: BTreeMap::new() };
        universe.sort();
        universe
    }

    fn sort(&mut self) {
        let mut order: Vec<u32> = (0..).take(self.packages.len()).collect();
        let packages = &self.packages;
        // Stable, so that equal versions keep the order of the indexes.
        order.sort_by(|left, right| {
            let (left, right) = (&packages[*left as usize], &packages[*right as usize]);
            left.name.cmp(right.name).then_with(|| version::compare(right.version, left.version))
        });
        for number in order {
            let package = &packages[number as usize];
            self.by_name.entry(package.name).or_default().push(number);
            if package.fields.get("Provides").is_some() {
                for provided in package.provides(self.architecture) {
                    self.providers.entry(provided.name).or_default().push(number);
                }
            }
        }
    }

    /// Returns the package of a number that this universe gave out.
    pub(crate) fn package(&self, number: u32) -> &Package<'t> {
        &self.packages[number as usize]
    }

    /// Returns all versions of a package, the newest first.
    pub(crate) fn versions(&self, name: &str) -> &[u32] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the packages that provide a name, ordered by their name, the newest version first.
    pub(crate) fn providers(&self, name: &str) -> &[u32] {
        self.providers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the newest version of every package, ordered by name.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (u32, &Package<'t>)> {
        self.by_name.values().filter_map(|versions| {
            let number = *versions.first()?;
            Some((number, self.package(number)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "Package: a\nVersion: 1.0-1\nArchitecture: amd64\nProvides: v (= 2), w\n\n\
        Package: a\nVersion: 1.0-1\nArchitecture: arm64\n\n\
        Package: b\nVersion: 1\nArchitecture: all\nProvides: v\nSource: src (1)\n\nPackage: broken\n";
    const SECURITY: &str = "Package: a\nVersion: 1.0-1+deb12u1\nArchitecture: amd64\nProvides: w\n";

    #[test]
    fn the_newest_version_over_all_indexes_comes_first() {
        let universe = Universe::new(&[MAIN, SECURITY], "amd64");
        let versions: Vec<&str> =
            universe.versions("a").iter().map(|number| universe.package(*number).version).collect();
        assert_eq!(versions, ["1.0-1+deb12u1", "1.0-1"]);
        assert_eq!(universe.packages.len(), 3);
        assert_eq!(universe.package(universe.versions("b")[0]).source(), "src");
    }

    #[test]
    fn a_provided_name_satisfies_a_version_only_if_it_has_one() {
        let universe = Universe::new(&[MAIN], "amd64");
        let satisfied = |name: &str, relation: &str| {
            let package = universe.package(universe.versions(name)[0]);
            package.satisfies(&relation::parse(relation, "amd64")[0][0], "amd64")
        };
        assert!(satisfied("a", "v"));
        assert!(satisfied("a", "v (>= 2)"));
        assert!(!satisfied("a", "v (>= 3)"));
        assert!(satisfied("b", "v"));
        assert!(!satisfied("b", "v (>= 1)"));
        assert_eq!(universe.providers("v").len(), 2);
    }

    #[test]
    fn a_location_must_stay_below_the_archive() {
        let location = |filename: &str| {
            let text = format!(
                "Package: a\nVersion: 1\nArchitecture: all\nFilename: {filename}\nSize: 3\nSHA256: {}\n",
                Digest::of(b"").hex()
            );
            Universe::new(&[text.as_str()], "amd64").package(0).location().map(|l| l.size_bytes)
        };
        assert_eq!(location("pool/main/a/a_1_all.deb"), Ok(3));
        for bad in ["/etc/passwd", "pool/../x", "", "a//b", "http://x/y", "a?b"] {
            assert_eq!(location(bad), Err("Filename"), "{bad}");
        }
    }
}
