//! The local mode: the very same functions as in the cloud, behind an API Gateway WebSocket API and HTTP API, the Lambda
//! Invoke API and DynamoDB, all on one laptop, all created from `template.yaml`.

mod aws;
mod demo;
mod dynamodb;
mod gateway;
mod http;
mod http_api;
mod inspector;
mod lambda;
mod schedules;
mod stack;
mod template;
mod tls;

pub use crate::{
    dynamodb::DatabaseError,
    lambda::StartError as FunctionStartError,
    stack::{Options, Stack, StartError},
    template::{LoadError, TemplateError},
    tls::TlsError,
};
