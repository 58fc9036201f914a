//! From the packages that a recipe asks for to all packages that must be there.
//!
//! Greedy and deterministic: the newest version of everything; of alternatives the first that is
//! already chosen, else the first that can be had; of providers of a virtual name the first by name.
//! Debian's own closures need no search, so a refusal is explained instead of worked around.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::packages::{Package, Universe};
use crate::relation::{self, Relation};

/// What a recipe asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request<'r> {
    /// Whether all packages that are essential or of priority `required` belong to it.
    pub(crate) required: bool,
    /// Packages by name or relation, for example `python3.11` or `libc6 (>= 2.36)`.
    pub(crate) add: Vec<&'r str>,
    /// Packages that are left out although others need them.
    pub(crate) exclude: BTreeSet<&'r str>,
}

/// Why a package is in the selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The recipe names it.
    Recipe,
    /// The archive calls it essential.
    Essential,
    /// Its priority is `required`.
    Required,
    /// Another package of the selection needs it.
    NeededBy(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recipe => formatter.write_str("named by the recipe"),
            Self::Essential => formatter.write_str("essential"),
            Self::Required => formatter.write_str("priority required"),
            Self::NeededBy(package) => write!(formatter, "needed by {package}"),
        }
    }
}

/// A chosen package.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// The number of the package in its universe.
    pub(crate) number: u32,
    /// Why it was chosen.
    pub(crate) reason: Reason,
}

/// Why no selection was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing that the indexes offer satisfies a relation.
    #[error("`{relation}` cannot be satisfied: it is {chain}; {offer}")]
    Unsatisfied {
        /// The relation, with all its alternatives.
        relation: String,
        /// Who needs it, up to the recipe.
        chain: String,
        /// What the indexes have under this name.
        offer: String,
    },
    /// Two chosen packages refuse each other.
    #[error(
        "`{package}` and `{other}` exclude each other (`{relation}`): {package} is {chain}; {other} is {other_chain}"
    )]
    Conflict {
        /// The package that refuses.
        package: String,
        /// The package that is refused.
        other: String,
        /// The relation as written.
        relation: String,
        /// Why the first is there.
        chain: String,
        /// Why the second is there.
        other_chain: String,
    },
    /// Two versions of one package are needed.
    #[error("`{relation}` is {chain}, but {chosen} was chosen, which is {chosen_chain}")]
    Version {
        /// The relation.
        relation: String,
        /// Who needs it, up to the recipe.
        chain: String,
        /// The version that was chosen before.
        chosen: String,
        /// Why that one is there.
        chosen_chain: String,
    },
}

/// Chooses the packages, ordered by name.
pub(crate) fn resolve(
    universe: &Universe<'_>,
    request: &Request<'_>,
) -> Result<Vec<Choice>, ResolveError> {
    let mut resolver = Resolver {
        universe,
        exclude: &request.exclude,
        chosen: BTreeMap::new(),
        queue: VecDeque::new(),
    };
    resolver.seed(request)?;
    while let Some(name) = resolver.queue.pop_front() {
        resolver.follow(name)?;
    }
    resolver.check_conflicts()?;
    Ok(resolver.chosen.into_values().collect())
}

/// Returns the newest version of one package, without what it needs.
pub(crate) fn newest(universe: &Universe<'_>, name: &str) -> Result<u32, ResolveError> {
    universe.versions(name).first().copied().ok_or_else(|| ResolveError::Unsatisfied {
        relation: name.to_owned(),
        chain: Reason::Recipe.to_string(),
        offer: format!("the indexes have no `{name}` for {}", universe.architecture),
    })
}

struct Resolver<'u, 't> {
    universe: &'u Universe<'t>,
    exclude: &'u BTreeSet<&'u str>,
    chosen: BTreeMap<&'t str, Choice>,
    /// Names whose needs were not looked at yet.
    queue: VecDeque<&'t str>,
}

impl<'t> Resolver<'_, 't> {
    /// All that is asked for by name is chosen before any need is followed, so that needs with
    /// alternatives settle on it.
    fn seed(&mut self, request: &Request<'_>) -> Result<(), ResolveError> {
        let architecture = self.universe.architecture;
        for text in &request.add {
            for group in relation::parse(text, architecture) {
                match self.candidate(&group) {
                    Some(number) => self.choose(number, Reason::Recipe),
                    None => return Err(self.unsatisfied(&group, &Reason::Recipe)),
                }
            }
        }
        if request.required {
            let universe = self.universe;
            for (number, package) in universe.newest() {
                let reason = if package.is_essential() {
                    Reason::Essential
                } else if package.text("Priority") == "required" {
                    Reason::Required
                } else {
                    continue;
                };
                if !self.exclude.contains(package.name) && !self.chosen.contains_key(package.name) {
                    self.choose(number, reason);
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, number: u32, reason: Reason) {
        let name = self.universe.package(number).name;
        if let std::collections::btree_map::Entry::Vacant(entry) = self.chosen.entry(name) {
            entry.insert(Choice { number, reason });
            self.queue.push_back(name);
        }
    }

    fn follow(&mut self, name: &'t str) -> Result<(), ResolveError> {
        let Some(choice) = self.chosen.get(name) else { return Ok(()) };
        let package = self.universe.package(choice.number);
        for group in package.needs(self.universe.architecture) {
            if self.is_settled(&group) {
                continue;
            }
            let reason = Reason::NeededBy(name.to_owned());
            match self.candidate(&group) {
                Some(number) => self.choose(number, reason),
                None => return Err(self.explain(&group, &reason)),
            }
        }
        Ok(())
    }

    /// A group is settled if a chosen package satisfies it, or if the recipe leaves it out.
    fn is_settled(&self, group: &[Relation<'_>]) -> bool {
        group.iter().any(|relation| {
            self.exclude.contains(relation.name)
                || self
                    .chosen
                    .get(relation.name)
                    .is_some_and(|choice| self.fits(choice.number, relation))
                || self
                    .universe
                    .providers(relation.name)
                    .iter()
                    .any(|number| self.is_chosen(*number) && self.fits(*number, relation))
        })
    }

    fn fits(&self, number: u32, relation: &Relation<'_>) -> bool {
        self.universe.package(number).satisfies(relation, self.universe.architecture)
    }

    fn is_chosen(&self, number: u32) -> bool {
        let name = self.universe.package(number).name;
        self.chosen.get(name).is_some_and(|choice| choice.number == number)
    }

    /// Returns the package to add for a group: for the first alternative that can be had, the newest
    /// version that fits and whose name is still free.
    fn candidate(&self, group: &[Relation<'_>]) -> Option<u32> {
        group.iter().find_map(|relation| {
            let real = self.universe.versions(relation.name).iter();
            let provided = self.universe.providers(relation.name).iter();
            real.chain(provided).copied().find(|number| {
                let name = self.universe.package(*number).name;
                self.fits(*number, relation)
                    && !self.exclude.contains(name)
                    && (self.is_chosen(*number) || !self.chosen.contains_key(name))
            })
        })
    }

    /// Says why a group failed: another version was chosen before, or nothing fits at all.
    fn explain(&self, group: &[Relation<'_>], reason: &Reason) -> ResolveError {
        for relation in group {
            let available =
                self.universe.versions(relation.name).iter().any(|n| self.fits(*n, relation));
            if let Some(choice) = self.chosen.get(relation.name).filter(|_| available) {
                return ResolveError::Version {
                    relation: relation.to_string(),
                    chain: self.chain(reason),
                    chosen: title(self.universe.package(choice.number)),
                    chosen_chain: self.chain(&choice.reason),
                };
            }
        }
        self.unsatisfied(group, reason)
    }

    fn unsatisfied(&self, group: &[Relation<'_>], reason: &Reason) -> ResolveError {
        let offers = group.iter().map(|relation| self.offer(relation)).collect::<Vec<_>>();
        ResolveError::Unsatisfied {
            relation: group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
            chain: self.chain(reason),
            offer: offers.join("; "),
        }
    }

    fn offer(&self, relation: &Relation<'_>) -> String {
        let name = relation.name;
        let versions: Vec<&str> = self
            .universe
            .versions(name)
            .iter()
            .map(|number| self.universe.package(*number).version)
            .collect();
        if !versions.is_empty() {
            return format!("the indexes have {name} {}", versions.join(", "));
        }
        let providers: BTreeSet<String> = self
            .universe
            .providers(name)
            .iter()
            .map(|number| title(self.universe.package(*number)))
            .collect();
        if providers.is_empty() {
            return format!("the indexes have no `{name}` for {}", self.universe.architecture);
        }
        let providers: Vec<String> = providers.into_iter().collect();
        format!("`{name}` is provided by {}, but not in this version", providers.join(", "))
    }

    /// Follows the reasons up to the recipe. Names cannot repeat: each was chosen after its reason.
    fn chain(&self, reason: &Reason) -> String {
        let mut text = reason.to_string();
        let mut reason = reason;
        while let Reason::NeededBy(name) = reason {
            let Some(choice) = self.chosen.get(name.as_str()) else { break };
            reason = &choice.reason;
            text.push_str(", which is ");
            text.push_str(&reason.to_string());
        }
        text
    }

    fn check_conflicts(&self) -> Result<(), ResolveError> {
        let universe = self.universe;
        for choice in self.chosen.values() {
            let package = universe.package(choice.number);
            for relation in package.refuses(universe.architecture) {
                let named = self.chosen.get(relation.name).map(|choice| choice.number);
                let provided = universe.providers(relation.name).iter().copied();
                let other = named
                    .into_iter()
                    .chain(provided.filter(|number| self.is_chosen(*number)))
                    .find(|number| *number != choice.number && self.fits(*number, &relation));
                if let Some(other) = other.map(|number| universe.package(number)) {
                    let other_reason = self.chosen.get(other.name).map(|choice| &choice.reason);
                    return Err(ResolveError::Conflict {
                        package: title(package),
                        other: title(other),
                        relation: relation.to_string(),
                        chain: self.chain(&choice.reason),
                        other_chain: other_reason
                            .map(|reason| self.chain(reason))
                            .unwrap_or_default(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn title(package: &Package<'_>) -> String {
    format!("{} {}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(index: &str, request: &Request<'_>, expected: &Expect) {
        let universe = Universe::new(&[index], "amd64");
        let text = match resolve(&universe, request) {
            Err(error) => format!("error: {error}\n"),
            Ok(choices) => choices
                .iter()
                .map(|choice| {
                    format!("{}: {}\n", title(universe.package(choice.number)), choice.reason)
                })
                .collect::<Vec<_>>()
                .concat(),
        };
        expected.assert_eq(&text);
    }

    /// Builds an index from lines of `name version; field; field`.
    fn index(lines: &str) -> String {
        lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let mut parts = line.trim().split("; ");
                let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
                let fields = parts.flat_map(|field| [field, "\n"]).collect::<String>();
                format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}\n")
            })
            .collect::<Vec<_>>()
            .concat()
    }

    fn add<'r>(names: &[&'r str]) -> Request<'r> {
        Request { add: names.to_vec(), ..Request::default() }
    }

    #[test]
    fn needs_are_followed_with_the_newest_version() {
        let index = index(
            "app 1; Depends: lib (>= 1), tool | other
             lib 1
             lib 2; Pre-Depends: base
             base 1
             other 1
             tool 3",
        );
        check(
            &index,
            &add(&["app"]),
            &expect![[r#"
                app 1: named by the recipe
                base 1: needed by lib
                lib 2: needed by app
                tool 3: needed by app
            "#]],
        );
    }

    #[test]
    fn an_alternative_or_provider_that_is_already_chosen_is_kept() {
        let index = index(
            "app 1; Depends: awk, tool | other, mail
             gawk 1; Provides: awk
             mawk 1; Provides: awk; Priority: required
             other 1
             tool 1
             zmail 1; Provides: mail
             amail 1; Provides: mail",
        );
        let request = Request { required: true, add: vec!["app", "other"], ..Request::default() };
        check(
            &index,
            &request,
            &expect![[r#"
                amail 1: needed by app
                app 1: named by the recipe
                mawk 1: priority required
                other 1: named by the recipe
            "#]],
        );
    }

    #[test]
    fn an_excluded_package_is_neither_chosen_nor_missed() {
        let index = index(
            "app 1; Depends: debconf | debconf-2.0, lib\nlib 1\ndebconf 1\ncdebconf 1; Provides: debconf-2.0",
        );
        let request = Request { exclude: BTreeSet::from(["debconf"]), ..add(&["app"]) };
        check(
            &index,
            &request,
            &expect![[r#"
                app 1: named by the recipe
                lib 1: needed by app
            "#]],
        );
    }

    #[test]
    fn a_need_that_nothing_satisfies_is_explained_up_to_the_recipe() {
        let broken = index("app 1; Depends: lib\nlib 1; Depends: deep (>= 2) | gone\ndeep 1");
        check(
            &broken,
            &add(&["app"]),
            &expect![[r#"
                error: `deep (>= 2) | gone` cannot be satisfied: it is needed by lib, which is needed by app, which is named by the recipe; the indexes have deep 1; the indexes have no `gone` for amd64
            "#]],
        );
        check(
            &broken,
            &add(&["python3.12"]),
            &expect![[r#"
                error: `python3.12` cannot be satisfied: it is named by the recipe; the indexes have no `python3.12` for amd64
            "#]],
        );
    }

    #[test]
    fn two_versions_of_one_package_are_refused_with_both_reasons() {
        let index = index("a 1; Depends: lib\nb 1; Depends: lib (<< 2)\nlib 1\nlib 2");
        check(
            &index,
            &add(&["a", "b"]),
            &expect![[r#"
                error: `lib (<< 2)` is needed by b, which is named by the recipe, but lib 2 was chosen, which is needed by a, which is named by the recipe
            "#]],
        );
    }

    #[test]
    fn packages_that_exclude_each_other_are_refused() {
        let index = index(
            "a 1; Conflicts: mta\nb 1; Depends: c\nc 1; Provides: mta\nd 1; Conflicts: me; Provides: me",
        );
        check(
            &index,
            &add(&["a", "b"]),
            &expect![[r#"
                error: `a 1` and `c 1` exclude each other (`mta`): a 1 is named by the recipe; c 1 is needed by b, which is named by the recipe
            "#]],
        );
        check(
            &index,
            &add(&["d"]),
            &expect![[r#"
            d 1: named by the recipe
        "#]],
        );
    }
}
