//! Rules about the text of the file: casing, names, comments, continuations.

use expect_test::expect;

use super::{check, quiet};

#[test]
fn the_majority_decides_the_case_of_instructions() {
    check(
        "From busybox\nFROM busybox AS two\n",
        &expect![[r#"
        1 ConsistentInstructionCasing: `From` is not in upper case, as most instructions of the file are
    "#]],
    );
    check(
        "FROM busybox\nworkdir /a\nWORKDIR /b\n",
        &expect![[r#"
        2 ConsistentInstructionCasing: `workdir` is not in upper case, as most instructions of the file are
    "#]],
    );
    check(
        "frOM busybox\nfrom busybox as two\n",
        &expect![[r#"
        1 ConsistentInstructionCasing: `frOM` is not in lower case, as most instructions of the file are
    "#]],
    );
    check(
        "from busybox\nWORKDIR /a\nworkdir /b\n",
        &expect![[r#"
        2 ConsistentInstructionCasing: `WORKDIR` is not in lower case, as most instructions of the file are
    "#]],
    );
    check(
        "from busybox\nUSER a\nUSER b\nUSER c\n",
        &expect![[r#"
        1 ConsistentInstructionCasing: `from` is not in upper case, as most instructions of the file are
    "#]],
    );
    check(
        "FROM busybox\nuser a\nuser b\nuser c\n",
        &expect![[r#"
        1 ConsistentInstructionCasing: `FROM` is not in lower case, as most instructions of the file are
    "#]],
    );
    // As many of each: upper case wins.
    check(
        "FROM busybox\nuser a\n",
        &expect![[r#"
        2 ConsistentInstructionCasing: `user` is not in upper case, as most instructions of the file are
    "#]],
    );
    // Global arguments and here-documents do not count.
    check("arg V=1\nFROM busybox\nUSER a\n", &expect![[r#""#]]);
    quiet("from busybox\nuser a\nuser b\n");
    quiet("FROM busybox\nRUN <<'EOT'\nenv\nuser lower\nEOT\n");
}

#[test]
fn as_follows_its_from() {
    check(
        "FROM busybox as one\n",
        &expect![[r#"
        1 FromAsCasing: `as` and `FROM` are not in the same case
    "#]],
    );
    check(
        "from busybox AS one\n\nfrom busybox as two\n",
        &expect![[r#"
        1 FromAsCasing: `AS` and `from` are not in the same case
    "#]],
    );
    check(
        "FROM busybox As one\n",
        &expect![[r#"
        1 FromAsCasing: `As` and `FROM` are not in the same case
    "#]],
    );
    // A mixed FROM is wrong by itself.
    check(
        "From busybox as one\nFROM busybox AS two\n",
        &expect![[r#"
        1 ConsistentInstructionCasing: `From` is not in upper case, as most instructions of the file are
    "#]],
    );
    quiet("from busybox as one\n");
}

#[test]
fn stage_names_are_in_lower_case() {
    check(
        "FROM busybox AS BuildStage\nFROM busybox AS second\n",
        &expect![[r#"
        1 StageNameCasing: the name of the stage `BuildStage` is not in lower case
    "#]],
    );
    check("# check=skip=StageNameCasing\n#\nFROM busybox AS Big\n", &expect![[r#""#]]);
    check(
        "FROM busybox\n# check=skip=StageNameCasing for history's sake\nFROM busybox AS Big\n",
        &expect![[r#""#]],
    );
}

#[test]
fn stage_names_are_unique_and_not_reserved() {
    check(
        "FROM busybox AS one\nFROM busybox AS one\nFROM busybox AS One\n",
        &expect![[r#"
        2 DuplicateStageName: there is another stage named `one`
        3 DuplicateStageName: there is another stage named `one`
        3 StageNameCasing: the name of the stage `One` is not in lower case
    "#]],
    );
    check(
        "FROM scratch AS scratch\nFROM scratch AS context\n",
        &expect![[r#"
        1 ReservedStageName: `scratch` is reserved and names no stage
        2 ReservedStageName: `context` is reserved and names no stage
    "#]],
    );
    // A comment does not silence what is checked over all stages at once.
    check(
        "# check=skip=ReservedStageName\n#\n\nFROM scratch\n# check=skip=ReservedStageName\nFROM scratch AS context\n",
        &expect![[r#""#]],
    );
    check(
        "FROM scratch\n# check=skip=ReservedStageName\nFROM scratch AS context\n",
        &expect![[r#"
        3 ReservedStageName: `context` is reserved and names no stage
    "#]],
    );
    quiet("FROM scratch AS one\nFROM scratch AS two\nFROM scratch\nFROM scratch\n");
}

#[test]
fn an_empty_line_inside_an_instruction_is_noticed_at_its_end() {
    check(
        "FROM busybox\n# why\nCOPY a.txt \\\n\n  /a\nCOPY a.txt \\\n /b\n",
        &expect![[r#"
        5 NoEmptyContinuation: an empty line stands inside an instruction
    "#]],
    );
    check(
        "FROM busybox\nRUN one && \\\n \t\n\n # a comment \\\n\n two\n",
        &expect![[r#"
        7 NoEmptyContinuation: an empty line stands inside an instruction
    "#]],
    );
    check(
        "FROM busybox\nRUN one \\\n\n",
        &expect![[r#"
        3 NoEmptyContinuation: an empty line stands inside an instruction
    "#]],
    );
    check(
        "FROM busybox\nRUN <<E cat \\\n\n - \nhello\n\nE\n",
        &expect![[r#"
        4 NoEmptyContinuation: an empty line stands inside an instruction
    "#]],
    );
    quiet("FROM busybox\nRUN a \\\n# comment\n  b\n");
    quiet("FROM busybox\nRUN <<E\n\n\nE\n");
}

#[test]
fn maintainer_is_deprecated() {
    check(
        "FROM busybox\nMAINTAINER someone@example.org\n",
        &expect![[r#"
        2 MaintainerDeprecated: `MAINTAINER` is deprecated in favour of a label
    "#]],
    );
    quiet("FROM busybox\n# check=skip=MaintainerDeprecated\nMAINTAINER someone\n");
    quiet("FROM busybox\nLABEL org.opencontainers.image.authors=\"someone\"\n");
}

#[test]
fn comments_before_definitions_describe_them() {
    let on = "# check=experimental=InvalidDefinitionDescription\n";
    let file = "# tag the tag of the base\nARG version=1\n\
                # Final the last stage\nFROM busybox AS Final\n\
                # something else\nARG one\n# something else\nARG one two=2\n";
    check(
        file,
        &expect![[r#"
        4 StageNameCasing: the name of the stage `Final` is not in lower case
    "#]],
    );
    check(
        &format!("{on}{file}"),
        &expect![[r#"
        3 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# version <description>`
        5 InvalidDefinitionDescription: the comment before `FROM` does not have the form `# final <description>`
        5 StageNameCasing: the name of the stage `Final` is not in lower case
        7 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# one <description>`
        9 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# <arg_key> <description>`
    "#]],
    );
    let good = "# version what to take\nARG version=1\n\n# final the last stage\nFROM busybox AS final\n\
                # more\n# two the second\nARG one two=2\n# reset by an empty comment\n#\nARG three\n\
                # of something else\nUSER me\n# no name to describe\nFROM busybox\n";
    check(&format!("{on}{good}"), &expect![[r#""#]]);
    // Experimental rules do not heed skip=all, and can be switched on for one instruction.
    check(
        &format!("# check=skip=all;experimental=all\n{file}"),
        &expect![[r#"
        3 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# version <description>`
        5 InvalidDefinitionDescription: the comment before `FROM` does not have the form `# final <description>`
        7 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# one <description>`
        9 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# <arg_key> <description>`
    "#]],
    );
    check(
        "FROM busybox\n# check=experimental=all\nARG one\n",
        &expect![[r#"
        3 InvalidDefinitionDescription: the comment before `ARG` does not have the form `# one <description>`
    "#]],
    );
}
