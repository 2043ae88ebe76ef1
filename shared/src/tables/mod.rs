//! The two DynamoDB tables.

pub mod alerts;
pub mod dynamodb;
pub mod subscriptions;
