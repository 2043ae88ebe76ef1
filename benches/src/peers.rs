//! The same alert through other servers, as small projects run them.

use std::path::{Path, PathBuf};

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
        let server = Server::peer(&PathBuf::from(peer.program), peer.arguments).await?;
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
