//! Delivering one alert, that one was taken back, or what is said in a room, to everyone who shall have it, however
//! many they are.
//!
//! The first invocation reads the first page of the audience, judges its size by it, and hands parts of the ring of
//! slots to further invocations of the same function. Each keeps to its share of the push rate, and hands over what it
//! has not reached when its own time runs out.

mod concurrency_limit;
mod content;
mod deliver;
mod frames;
mod latencies;
mod members;
mod plan;
mod post;
mod push_rate;
mod report;
mod rounds;
mod services;
mod suspect;
mod suspects;
mod tally;
mod task;
mod union;

pub use self::{
    content::{Content, Event},
    deliver::was_taken_back,
    report::{FailedPart, FanoutReport},
    services::{Fanout, Services},
    task::{FanoutPart, FanoutTask},
};

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
