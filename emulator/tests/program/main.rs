//! The local mode from outside: the program, and templates other than the project's own.

mod aliases;
mod authorization;
mod cli;
mod events;
mod faults;
mod frames;
mod inspector;
mod limits;
mod listeners;
mod processes;
mod queues;
mod scripted;
mod templates;
