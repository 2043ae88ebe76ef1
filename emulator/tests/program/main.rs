//! The emulator from outside: the program, and the library with templates of its own.

mod aliases;
mod authorization;
mod aws_addr;
mod aws_json;
mod cli;
mod events;
mod exec;
mod faults;
mod first_steps;
mod frames;
mod http;
mod inspector;
mod layers;
mod limits;
mod listeners;
mod packaged;
mod processes;
mod queues;
mod reset;
mod scripted;
mod services;
mod sources;
mod templates;
mod tls;
mod unavailable;
