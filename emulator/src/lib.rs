//! API Gateway WebSocket and HTTP APIs, and AppSync Event APIs, on one machine, with what functions behind them use:
//! Lambda, DynamoDB, SQS, SNS, EventBridge, schedules and Systems Manager parameters. One SAM or CloudFormation
//! template declares all of it. Nothing else switches an Event API on: see [`Stack::event_apis`].
//!
//! The program `apigw-local` runs a template as it is. A program that has functions of its own, linked in, embeds the
//! emulator instead: see [`Embedding`] and [`Stack::embedded`]. A test of such an API starts and stops it:
//!
//! ```no_run
//! use apigw_local::{Options, Stack, StartError};
//!
//! # async fn run() -> Result<(), StartError> {
//! let template = std::path::PathBuf::from("template.yaml");
//! let stack = Stack::start(&Options::on_free_ports(template)).await?;
//! println!("clients connect to ws://{}/{}", stack.ws_addr, stack.stage);
//! stack.settled().await; // No function runs any more.
//! stack.stop().await;
//! # Ok(())
//! # }
//! ```

mod access_notes;
mod aws;
mod aws_json;
mod aws_query;
mod aws_services;
pub mod cli;
mod dynamodb;
mod embedding;
mod error;
mod event_api;
mod event_sources;
mod events;
mod exec;
mod faults;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
mod http;
mod http_api;
mod http_client;
mod init;
mod inspector;
mod invocation;
mod json;
mod lambda;
mod policy;
mod rate;
mod recorder;
mod reset;
mod schedules;
mod service_integrations;
mod sns;
mod sqs;
mod ssm;
mod stack;
mod template;
mod tls;
mod variables;

pub use crate::{
    dynamodb::{DatabaseError, TableCapacity, TableCapacityError, TableUnits, Tables},
    embedding::{Embedding, Pages, Site},
    error::ErrorChain,
    event_api::EventApiAddress,
    faults::{Fault, FaultError, FaultKind, FaultOptions},
    gateway::{ConnectionSummary, GatewayOptions},
    http::{Body, json as json_response, no_store, page},
    http_api::HttpApiAddress,
    invocation::{FunctionSetting, Invocation, Invoke, InvokeError, LinkedFunctions, StartFailure},
    lambda::FunctionStartError,
    rate::{Rate, RateError},
    stack::{Options, Stack, StartError},
    template::{
        Code, CronExpression, EventPath, EventPattern, Function, Layer, LoadError, Package, QueueSettings, Rule,
        RuleInput, RuleTarget, Schedule, ScheduleExpression, Template, TemplateError, TemplateInputs, TemplateSource,
        YamlError, YamlNode,
    },
    tls::{TlsError, TlsFileError, TlsFiles},
};
