//! Templates as `serverless package` and `cdk synth` write them, with the code that they package.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use apigw_local::{ErrorChain, Options, Stack, TemplateSource};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::scripted::{Socket, exchange};

/// The custom runtime of `processes.rs`, which answers with its `VERSION` first.
const BOOTSTRAP: &str = include_str!("functions/bash/bootstrap");

/// A template with a two-way route `$default` to one function, in JSON as both tools write it.
fn template(code: Value, metadata: Value) -> String {
    let integration = json!({"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"},
        ":apigateway:eu-central-1:lambda:path/2015-03-31/functions/", {"Fn::GetAtt": ["Fn", "Arn"]}, "/invocations"]]});
    let of_api = |kind: &str, mut properties: Value| {
        properties["ApiId"] = json!({"Ref": "Api"});
        json!({"Type": format!("AWS::ApiGatewayV2::{kind}"), "Properties": properties})
    };
    json!({"Resources": {
        "ServerlessDeploymentBucket": {"Type": "AWS::S3::Bucket"},
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "a", "ProtocolType": "WEBSOCKET",
            "RouteSelectionExpression": "$request.body.action"}},
        "Stage": of_api("Stage", json!({"StageName": "dev"})),
        "Integration": of_api("Integration", json!({"IntegrationType": "AWS_PROXY", "IntegrationUri": integration})),
        "Default": of_api("Route", json!({"RouteKey": "$default", "RouteResponseSelectionExpression": "$default",
            "Target": {"Fn::Join": ["/", ["integrations", {"Ref": "Integration"}]]}})),
        "Response": of_api("RouteResponse", json!({"RouteId": {"Ref": "Default"}, "RouteResponseKey": "$default"})),
        "Fn": {"Type": "AWS::Lambda::Function", "Metadata": metadata, "Properties": {"Code": code, "Role": "r",
            "Handler": "unused", "Runtime": "provided.al2023", "Environment": {"Variables": {"ENDPOINT": "none"}}}},
    }})
    .to_string()
}

fn write_zip(path: &Path, bootstrap: &str) {
    let mut zip = ZipWriter::new(fs::File::create(path).expect("created"));
    zip.start_file("bootstrap", SimpleFileOptions::default().unix_permissions(0o755)).expect("started");
    zip.write_all(bootstrap.as_bytes()).expect("written");
    zip.finish().expect("finished");
}

async fn start(template: impl Into<TemplateSource>) -> (Stack, Socket) {
    let stack = Stack::start(&Options::on_free_ports(template)).await.expect("started");
    let socket = connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0;
    (stack, socket)
}

async fn version(socket: &mut Socket) -> String {
    exchange(socket, "hello").await.split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_zip_file_beside_the_template_runs_and_runs_anew_when_it_is_packaged_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cloudformation-template-update-stack.json");
    let code = json!({"S3Bucket": {"Ref": "ServerlessDeploymentBucket"}, "S3Key": "serverless/s/dev/1-2026/echo.zip"});
    fs::write(&file, template(code, json!({}))).expect("written");
    let zip = directory.path().join("echo.zip");
    write_zip(&zip, BOOTSTRAP);
    let (stack, mut socket) = start(file).await;
    assert_eq!(version(&mut socket).await, "VERSION");
    write_zip(&zip, &BOOTSTRAP.replace("VERSION", "SECOND ONE"));
    assert_eq!(version(&mut socket).await, "SECOND");
    // A zip file that is being written fails its invocations and nothing else.
    fs::write(&zip, "half").expect("written");
    assert!(exchange(&mut socket, "hello").await.contains("Internal server error"));
    write_zip(&zip, BOOTSTRAP);
    assert_eq!(version(&mut socket).await, "VERSION");
    stack.stop().await;
}

#[tokio::test]
async fn an_asset_runs_whether_metadata_or_the_manifest_names_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let asset = directory.path().join("asset.1");
    fs::create_dir(&asset).expect("created");
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/functions/bash/bootstrap");
    fs::copy(bootstrap, asset.join("bootstrap")).expect("copied");
    let manifest = json!({"files": {"1": {"source": {"path": "asset.1", "packaging": "zip"},
        "destinations": {"current_account-current_region": {"bucketName": "b", "objectKey": "1.zip"}}}}});
    let code = json!({"S3Bucket": {"Fn::Sub": "cdk-assets-${AWS::AccountId}"}, "S3Key": "1.zip"});
    let file = directory.path().join("S.template.json");
    let metadata = json!({"aws:asset:path": "asset.1", "aws:asset:property": "Code"});
    fs::write(&file, template(code.clone(), metadata)).expect("written");
    // By a relative path, as on a command line.
    let up = std::env::current_dir().expect("a directory").components().skip(1).map(|_| "..").collect::<PathBuf>();
    let (stack, mut socket) = start(up.join(file.strip_prefix("/").expect("absolute"))).await;
    assert_eq!(version(&mut socket).await, "VERSION");
    stack.stop().await;
    fs::write(&file, template(code, json!({}))).expect("written");
    fs::write(directory.path().join("S.assets.json"), manifest.to_string()).expect("written");
    let (stack, mut socket) = start(file).await;
    assert_eq!(version(&mut socket).await, "VERSION");
    stack.stop().await;
}

/// Writes two stacks into a directory, of which one has the routes and the other one their function. Each imports from
/// the other.
fn write_stacks(directory: &Path) {
    let code = directory.join("asset.1");
    fs::create_dir(&code).expect("created");
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/functions/bash/bootstrap");
    fs::copy(bootstrap, code.join("bootstrap")).expect("copied");
    let all = template(json!({"S3Bucket": "b", "S3Key": "1.zip"}), json!({"aws:asset:path": "asset.1"}));
    let mut routes: Value = serde_json::from_str(&all).expect("JSON");
    let mut function = routes["Resources"].as_object_mut().expect("resources").remove("Fn").expect("a function");
    let import = |name: &str| json!({"Fn::ImportValue": name});
    let export = |name: &str, value: Value| json!({"Value": value, "Export": {"Name": name}});
    routes["Resources"]["Integration"]["Properties"]["IntegrationUri"] = import("function-arn");
    routes["Resources"]["Layer"] = json!({"Type": "AWS::Lambda::LayerVersion", "Properties": {"Content": {
        "S3Bucket": "b", "S3Key": "2.zip"}}, "Metadata": {"aws:asset:path": "asset.2"}});
    fs::create_dir(directory.join("asset.2")).expect("created");
    fs::write(directory.join("asset.2/greeting"), "").expect("written");
    routes["Outputs"] = json!({"Id": export("api-id", json!({"Ref": "Api"})),
        "Layer": export("layer-arn", json!({"Ref": "Layer"}))});
    function["Properties"]["Layers"] = json!([import("layer-arn")]);
    function["Properties"]["Environment"]["Variables"]["GREETING"] = json!("/opt/greeting");
    function["Properties"]["Environment"]["Variables"]["ENDPOINT"] = import("api-id");
    let arn = json!({"Fn::GetAtt": ["Fn", "Arn"]});
    let functions = json!({"Resources": {"Fn": function}, "Outputs": {"Arn": export("function-arn", arn)}});
    fs::write(directory.join("Routes.template.json"), routes.to_string()).expect("written");
    fs::write(directory.join("Functions.template.json"), functions.to_string()).expect("written");
    let stack = |file: &str| json!({"type": "aws:cloudformation:stack", "properties": {"templateFile": file}});
    let manifest = json!({"artifacts": {
        "Routes": stack("Routes.template.json"), "Functions": stack("Functions.template.json")}});
    fs::write(directory.join("manifest.json"), manifest.to_string()).expect("written");
}

#[tokio::test]
async fn stacks_of_one_application_import_from_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let cdk_out = directory.path().join("cdk.out");
    fs::create_dir(&cdk_out).expect("created");
    fs::write(directory.path().join("cdk.json"), "{}").expect("written");
    write_stacks(&cdk_out);
    let files = ["Functions.template.json", "Routes.template.json"].map(|name| cdk_out.join(name)).to_vec();
    let sources = [
        TemplateSource::from(cdk_out.clone()),
        TemplateSource::from(directory.path().to_owned()),
        TemplateSource::Paths(files),
    ];
    for source in sources {
        let (stack, mut socket) = start(source).await;
        assert!(!stack.notes.iter().any(|note| note.contains("only AWS knows")), "{:?}", stack.notes);
        let answer = exchange(&mut socket, "hello").await;
        let words: Vec<&str> = answer.split(' ').collect();
        assert_eq!((words[1], words[words.len() - 2].len()), ("Functions-Fn", 10), "{answer}");
        assert!(words[4].ends_with("/asset.2/greeting"), "{answer}");
        stack.stop().await;
    }
    let alone = Options::on_free_ports(cdk_out.join("Routes.template.json"));
    let error = Stack::start(&alone).await.expect_err("its function is in the other stack");
    let error = ErrorChain(&error).to_string();
    assert!(error.ends_with("; only AWS knows function-arn, which --value function-arn=VALUE sets"), "{error}");
}

#[tokio::test]
async fn the_template_of_the_page_on_terraform_starts() {
    let page = include_str!("../../../docs/terraform.md");
    let (_, text) = page.split_once("```yaml\n").expect("a template");
    let (text, _) = text.split_once("```").expect("its end");
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("template.yaml"), text).expect("written");
    let options = Options {
        // Nothing is invoked, so that no Node.js is needed.
        lambda_endpoint: Some("http://127.0.0.1:1".parse().expect("an address")),
        ..Options::on_free_ports(directory.path().to_owned())
    };
    let stack = Stack::start(&options).await.expect("started");
    assert_eq!(stack.stage, "dev");
    assert_eq!(stack.notes, ["anybody may connect: the route $connect has no authorization"]);
    assert_eq!(stack.function_variables["Message"]["TABLE"], "Connections");
    stack.stop().await;
}
