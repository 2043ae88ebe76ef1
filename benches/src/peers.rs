//! The same alert through other servers, as small projects run them.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{Outcome, audience::Audience, figure::Bar, figures::Figures, process::Server};

/// Alerts before the measured ones, to warm a JIT compiler.
const WARM_UP_ALERTS: usize = 10;

/// A server that prints `ready`, its WebSocket address and its publish address, and sends on what is posted.
struct Peer {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// The file that the peer needs.
    needs: &'static str,
    /// The command that installs it.
    install: &'static str,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "Python websockets, broadcast()",
        program: "target/tools/bin/python",
        arguments: &["benches/peers/websockets_server.py", "broadcast"],
        needs: "target/tools/bin/python",
        install: "tests/run",
    },
    Peer {
        name: "Python websockets, gather()",
        program: "target/tools/bin/python",
        arguments: &["benches/peers/websockets_server.py", "gather"],
        needs: "target/tools/bin/python",
        install: "tests/run",
    },
    Peer {
        name: "Node.js ws",
        program: "node",
        arguments: &["benches/peers/ws_server.mjs"],
        needs: "tests/clients/node_modules/ws",
        install: "tests/run",
    },
    Peer {
        name: "serverless-offline, each a POST",
        program: "node",
        arguments: &["benches/peers/serverless_offline/start.mjs"],
        needs: "benches/peers/serverless_offline/node_modules",
        install: "npm ci --ignore-scripts --prefix benches/peers/serverless_offline",
    },
];

/// Measures one alert to `audience` sockets of each peer. Returns the median times to the last frame.
pub(crate) async fn one_alert_to(audience: usize, runs: usize) -> Outcome<Vec<Bar>> {
    let mut bars = Vec::new();
    for peer in PEERS {
        if !Path::new(peer.needs).exists() {
            println!("| {}: not installed, run `{}` | | | | |", peer.name, peer.install);
            continue;
        }
        let server = match Server::peer(&PathBuf::from(peer.program), peer.arguments).await {
            Ok(server) => server,
            Err(error) if is_missing(&*error) => {
                println!("| {}: {} is not installed | | | | |", peer.name, peer.program);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut subscribers = Audience::new();
        subscribers.grow(&server.ws, "", audience).await?;
        let mut last = Figures::new();
        for run in 0..WARM_UP_ALERTS + runs {
            let arrivals = subscribers.alert(&server).await?;
            if run >= WARM_UP_ALERTS {
                last.add(arrivals.last);
            }
        }
        bars.push(Bar { name: peer.name.to_owned(), time: last.median() });
        last.print(&format!("{}: one alert to {audience}, publish to last frame", peer.name));
        drop(subscribers);
        server.stop().await?;
    }
    Ok(bars)
}

/// Whether a program could not be started because there is none.
fn is_missing(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let missing = Server::peer(Path::new("./no-such-program"), &[]).await.expect_err("not there");
        assert!(is_missing(&*missing));
        let failing = Server::peer(Path::new("/bin/false"), &[]).await.expect_err("it prints nothing");
        assert!(!is_missing(&*failing));
    }
}
