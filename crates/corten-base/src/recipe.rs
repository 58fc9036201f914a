//! Recipes: which packages make a golden base, and how a container of it starts.

use std::collections::BTreeMap;

use corten_oci::digest::Digest;
use corten_oci::reference::Reference;
use serde::{Deserialize, Serialize};

/// The version of the format.
const SCHEMA: u32 = 1;

/// The registry name of golden bases: a domain that nobody can register, so that no other program
/// pulls something else by mistake.
pub const GOLDEN_REGISTRY: &str = "golden.internal";

/// The recipes that ship with this program.
const EMBEDDED: [&str; 3] = [
    include_str!("../recipes/debian-12.toml"),
    include_str!("../recipes/python-3.11.toml"),
    include_str!("../recipes/toolbox.toml"),
];

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The version of the format.
    pub schema: u32,
    /// The name by which people choose it.
    pub name: String,
    /// A title for people.
    pub title: String,
    /// One sentence on what it is.
    pub description: String,
    /// The image reference that it stands for.
    pub reference: String,
    /// Further references.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The architectures that it can be built for, as Debian names them.
    pub architectures: Vec<String>,
    /// Where packages come from.
    pub base: Base,
    /// Which packages.
    pub packages: Packages,
    /// Which of their files.
    #[serde(default)]
    pub files: Files,
    /// What Python gets beyond Debian's layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
    /// How a container starts.
    #[serde(default)]
    pub config: Config,
}

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The suite.
    pub suite: String,
    /// Suites of the same archive with updates.
    #[serde(default)]
    pub updates: Vec<String>,
    /// Suites of the security archive.
    #[serde(default)]
    pub security: Vec<String>,
    /// The component.
    pub component: String,
}

/// Which packages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Whether all packages belong to it that are essential or of priority `required`.
    #[serde(default)]
    pub required: bool,
    /// Packages by name or relation.
    #[serde(default)]
    pub add: Vec<String>,
    /// Packages that are left out although others need them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Packages of which only some files are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part: Vec<Part>,
}

/// A package of which only some files are taken. The package database does not list it, and what it
/// needs is not followed; when it is installed later, it takes its files over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The name.
    pub name: String,
    /// Patterns of the files.
    pub files: Vec<String>,
}

/// Which files of the packages, as patterns of dpkg.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// What is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Exceptions from that.
    #[serde(default)]
    pub include: Vec<String>,
}

/// What Python gets beyond Debian's layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The version, for example `3.11`.
    pub version: String,
    /// Wheels of packages that are installed for pip to see.
    #[serde(default)]
    pub wheels: Vec<String>,
}

/// How a container starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// The program that always runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The directory to start in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A recipe that cannot be used, or is not known.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The text is not a recipe.
    #[error("failed to parse the recipe")]
    Parse(#[source] Box<toml::de::Error>),
    /// A value makes no sense.
    #[error("the recipe `{recipe}` has a `{field}` that cannot be used: {problem}")]
    Field {
        /// The recipe.
        recipe: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No recipe has this name or reference.
    #[error("there is no golden base `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
}

impl RecipeError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::Unknown { known, .. } => Some(format!("there are: {}", known.join(", "))),
            Self::Parse(_) | Self::Field { .. } => None,
        }
    }
}

/// Returns the recipes that ship with this program, ordered by name.
pub fn catalogue() -> Vec<Recipe> {
    EMBEDDED
        .iter()
        .map(|text| Recipe::parse(text).expect("embedded recipes are read by a test"))
        .collect()
}

/// Finds a recipe by its name, its reference or one of its aliases.
pub fn find(name: &str) -> Result<Recipe, RecipeError> {
    let recipes = catalogue();
    let canonical = name.parse::<Reference>().ok().map(|reference| reference.to_string());
    if let Some(recipe) = recipes.iter().find(|recipe| {
        recipe.name == name
            || recipe.references().any(|reference| Some(reference.to_string()) == canonical)
    }) {
        return Ok(recipe.clone());
    }
    let known: Vec<String> = recipes.iter().map(|recipe| recipe.name.clone()).collect();
    let words: Vec<String> =
        recipes.iter().flat_map(|recipe| [recipe.name.clone(), recipe.reference.clone()]).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let nearest = corten_diag::suggest::nearest(name, &words).map(ToOwned::to_owned);
    Err(RecipeError::Unknown { name: name.to_owned(), known, nearest })
}

impl Recipe {
    /// Reads a recipe.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self =
            toml::from_str(text).map_err(|error| RecipeError::Parse(Box::new(error)))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Returns the digest of what the recipe says; comments and order of fields do not matter.
    pub fn digest(&self) -> Digest {
        Digest::of(&corten_oci::json::canonical(self))
    }

    /// Returns all references that the recipe stands for, the main one first.
    pub fn references(&self) -> impl Iterator<Item = Reference> {
        [&self.reference].into_iter().chain(&self.aliases).filter_map(|text| text.parse().ok())
    }

    fn check(&self) -> Result<(), RecipeError> {
        let error = |field, problem: &str| {
            Err(RecipeError::Field {
                recipe: self.name.clone(),
                field,
                problem: problem.to_owned(),
            })
        };
        if self.schema != SCHEMA {
            return error("schema", "this version reads schema 1");
        }
        if self.name.is_empty() || !self.name.bytes().all(is_word_byte) {
            return error("name", "it must be letters, digits, `.`, `_` and `-`");
        }
        for text in [&self.reference].into_iter().chain(&self.aliases) {
            match text.parse::<Reference>() {
                Ok(reference) if reference.digest().is_none() => {}
                _ => {
                    return error(
                        "reference",
                        &format!("`{text}` is not an image name with a tag"),
                    );
                }
            }
        }
        if self.architectures.is_empty()
            || self.architectures.iter().any(|name| !matches!(name.as_str(), "amd64" | "arm64"))
        {
            return error("architectures", "it must list `amd64`, `arm64` or both");
        }
        let suites =
            [&self.base.suite].into_iter().chain(&self.base.updates).chain(&self.base.security);
        if suites
            .chain([&self.base.component])
            .any(|name| name.is_empty() || !name.bytes().all(is_word_byte))
        {
            return error("base", "names of suites and components must be plain words");
        }
        if !self.packages.required && self.packages.add.is_empty() {
            return error("packages", "it names no package");
        }
        if let Some(python) = &self.python
            && !python.version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return error("python", "the version must be numbers");
        }
        if self.config.env.iter().any(|entry| !entry.contains('=')) {
            return error("config", "the environment must be `NAME=value`");
        }
        Ok(())
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_recipes_are_valid_and_have_distinct_names() {
        let recipes = catalogue();
        let mut names: Vec<String> =
            recipes.iter().flat_map(Recipe::references).map(|r| r.to_string()).collect();
        assert_eq!(
            names.len(),
            recipes.iter().map(|recipe| recipe.aliases.len() + 1).sum::<usize>()
        );
        assert!(names.iter().all(|name| name.starts_with(GOLDEN_REGISTRY)));
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_recipe_is_found_by_name_and_by_any_reference() {
        for name in
            ["python-3.11", "golden.internal/python:3.11-slim", "golden.internal/python:3.11"]
        {
            assert_eq!(find(name).unwrap().name, "python-3.11", "{name}");
        }
        assert_eq!(find("golden.internal/debian:bookworm").unwrap().name, "debian-12");
        let error = find("python-3.10").unwrap_err();
        assert_eq!(error.to_string(), "there is no golden base `python-3.10`");
        assert_eq!(error.hint().unwrap(), "did you mean `python-3.11`?");
        let error = find("nginx").unwrap_err();
        assert_eq!(error.hint().unwrap(), "there are: debian-12, python-3.11, toolbox");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        let text = EMBEDDED[0];
        let refused =
            |from: &str, to: &str| Recipe::parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(refused("schema = 1", "schema = 2").contains("`schema`"));
        assert!(refused("suite = \"bookworm\"", "suite = \"../x\"").contains("`base`"));
        assert!(refused("\"arm64\"]", "\"mips\"]").contains("`architectures`"));
        assert!(refused("\"PATH=", "\"PATH").contains("`config`"));
        assert!(refused("schema = 1", "schema = 1\nsurprise = 1").contains("failed to parse"));
    }

    #[test]
    fn the_embedded_recipes_have_what_dockerfiles_expect() {
        for recipe in catalogue() {
            // Bash, dpkg, passwd and coreutils are essential or required.
            assert!(recipe.packages.required);
            for package in ["apt", "procps", "usr-is-merged"] {
                assert!(recipe.packages.add.iter().any(|name| name == package), "{package}");
            }
        }
        let python = find("python-3.11").unwrap();
        assert!(python.packages.add.iter().any(|name| name == "ca-certificates"));
        assert!(python.python.unwrap().wheels.contains(&"pip".to_owned()));
        // Without the mark, pip installs as it does in other images.
        let filter = crate::filter::Filter::new(&python.files.exclude, &python.files.include);
        assert!(!filter.includes(b"/usr/lib/python3.11/EXTERNALLY-MANAGED"));
        assert!(filter.includes(b"/usr/lib/python3.11/os.py"));
    }

    #[test]
    fn comments_do_not_change_the_digest() {
        let one = Recipe::parse(EMBEDDED[0]).unwrap();
        let two = Recipe::parse(&format!("# another comment\n{}", EMBEDDED[0])).unwrap();
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), Recipe::parse(EMBEDDED[1]).unwrap().digest());
    }
}
