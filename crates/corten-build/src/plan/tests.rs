//! Plans of Dockerfiles as text: the graph, the configuration, the errors.

mod arguments;
mod configuration;
mod copies;
mod devices;
mod platforms;
mod runs;
mod stages;
mod triggers;

use std::collections::BTreeMap;
use std::sync::Mutex;

use corten_diag::{SourceFile, render};
use corten_oci::digest::{Digest, ImageId};
use corten_oci::image::ImageConfig;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;
use expect_test::{Expect, expect};

use crate::error::BuildError;
use crate::graph::{Graph, Op};
use crate::options::{BuildOptions, Context, DockerfileText, NamedContext};
use crate::traits::{BaseError, Bases};

/// Images by name, without layers, and which of them were asked for.
#[derive(Default)]
struct Fake {
    images: BTreeMap<String, ImageConfig>,
    asked: Mutex<Vec<String>>,
}

impl Bases for Fake {
    fn base(&self, image: &Reference, _platform: &Platform) -> Result<Image, BaseError> {
        self.asked.lock().unwrap().push(image.familiar());
        let Some(config) = self.images.get(&image.familiar()) else {
            let message = format!("no image `{}` in the store", image.familiar());
            return Err(BaseError::new(message, None));
        };
        Ok(Image {
            id: ImageId(Digest::of(b"config")),
            manifest: Digest::of(b"manifest"),
            config: config.clone(),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            stored_at: 0,
        })
    }
}

fn config(json: &str) -> ImageConfig {
    ImageConfig::parse(json.as_bytes()).unwrap()
}

/// `base:latest` is an ordinary image, `bare:latest` says nothing, `onbuild:latest` has triggers.
fn fake() -> Fake {
    let platform = Platform::host();
    let with = |rest: &str| {
        config(&format!(
            r#"{{"architecture":"{}","os":"linux","created":"2024-01-02T03:04:05Z",{rest}}}"#,
            platform.architecture
        ))
    };
    let mut images = BTreeMap::new();
    images.insert(
        "base:latest".to_owned(),
        with(
            r#""author":"a","config":{"Env":["PATH=/bin","LANG=C"],"WorkingDir":"/srv","User":"app",
            "Cmd":["old"],"Labels":{"l":"1"}},"history":[{"created_by":"base","empty_layer":true}]"#,
        ),
    );
    images.insert("bare:latest".to_owned(), with(r#""config":{}"#));
    images.insert(
        "onbuild:latest".to_owned(),
        with(r#""config":{"OnBuild":["COPY . /app","ENV X=${Y:-z}","RUN make $X"]}"#),
    );
    Fake { images, ..Fake::default() }
}

fn options(text: &str) -> BuildOptions {
    BuildOptions::new(Context::Empty, DockerfileText::inline("Dockerfile", text))
}

fn plan_with(options: &BuildOptions, bases: &Fake) -> Result<Graph, BuildError> {
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    super::plan(&dockerfile, options, Some(bases))
}

fn plan(text: &str) -> Result<Graph, BuildError> {
    plan_with(&options(text), &fake())
}

fn shown(graph: &Graph) -> String {
    let text = graph.to_string();
    text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.trim_start().to_owned())
}

/// The graph without the platform of the machine.
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&shown(&plan(text).unwrap()));
}

fn check_with(options: &BuildOptions, expected: &Expect) {
    expected.assert_eq(&shown(&plan_with(options, &fake()).unwrap()));
}

fn message(error: &BuildError) -> String {
    let Some(diagnosed) = error.diagnosed() else { return error.to_string() };
    let source: &SourceFile = &diagnosed.source;
    diagnosed.diagnostics.iter().map(|d| render::full(d, Some(source), false)).collect()
}

fn check_error(text: &str, expected: &Expect) {
    expected.assert_eq(&message(&plan(text).unwrap_err()));
}

/// The configuration of the target: all fields, then the history.
fn check_config(text: &str, expected: &Expect) {
    expected.assert_eq(&config_text(&plan(text).unwrap()));
}

fn config_text(graph: &Graph) -> String {
    let config = &graph.stage(graph.target()).config;
    let json = corten_oci::json::canonical(&config.config);
    let mut text = format!("{}\n", String::from_utf8(json).unwrap());
    for entry in &config.history {
        let mark = if entry.empty_layer { " " } else { "*" };
        let by = entry.created_by.as_deref().unwrap_or_default();
        text.push_str(&format!("{mark} {by}\n"));
    }
    text
}

#[test]
fn a_plan_without_bases_can_be_shown() {
    let options = options("FROM unknown:1 AS a\nRUN x\nFROM scratch\nCOPY --from=a /x /y");
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let graph = super::plan(&dockerfile, &options, None).unwrap();
    expect![[r#"
        stage a
          from unknown:1
           1 RUN x
               exec ["/bin/sh", "-c", "x"] in /

        stage 1 (target)
          from scratch
           2 COPY --from=a /x /y
               from `a`: /x -> /y

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          workdir /
    "#]]
    .assert_eq(&shown(&graph));
}

#[test]
fn the_plan_of_a_python_service() {
    let mut options = options(
        r#"# syntax=docker/dockerfile:1
ARG PYTHON=base
FROM ${PYTHON} AS build
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -r requirements.txt   # all of them
COPY . .

FROM ${PYTHON}
COPY --from=build /app /app
USER 1000
EXPOSE 8000
CMD ["python", "app.py"]
"#,
    );
    options.labels.insert("team".to_owned(), "ml".to_owned());
    check_with(
        &options,
        &expect![[r#"
        stage build
          from base:latest
           1 WORKDIR /app
               directory /app
           2 COPY requirements.txt .
               from the build context: requirements.txt -> /app/
           3 RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt # all of them
               exec ["/bin/sh", "-c", "pip install -r requirements.txt   # all of them"] in /app
               mount /root/.cache/pip (cache /root/.cache/pip)
           4 COPY . .
               from the build context: . -> /app/

        stage 1 (target)
          from base:latest
           5 COPY --from=build /app /app
               from `build`: /app -> /app

        image
          env PATH=/bin
          env LANG=C
          user 1000
          workdir /srv
          cmd ["python", "app.py"]
          expose 8000/tcp
          label l=1
          label team=ml
    "#]],
    );
}
