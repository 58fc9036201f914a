//! Whether the CUDA libraries of an image fit the NVIDIA driver of this machine. Pure.
//!
//! A driver runs what was made for older ones. What was made for a newer one of the same major version of
//! CUDA it runs too, but for code that is compiled at run time; of a newer major version it runs nothing
//! (CUDA Compatibility guide of NVIDIA).

use std::fmt;
use std::path::Path;

use crate::spec::Mount;

/// A version of CUDA or of a driver; what follows the second number does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// Reads `570.86.10`, `12.4`, `13`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next().transpose().ok()?.unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Each toolkit and the driver that came with it, as major and minor number.
const TOOLKITS: [(u32, u32, u32, u32); 20] = [
    (11, 0, 450, 36),
    (11, 1, 455, 23),
    (11, 2, 460, 27),
    (11, 3, 465, 19),
    (11, 4, 470, 42),
    (11, 5, 495, 29),
    (11, 6, 510, 39),
    (11, 7, 515, 43),
    (11, 8, 520, 61),
    (12, 0, 525, 60),
    (12, 1, 530, 30),
    (12, 2, 535, 54),
    (12, 3, 545, 23),
    (12, 4, 550, 54),
    (12, 5, 555, 42),
    (12, 6, 560, 28),
    (12, 8, 570, 26),
    (12, 9, 575, 51),
    (13, 0, 580, 65),
    (13, 1, 590, 44),
];

/// The first driver that runs anything of a major version of CUDA.
const FAMILIES: [(u32, u32); 3] = [(11, 450), (12, 525), (13, 580)];

/// What an image says and has.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Its variables, `NAME=value`.
    pub environment: &'a [String],
    /// Names of directories of installed Python packages, `torch-2.7.0+cu128.dist-info`.
    pub packages: &'a [String],
}

/// How well they go together; a sentence says what does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    Well,
    /// It starts, and something will not work.
    Partly(String),
    /// It says itself that it does not work.
    Not(String),
}

/// Finds the driver's version in what it tells at `/proc/driver/nvidia/version`.
pub fn driver_of_text(text: &str) -> Option<Version> {
    let line = text.lines().find(|line| line.contains("NVRM version"))?;
    let is_version = |word: &&str| word.contains('.') && Version::parse(word).is_some();
    line.split_whitespace().find(is_version).and_then(Version::parse)
}

/// Finds it in the name of the driver's library among what is mounted, `libcuda.so.570.86.10`.
pub fn driver_of_mounts(mounts: &[Mount]) -> Option<Version> {
    mounts.iter().find_map(|mount| {
        let Mount::Bind(bind) = mount else { return None };
        let name = Path::new(&bind.source).file_name()?.to_str()?;
        let version = name.strip_prefix("libcuda.so.")?;
        Version::parse(version).filter(|_| version.contains('.'))
    })
}

/// Compares what an image needs with the driver.
pub fn judge(needs: &Needs<'_>, driver: Version) -> Fit {
    let value = |name: &str| {
        needs.environment.iter().rev().find_map(|variable| {
            variable.strip_prefix(name)?.strip_prefix('=').filter(|value| !value.is_empty())
        })
    };
    if value("NVIDIA_DISABLE_REQUIRE").is_some_and(|text| text != "0" && text != "false") {
        return Fit::Well;
    }
    for variable in needs.environment {
        let Some((name, wanted)) = variable.split_once('=') else { continue };
        let is_one = name.starts_with("NVIDIA_REQUIRE_") && name != "NVIDIA_REQUIRE_JETPACK";
        if is_one && !wanted.trim().is_empty() && !holds(wanted, driver) {
            let first = wanted.split_whitespace().next().unwrap_or_default();
            return Fit::Not(format!(
                "the image wants `{first}` (`{name}`), and this machine's NVIDIA driver {driver} gives {}",
                given(driver)
            ));
        }
    }
    if let Some(found) = newest(needs.packages) {
        return compare(&format!("`{}` of the image", found.package), found.cuda, driver);
    }
    if let (Some(version), None) = (value("CUDA_VERSION"), value("NVIDIA_REQUIRE_CUDA"))
        && let Some(cuda) = Version::parse(version)
    {
        return match compare("the image", cuda, driver) {
            Fit::Partly(text) if driver < first_driver(cuda) => Fit::Not(text),
            fit => fit,
        };
    }
    let of_processor = needs.packages.iter().find(|name| is_of_processor(name));
    match of_processor.and_then(|name| name.strip_suffix(".dist-info")) {
        Some(name) => Fit::Partly(format!(
            "`{name}` of the image is built for processors and will not use a GPU: install a build for \
             CUDA {} or older",
            newest_toolkit(driver).map_or_else(|| "11.0".to_owned(), |cuda| cuda.to_string())
        )),
        None => Fit::Well,
    }
}

/// The CUDA that a driver came with, in words.
fn given(driver: Version) -> String {
    newest_toolkit(driver).map_or_else(
        || "no CUDA that is still in use".to_owned(),
        |cuda| format!("CUDA {cuda}: install a newer driver, or take an image for CUDA {cuda}"),
    )
}

fn newest_toolkit(driver: Version) -> Option<Version> {
    let known = TOOLKITS.iter().rev();
    let mut fitting = known.filter(|(_, _, major, minor)| driver >= version(*major, *minor));
    fitting.next().map(|(major, minor, _, _)| version(*major, *minor))
}

const fn version(major: u32, minor: u32) -> Version {
    Version { major, minor }
}

/// The first driver that runs a major version of CUDA at all.
fn first_driver(cuda: Version) -> Version {
    let family = FAMILIES.iter().find(|(major, _)| *major == cuda.major);
    let newest = FAMILIES[FAMILIES.len() - 1];
    version(
        match family {
            Some((_, driver)) => *driver,
            None if cuda.major > newest.0 => newest.1 + 1,
            None => 0,
        },
        0,
    )
}

fn compare(what: &str, cuda: Version, driver: Version) -> Fit {
    let first = first_driver(cuda);
    if driver < first {
        return Fit::Partly(format!(
            "{what} is made for CUDA {cuda}, which needs an NVIDIA driver from {} on, and this machine has \
             {driver}, which gives {}",
            first.major,
            given(driver)
        ));
    }
    let shipped =
        TOOLKITS.iter().find(|(major, minor, ..)| (*major, *minor) == (cuda.major, cuda.minor));
    match shipped {
        Some((_, _, major, minor)) if driver < version(*major, *minor) => Fit::Partly(format!(
            "{what} is made for CUDA {cuda} and driver {major}.{minor}; this machine's {driver} runs it but \
             for code that is compiled at run time (PTX, Triton)"
        )),
        _ => Fit::Well,
    }
}

/// A package that tells which CUDA the image has.
struct Telling<'a> {
    package: &'a str,
    cuda: Version,
}

fn newest(packages: &[String]) -> Option<Telling<'_>> {
    let telling = packages.iter().filter_map(|directory| {
        let package = directory.strip_suffix(".dist-info")?;
        let (name, number) = package.rsplit_once('-')?;
        let cuda = match name.to_ascii_lowercase().as_str() {
            "nvidia_cuda_runtime"
            | "nvidia_cuda_runtime_cu11"
            | "nvidia_cuda_runtime_cu12"
            | "cuda_toolkit" => Version::parse(number)?,
            _ => local_cuda(number)?,
        };
        Some(Telling { package, cuda })
    });
    telling.max_by_key(|telling| telling.cuda)
}

/// Reads the local part of a version, `2.7.0+cu128`.
fn local_cuda(number: &str) -> Option<Version> {
    let digits = number.split_once("+cu")?.1;
    let (major, minor) = digits.split_at_checked(2)?;
    Some(version(major.parse().ok()?, minor.parse().ok()?))
}

fn is_of_processor(directory: &str) -> bool {
    directory.starts_with("torch-") && directory.contains("+cpu")
}

/// Evaluates the words of `NVIDIA_REQUIRE_CUDA`: alternatives of conditions. What is about brands and
/// chips counts as true.
fn holds(text: &str, driver: Version) -> bool {
    let cuda = newest_toolkit(driver).unwrap_or(version(0, 0));
    let condition = |text: &str| {
        const OPERATORS: [&str; 6] = [">=", "<=", "!=", "=", ">", "<"];
        let split = OPERATORS.iter().find_map(|op| Some((text.split_once(op)?, *op)));
        let Some(((key, value), operator)) = split else { return true };
        let known = match key {
            "cuda" => cuda,
            "driver" => driver,
            _ => return true,
        };
        let Some(wanted) = Version::parse(value) else { return true };
        // `driver>=470` is about the branch.
        let known = if value.contains('.') { known } else { version(known.major, 0) };
        match operator {
            ">=" => known >= wanted,
            "<=" => known <= wanted,
            "!=" => known != wanted,
            "=" => known == wanted,
            ">" => known > wanted,
            _ => known < wanted,
        }
    };
    text.split_whitespace().any(|all| all.split(',').all(condition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{BindMount, BindOptions};
    use expect_test::expect;

    fn told(driver: &str, environment: &[&str], packages: &[&str]) -> String {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (environment, packages) = (own(environment), own(packages));
        let needs = Needs { environment: &environment, packages: &packages };
        match judge(&needs, Version::parse(driver).unwrap()) {
            Fit::Well => "well\n".to_owned(),
            Fit::Partly(text) => format!("partly: {text}\n"),
            Fit::Not(text) => format!("not: {text}\n"),
        }
    }

    #[test]
    fn an_image_that_says_what_it_needs_is_believed() {
        let wanted = "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471";
        let table = [
            told("550.54", &[wanted], &[]),
            told("535.54.03", &[wanted], &[]),
            told("470.10", &[wanted], &[]),
            told("535.54", &[wanted, "NVIDIA_DISABLE_REQUIRE=1"], &[]),
            told("535.54", &["CUDA_VERSION=12.2.0"], &[]),
            told("525.60", &["CUDA_VERSION=12.8.1"], &[]),
            told("470.10", &["CUDA_VERSION=12.8.1"], &[]),
            told("390.1", &["NVIDIA_REQUIRE_CUDA=cuda>=9.0"], &[]),
        ];
        expect![[r#"
            well
            not: the image wants `cuda>=12.4` (`NVIDIA_REQUIRE_CUDA`), and this machine's NVIDIA driver 535.54 gives CUDA 12.2: install a newer driver, or take an image for CUDA 12.2
            well
            well
            well
            partly: the image is made for CUDA 12.8 and driver 570.26; this machine's 525.60 runs it but for code that is compiled at run time (PTX, Triton)
            not: the image is made for CUDA 12.8, which needs an NVIDIA driver from 525 on, and this machine has 470.10, which gives CUDA 11.3: install a newer driver, or take an image for CUDA 11.3
            not: the image wants `cuda>=9.0` (`NVIDIA_REQUIRE_CUDA`), and this machine's NVIDIA driver 390.1 gives no CUDA that is still in use
        "#]].assert_eq(&table.concat());
    }

    #[test]
    fn wheels_tell_which_cuda_they_are_for() {
        let table = [
            told("580.65", &[], &["cuda_toolkit-13.0.2.dist-info"]),
            told("570.86", &[], &["nvidia_cuda_runtime-13.2.86.dist-info", "numpy-2.0.dist-info"]),
            told("535.54", &[], &["nvidia_cuda_runtime_cu12-12.9.79.dist-info"]),
            told("470.10", &[], &["torch-2.7.0+cu128.dist-info"]),
            told("570.86", &[], &["torch-2.7.0+cpu.dist-info"]),
            told("570.86", &[], &["torch-2.7.0.dist-info", "broken-.dist-info", "x+cu1.dist-info"]),
            told("999.1", &[], &["nvidia_cuda_runtime-14.0.1.dist-info"]),
        ];
        expect![[r#"
            well
            partly: `nvidia_cuda_runtime-13.2.86` of the image is made for CUDA 13.2, which needs an NVIDIA driver from 580 on, and this machine has 570.86, which gives CUDA 12.8: install a newer driver, or take an image for CUDA 12.8
            partly: `nvidia_cuda_runtime_cu12-12.9.79` of the image is made for CUDA 12.9 and driver 575.51; this machine's 535.54 runs it but for code that is compiled at run time (PTX, Triton)
            partly: `torch-2.7.0+cu128` of the image is made for CUDA 12.8, which needs an NVIDIA driver from 525 on, and this machine has 470.10, which gives CUDA 11.3: install a newer driver, or take an image for CUDA 11.3
            partly: `torch-2.7.0+cpu` of the image is built for processors and will not use a GPU: install a build for CUDA 12.8 or older
            well
            well
        "#]].assert_eq(&table.concat());
    }

    #[test]
    fn the_driver_is_found_where_it_tells_its_version() {
        for text in [
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed Jan  1 00:00:00 UTC 2025\nGCC version: 12.2.0\n",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n",
        ] {
            assert_eq!(driver_of_text(text), Some(version(570, 86)));
        }
        assert_eq!(driver_of_text("GCC version: 12.2"), None);
        let bind = |path: &str| {
            Mount::Bind(BindMount {
                source: path.into(),
                target: path.into(),
                readonly: true,
                recursive: false,
                options: BindOptions::default(),
            })
        };
        let mounts = [bind("/usr/lib/libcuda.so.1"), bind("/usr/lib/libcuda.so.535.54.03")];
        assert_eq!(driver_of_mounts(&mounts), Some(version(535, 54)));
        assert_eq!(driver_of_mounts(&mounts[..1]), None);
    }
}
