//! Builds for several platforms, and `FROM --platform`.

use super::*;

/// A base for every platform; all programs can be executed.
struct Everywhere;

impl Bases for Everywhere {
    fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError> {
        let text = format!("{image} {platform}");
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            ..ImageConfig::default()
        };
        Ok(Image {
            id: ImageId(Digest::of(text.as_bytes())),
            manifest: Digest::of(text.as_bytes()),
            config,
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            stored_at: 0,
        })
    }

    fn can_execute(&self, _platform: &Platform) -> Result<(), BaseError> {
        Ok(())
    }
}

fn plan_for(text: &str, platforms: &[&str]) -> Graph {
    let mut options = options(text);
    options.platforms = platforms.iter().map(|text| text.parse().unwrap()).collect();
    let dockerfile = corten_dockerfile::parse(text);
    super::super::plan(&dockerfile, &options, Some(&Everywhere)).unwrap()
}

/// The platform and name of each stage, its base if that is a stage, and its steps.
fn shown(graph: &Graph) -> String {
    let mut text = String::new();
    for (index, stage) in graph.stages.iter().enumerate() {
        let platform = graph.platform_name(stage).unwrap_or_default();
        let target = graph.targets.iter().any(|target| target.stage.0 == index);
        let mark = if target { " (target)" } else { "" };
        text.push_str(&format!("{platform} {}{mark}\n", stage.name));
        for step in &stage.steps {
            text.push_str(&format!("  {} {}\n", step.number, step.title));
        }
    }
    text
}

const CROSS: &str = "FROM --platform=linux/amd64 tools AS fetch\nRUN fetch\n\
    FROM fetch AS cross\nARG TARGETARCH\nRUN compile $TARGETARCH\n\
    FROM base\nCOPY --from=fetch /data /\nCOPY --from=cross /out /\nRUN setup\n";

#[test]
fn what_does_not_depend_on_the_platform_is_done_once() {
    expect![[r#"
        linux/amd64 fetch
          1 RUN fetch
        linux/amd64 cross
          2 RUN compile amd64
        linux/amd64 2 (target)
          3 COPY --from=fetch /data /
          4 COPY --from=cross /out /
          5 RUN setup
        linux/amd64->arm64 cross
          6 RUN compile arm64
        linux/arm64 2 (target)
          7 COPY --from=fetch /data /
          8 COPY --from=cross /out /
          9 RUN setup
    "#]]
    .assert_eq(&shown(&plan_for(CROSS, &["linux/amd64", "linux/arm64"])));
}

#[test]
fn one_plan_has_a_target_for_each_platform_in_their_order() {
    let graph = plan_for("FROM base\nRUN x\n", &["linux/s390x", "linux/arm/v7"]);
    let targets: Vec<(String, String)> = graph
        .targets
        .iter()
        .map(|target| {
            let config = &graph.stage(target.stage).config;
            (target.platform.to_string(), config.architecture.clone())
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(targets, [pair("linux/s390x", "s390x"), pair("linux/arm/v7", "arm")]);
    assert_eq!(graph.step_count(), 2);
}

#[test]
fn the_same_platform_in_every_stage_is_one_target_for_all() {
    let graph =
        plan_for("FROM --platform=linux/amd64 base\nRUN x\n", &["linux/amd64", "linux/arm64"]);
    assert_eq!(graph.stages.len(), 1);
    assert_eq!(graph.targets.len(), 2);
    assert_eq!(graph.targets[0].stage, graph.targets[1].stage);
}

#[test]
fn the_plan_of_this_machine_alone_does_not_speak_of_platforms() {
    let host = Platform::host().to_string();
    let graph = plan_for("FROM base AS a\nRUN x\nFROM a\nRUN y\n", &[&host]);
    assert!(graph.stages.iter().all(|stage| graph.platform_name(stage).is_none()));
}

#[test]
fn a_program_that_cannot_be_executed_is_told_before_a_base_is_made() {
    let other = if Platform::host().architecture == "s390x" { "amd64" } else { "s390x" };
    let bases = fake();
    let mut options = options("FROM base AS a\nCOPY <<f /\nx\nf\nFROM a\nRUN x\nRUN y\n");
    options.platforms = vec![Platform::new("linux", other, None)];
    let text = message(&plan_with(&options, &bases).unwrap_err());
    assert!(text.contains("Dockerfile:6:1"), "{text}");
    assert!(bases.asked.lock().unwrap().is_empty());
}
