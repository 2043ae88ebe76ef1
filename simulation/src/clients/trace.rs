//! What a client went through and did, as text that `client/test/replay.test.ts` replays through the real client.
//!
//! A file of traces is JSON Lines. A trace begins with a line that has `trace`:
//!
//! ```json
//! {"trace":"hostile 7","at":1795000000000,"options":{"http":true,"seed":7},"regions":["PL"],"positions":{}}
//! ```
//!
//! `trace` is a name for people, by which the trace can be made again; `at` is the time in milliseconds at which the
//! client was created; `options`, `regions` and `positions` are the arguments of [`OurClient::new`]. Each line until
//! the next `trace` is a step: its time, an [`Input`], and the [`Output`]s in their order, as serde writes them:
//!
//! ```json
//! {"at":1795000000000,"in":"start","out":[{"connect":{"socket":1}}]}
//! {"at":1795000000010,"in":{"opened":{"socket":1}},"out":[{"send":{"socket":1,"text":"{\"type\":…}"}}]}
//! ```
//!
//! Timers are steps of their own: nothing happens between two steps. All timers of one millisecond are one step.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clients::{
    order::Position,
    ours::{Input, Options, OurClient, Output},
};

#[derive(Serialize)]
struct Head<'a> {
    trace: &'a str,
    at: u64,
    options: &'a Options,
    regions: &'a [String],
    positions: &'a BTreeMap<String, Position>,
}

#[derive(Serialize)]
struct Step<'a> {
    at: u64,
    r#in: &'a Input,
    out: &'a [Output],
}

/// Our client, whose inputs and outputs are recorded.
#[derive(Debug)]
pub struct Recorder {
    client: OurClient,
    text: String,
    steps: usize,
}

impl Recorder {
    /// A client as [`OurClient::new`] makes it, and the first line of its trace.
    pub fn new(
        name: &str,
        options: Options,
        regions: &[String],
        positions: &BTreeMap<String, Position>,
        now_ms: u64,
    ) -> Self {
        let mut text = String::new();
        line(&mut text, &Head { trace: name, at: now_ms, options: &options, regions, positions });
        Self { client: OurClient::new(options, regions, positions, now_ms), text, steps: 0 }
    }

    /// Hands an input to the client, after the timers that were due before, and records both.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        while let Some(due) = self.client.next_timer().filter(|due| *due <= now_ms) {
            out.append(&mut self.step(due, Input::Timer));
        }
        if input != Input::Timer {
            out.append(&mut self.step(now_ms, input));
        }
        out
    }

    fn step(&mut self, at: u64, input: Input) -> Vec<Output> {
        let out = self.client.handle(at, input.clone());
        line(&mut self.text, &Step { at, r#in: &input, out: &out });
        self.steps += 1;
        out
    }

    /// The client.
    pub fn client(&self) -> &OurClient {
        &self.client
    }

    /// Steps until now.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The trace until now.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn line(text: &mut String, value: &impl Serialize) {
    text.push_str(&serde_json::to_string(value).expect("text and numbers serialise"));
    text.push('\n');
}
