//! The local mode from outside: the program, and templates other than the project's own.

mod authorization;
mod cli;
mod events;
mod frames;
mod scripted;
mod templates;
