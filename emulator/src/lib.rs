//! The local mode: the very same functions as in the cloud, behind an API Gateway WebSocket API and HTTP API, the Lambda
//! Invoke API and DynamoDB, all on one laptop, all created from `template.yaml`.

mod aws;
mod demo;
mod duration;
mod dynamodb;
mod events;
mod faults;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
mod http;
mod http_api;
mod inspector;
mod lambda;
mod rate;
mod schedules;
mod sqs;
mod ssm;
mod stack;
mod template;
mod tls;

pub use crate::{
    duration::{DurationError, parse as parse_duration},
    dynamodb::{DatabaseError, TableCapacity, TableCapacityError, TableUnits, Tables},
    faults::{Fault, FaultError, FaultKind, FaultOptions},
    gateway::GatewayOptions,
    lambda::StartError as FunctionStartError,
    rate::{Rate, RateError},
    stack::{Options, Stack, StartError},
    template::{LoadError, TemplateError},
    tls::TlsError,
};
