//! What a user does first: help, flags of other tools, completions, and a small project.

use std::{fs, os::unix::fs::symlink, path::Path, process::Output};

use tokio_tungstenite::connect_async;

use crate::{
    cli::{RunningProgram, program},
    scripted::exchange,
};

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn refused(arguments: &[&str]) -> String {
    let (succeeded, _, error) = said(&program(arguments).output().expect("ended"));
    assert!(!succeeded && error.starts_with("error: "), "{error}");
    error
}

#[test]
fn a_flag_of_another_tool_or_in_the_wrong_place_is_refused_with_what_to_write() {
    let error = refused(&["--port", "3000"]);
    assert!(error.contains("tip: use --ws-addr PORT for sockets, --http-addr PORT for HTTP"), "{error}");
    assert!(refused(&["--template-file", "x"]).contains("tip: use --template PATH"));
    let error = refused(&["--log", "debug", "exec", "--", "true"]);
    assert!(error.contains("tip: write flags after 'exec'"), "{error}");
}

#[test]
fn a_log_filter_that_means_nothing_is_an_error() {
    let error = refused(&["--log", "apigw_local=loud"]);
    assert!(error.contains("'apigw_local=loud' for '--log <FILTER>': expected a level"), "{error}");
    assert!(refused(&["--log", "debgu"]).contains("did you mean debug?"));
    let output = program(&["--template", "none.yaml"]).env("RUST_LOG", "a=b=c").output().expect("ended");
    let (_, _, error) = said(&output);
    assert!(error.starts_with("error: ") && error.contains("RUST_LOG counts where the flag is missing"), "{error}");
}

#[test]
fn help_ends_with_examples() {
    let (succeeded, printed, _) = said(&program(&["--help"]).output().expect("ended"));
    assert!(succeeded);
    let (_, examples) = printed.split_once("\nExamples:\n").expect("examples");
    assert!(examples.contains("apigw-local exec -- npm test") && examples.contains("apigw-local init"), "{examples}");
}

#[test]
fn shells_complete_flags_and_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let (succeeded, script, error) = said(&program(&["completions", shell]).output().expect("ended"));
        assert!(succeeded, "{error}");
        for word in ["aws-addr", "completions", "init"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
}

#[test]
fn a_small_project_is_written_where_nothing_is_replaced_and_the_next_command_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().join("my api");
    let project_text = project.to_str().expect("UTF-8");
    let (succeeded, printed, error) = said(&program(&["init", project_text]).output().expect("ended"));
    assert!(succeeded, "{error}");
    let next = printed.lines().last().expect("a line");
    assert_eq!(next, format!("next: apigw-local --template '{project_text}'"));
    let template = fs::read_to_string(project.join("template.yaml")).expect("written");
    apigw_local::Template::load(&project.join("template.yaml").into(), &Default::default()).expect("it is valid");
    fs::write(project.join("template.yaml"), "mine").expect("written");
    let error = refused(&["init", project_text]);
    assert!(error.contains("template.yaml exists: name a directory without it"), "{error}");
    assert_eq!(fs::read_to_string(project.join("template.yaml")).expect("read"), "mine");
    // Nor can it be written to a link that leads to nothing.
    let linked = tempfile::tempdir().expect("a directory");
    symlink("elsewhere", linked.path().join("template.yaml")).expect("a link");
    let error = refused(&["init", linked.path().to_str().expect("UTF-8")]);
    assert!(error.contains("template.yaml exists: name a directory without it"), "{error}");
    assert!(!linked.path().join("elsewhere").exists());
    // Here, without an argument.
    let here = tempfile::tempdir().expect("a directory");
    let output = program(&["init"]).current_dir(here.path()).output().expect("ended");
    assert!(said(&output).1.ends_with("\nnext: apigw-local\n"), "{output:?}");
    assert_eq!(fs::read_to_string(here.path().join("template.yaml")).expect("read"), template);
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn the_small_project_answers_a_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().to_str().expect("UTF-8");
    assert!(program(&["init", project]).status().expect("ended").success());
    assert!(Path::new(project).join("src/app.mjs").exists());
    let running = RunningProgram::with(project, &[]);
    let (mut socket, _) = connect_async(running.address("ws://")).await.expect("connected");
    assert_eq!(exchange(&mut socket, "hello").await, "you said: hello");
}
