//! Writes traces of our client for `client/test/replay.test.ts`.

use std::{fs::File, io::Write, path::PathBuf};

use clap::Parser;
use simulation::clients::hostile;

#[derive(Debug, Parser)]
#[command(about = "Writes traces of the model of our browser client, which vitest replays through the real one")]
struct Arguments {
    /// The seed of the first trace; each one after it has the next seed.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// How many traces.
    #[arg(long, default_value_t = 1_000)]
    count: u32,
    /// Steps of each trace, before everything calms down.
    #[arg(long, default_value_t = 150)]
    steps: usize,
    /// The file.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> std::io::Result<()> {
    let Arguments { first, count, steps, out } = Arguments::parse();
    let mut file = File::create(out)?;
    for seed in (first..).take(count as usize) {
        file.write_all(hostile::trace(seed, steps).as_bytes())?;
    }
    Ok(())
}
