//! Tables: a file, and the lines and rules that it sets off.

mod control;
mod file_rules;
mod from_rules;
mod outline;
mod properties;
mod step_rules;

use std::collections::{BTreeMap, BTreeSet};

use corten_diag::SourceFile;
use corten_dockerfile::ignore::Ignore;
use expect_test::Expect;

use crate::{BaseImage, Model, PlatformName, Report, Request, Surroundings, check as run};

/// A world in which `python` and `foreign` are known, and names are judged roughly.
struct World;

impl Surroundings for World {
    fn base(&self, image: &str, _platform: &PlatformName) -> Option<BaseImage> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match image {
            "python" => Some(BaseImage {
                env: vec![pair("PATH", "/usr/bin"), pair("PYTHON_VERSION", "3.11.9")],
                has_shell: false,
                on_build: vec!["COPY $SITE_DIR /site".to_owned(), "WORKDIR site".to_owned()],
                platform: Some(amd64()),
            }),
            "shelled" => Some(BaseImage { has_shell: true, ..BaseImage::default() }),
            "foreign" => Some(BaseImage { platform: Some(arm64()), ..BaseImage::default() }),
            _ => None,
        }
    }

    fn is_image_name(&self, text: &str) -> bool {
        !text.is_empty() && !text.ends_with(':') && text.to_lowercase() == text
    }

    fn platform(&self, text: &str) -> Option<PlatformName> {
        let (os, architecture) = text.split_once('/')?;
        if os.is_empty() || architecture.is_empty() {
            return None;
        }
        Some(PlatformName {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        })
    }
}

fn amd64() -> PlatformName {
    World.platform("linux/amd64").expect("the name is well formed")
}

fn arm64() -> PlatformName {
    World.platform("linux/arm64").expect("the name is well formed")
}

fn request() -> Request<'static> {
    Request {
        build_args: BTreeMap::new(),
        target: None,
        all_stages: true,
        host: amd64(),
        platform: amd64(),
        ignore: None,
        contexts: BTreeSet::new(),
        options: None,
    }
}

fn report(text: &str, request: &Request<'_>) -> Report {
    let file = corten_dockerfile::parse(text);
    let model = Model::new(text, &file, request, &World);
    run(&model).expect("the options of the test can be read")
}

fn render(text: &str, request: &Request<'_>) -> String {
    let source = SourceFile::new("Dockerfile", text);
    let mut out = String::new();
    for warning in report(text, request).warnings {
        let place = warning.span.expect("every warning has a place");
        let (first, last) = (source.position(place.start).line, source.position(place.end).line);
        let code = warning.code.expect("every warning has a rule");
        let lines = if first == last { first.to_string() } else { format!("{first}-{last}") };
        out.push_str(&format!("{lines} {code}: {}", warning.message));
        if let Some(hint) = warning.hint.filter(|hint| hint.starts_with("did you mean")) {
            out.push_str(&format!(" ({hint})"));
        }
        for note in warning.notes {
            out.push_str(&format!(" [{note}]"));
        }
        out.push('\n');
    }
    out
}

fn check_with(text: &str, request: &Request<'_>, expected: &Expect) {
    expected.assert_eq(&render(text, request));
}

fn check(text: &str, expected: &Expect) {
    check_with(text, &request(), expected);
}

fn check_ignoring(ignore: &str, text: &str, expected: &Expect) {
    let ignore = Ignore::parse(ignore);
    check_with(text, &Request { ignore: Some(&ignore), ..request() }, expected);
}

fn given(pairs: &[(&str, &str)]) -> Request<'static> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Request { build_args: pairs.iter().map(pair).collect(), ..request() }
}

/// Nothing is found in the file.
fn quiet(text: &str) {
    assert_eq!(render(text, &request()), "", "{text}");
}
