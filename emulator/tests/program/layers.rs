//! Layers: directories and zip files of the template, and those that are not on this machine.
//!
//! `cargo test` ignores the tests that need an interpreter; `tests/run` runs them.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use apigw_local::{Options, Stack};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::scripted::{Socket, exchange};

/// The custom runtime of `processes.rs`, which answers with its `VERSION` first.
const BOOTSTRAP: &str = include_str!("functions/bash/bootstrap");

/// A function and its two layers, of which the second one is a zip file.
struct Site {
    directory: TempDir,
}

impl Site {
    /// Writes the files of the function's directory `fn`, and of the first layer's, `layer`.
    fn new(files: &[(&str, &str)], zipped: &[(&str, &str)]) -> Self {
        let site = Self { directory: tempfile::tempdir().expect("a directory") };
        for directory in ["fn", "layer"] {
            fs::create_dir(site.path(directory)).expect("created");
        }
        files.iter().for_each(|(name, text)| site.write(name, text));
        site.zip(zipped);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn zip(&self, files: &[(&str, &str)]) {
        let mut zip = ZipWriter::new(fs::File::create(self.path("layer.zip")).expect("created"));
        for (name, text) in files {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).expect("started");
            zip.write_all(text.as_bytes()).expect("written");
        }
        zip.finish().expect("finished");
    }

    fn options(&self, runtime: &str) -> Options {
        let path = |name: &str| self.path(name).display().to_string();
        let parameters = [
            ("Code", path("fn")),
            ("Runtime", runtime.to_owned()),
            ("FirstPath", path("layer")),
            ("SecondPath", path("layer.zip")),
        ];
        Options {
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Options::on_free_ports(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/layers.yaml"))
        }
    }

    async fn start(&self, runtime: &str) -> (Stack, Socket) {
        let stack = Stack::start(&self.options(runtime)).await.expect("started");
        let socket = connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0;
        (stack, socket)
    }
}

#[tokio::test]
async fn programs_of_layers_are_found_the_last_layer_counts_and_changed_layers_run_at_once() {
    let greet = |text: &str| format!("#!/bin/sh\necho {text}\n");
    let bootstrap = BOOTSTRAP.replace("VERSION", "$(greet) $(only) $(cat $FILE)");
    let files = [
        ("fn/bootstrap", bootstrap.as_str()),
        ("layer/bin/greet", &greet("first")),
        ("layer/bin/only", &greet("only")),
        ("layer/file.txt", "read"),
    ];
    let site = Site::new(&files, &[("bin/greet", &greet("second"))]);
    let (stack, mut socket) = site.start("provided.al2023").await;
    let mut processes = Vec::new();
    let mut words = async |socket: &mut Socket| {
        let answer = exchange(socket, "hello").await;
        processes.push(answer.rsplit(' ').next().expect("an id").to_owned());
        answer.split(' ').take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(&mut socket).await, ["second", "only", "read"]);
    site.zip(&[("bin/greet", &greet("changed"))]);
    assert_eq!(words(&mut socket).await, ["changed", "only", "read"]);
    site.write("layer/bin/only", &greet("too"));
    assert_eq!(words(&mut socket).await, ["changed", "too", "read"]);
    processes.sort();
    processes.dedup();
    assert_eq!(processes.len(), 3, "a process for each state of the layers");
    stack.stop().await;
}

#[tokio::test]
async fn a_layer_that_is_not_here_is_one_note_and_may_be_given() {
    let site = Site::new(&[("fn/bootstrap", BOOTSTRAP), ("elsewhere/file.txt", "")], &[]);
    let options = site.options("provided.al2023");
    let missing = |stack: &Stack| stack.notes.iter().filter(|note| note.contains("layer")).cloned().collect::<Vec<_>>();
    let stack = Stack::start(&options).await.expect("started");
    let arn = "arn:aws:lambda:eu-central-1:123456789012:layer:elsewhere";
    assert_eq!(
        missing(&stack),
        [
            "no layer Source, without which Another may fail: it is not built: run `sam build`, and pass --template \
             .aws-sam/build/template.yaml; set it with --layer Source=DIRECTORY"
                .to_owned(),
            format!(
                "no layer {arn}:3, without which Another, Other may fail: it is not in the template; set it with \
                 --layer {arn}:3=DIRECTORY"
            ),
        ]
    );
    stack.stop().await;
    let layers = [arn, "Source"].map(|name| (name.to_owned(), site.path("elsewhere"))).into();
    let stack = Stack::start(&Options { layers, ..options }).await.expect("started");
    assert_eq!(missing(&stack), [""; 0]);
    stack.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_zip_file_is_a_layer_that_is_missing() {
    let site = Site::new(&[("fn/bootstrap", BOOTSTRAP), ("layer/file.txt", "read")], &[]);
    site.write("layer.zip", "no zip file");
    let stack = Stack::start(&site.options("provided.al2023")).await.expect("started");
    let path = site.path("layer.zip").display().to_string();
    let note = stack.notes.iter().find(|note| note.contains(&path)).expect("a note");
    assert!(
        note.starts_with("no layer ") && note.contains(&format!("cannot unpack {path}: invalid Zip archive")),
        "{note}"
    );
    assert_eq!(note.matches("Message").count(), 1, "{note}");
    stack.stop().await;
}

/// A module of CommonJS that exports a text.
fn module(text: &str) -> String {
    format!("module.exports = '{text}';")
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn modules_of_layers_are_found_by_name_and_in_opt_by_either_kind_of_module() {
    let (greet, other) = (module("greet"), module("other"));
    let commonjs = "const all = [require('greet'), require('other'), require('plain'), require('/opt/nodejs/util')];
        exports.handler = async () => ({ statusCode: 200, body: all.join() });";
    let esm = "import greet from 'greet';\nimport other from 'other';\nimport plain from 'plain';
        import util from '/opt/nodejs/util.js';\nimport { own } from '/opt/nodejs/own.mjs';
        export const handler = async () => ({ statusCode: 200, body: [greet, other, plain, util, own].join() });";
    for (file, text, expected) in
        [("fn/app.js", commonjs, "greet,other,plain,util"), ("fn/app.mjs", esm, "greet,other,plain,util,own")]
    {
        let files = [
            (file, text),
            ("layer/nodejs/node_modules/greet/index.js", &greet),
            ("layer/nodejs/plain.js", &module("plain")),
            ("layer/nodejs/own.mjs", "export const own = 'own';"),
        ];
        let zipped =
            [("nodejs/node20/node_modules/other/index.js", other.as_str()), ("nodejs/util.js", &module("util"))];
        let site = Site::new(&files, &zipped);
        let (stack, mut socket) = site.start("nodejs20.x").await;
        assert_eq!(exchange(&mut socket, "hello").await, expected, "{file}");
        stack.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs Python with awslambdaric; tests/run installs it and runs this"]
async fn packages_of_layers_are_found_by_name_and_in_opt() {
    let text = "import sys\nsys.path.append('/opt/extra')\nimport greet, other, more\n
def handler(event, context):\n    return {'statusCode': 200, 'body': greet.text + other.text + more.text}\n";
    let files = [
        ("fn/app.py", text),
        ("layer/python/greet.py", "text = 'greet'"),
        ("layer/extra/more/__init__.py", "from .part import text"),
        ("layer/extra/more/part.py", "text = 'more'"),
    ];
    let site = Site::new(&files, &[("python/lib/python3.11/site-packages/other.py", "text = 'other'")]);
    let (stack, mut socket) = site.start("python3.11").await;
    assert_eq!(exchange(&mut socket, "hello").await, "greetothermore");
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn inline_code_finds_the_modules_beside_the_template() {
    let template = include_str!("layers.yaml").replace("CodeUri: !Ref Code", "InlineCode: !Ref Code");
    let site = Site::new(&[("node_modules/greet/index.js", &module("greet")), ("template.yaml", &template)], &[]);
    let code = "const greet = require('greet');
        exports.handler = async () => ({ statusCode: 200, body: greet });";
    let mut options = site.options("nodejs20.x");
    options
        .parameters
        .extend([("Code", code), ("Handler", "index.handler")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let stack =
        Stack::start(&Options { template: site.path("template.yaml").into(), ..options }).await.expect("started");
    let mut socket = connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0;
    assert_eq!(exchange(&mut socket, "hello").await, "greet");
    stack.stop().await;
}
