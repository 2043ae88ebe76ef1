//! The local mode from outside: the program, and templates other than the project's own.

mod cli;
mod frames;
