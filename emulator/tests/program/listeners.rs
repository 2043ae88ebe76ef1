//! What web pages can do to the program: requests that a page can make a browser send, at every port of the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    cli::RunningProgram,
    scripted::{UPGRADE, WAIT_MAX},
};

const TEMPLATE: &str = "tests/program/listeners.yaml";

/// The headers of an AWS client's call, except its target.
const SIGNED: &str = "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Date: 20260101T000000Z\r\n\
                      Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/x/aws4_request, \
                      SignedHeaders=host, Signature=00\r\n";

/// What a page of another site gets from a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ForeignAccess {
    /// A refusal.
    Never,
    /// A response that browsers hide from the page.
    Unread,
}

/// A listener, with requests that it accepts from programs.
struct ListenerCase {
    name: &'static str,
    port: u16,
    requests: Vec<(String, String, &'static str, ForeignAccess)>,
}

impl ListenerCase {
    fn new(name: &'static str, port: u16) -> Self {
        Self { name, port, requests: Vec::new() }
    }

    fn asked(mut self, request: &str, headers: &str, body: &'static str, answered: ForeignAccess) -> Self {
        self.requests.push((request.to_owned(), headers.to_owned(), body, answered));
        self
    }

    fn called(self, target: &str) -> Self {
        self.asked("POST /", &format!("{SIGNED}X-Amz-Target: {target}\r\n"), "{}", ForeignAccess::Never)
    }
}

/// Sends a request and returns the status and the head of the response.
fn ask(port: u16, request: &str, headers: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    socket.set_read_timeout(Some(WAIT_MAX)).expect("a time limit");
    let length = body.len();
    write!(socket, "{request} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .expect("sent");
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    // An upgraded socket does not end: the head is enough.
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) => panic!("{request} on {port}: {error}"),
        }
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{request} on {port}: no answer: {answer}")), answer)
}

/// Returns the ports on which a process listens.
fn listening(process: u32) -> BTreeSet<u16> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its files");
    let sockets: BTreeSet<String> = files
        .filter_map(|file| Some(std::fs::read_link(file.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_listening = fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|id| sockets.contains(*id));
            if is_listening {
                let port = fields[1].rsplit(':').next().expect("a port");
                ports.insert(u16::from_str_radix(port, 16).expect("a port"));
            }
        }
    }
    ports
}

/// Returns every listener of the program. The Runtime API of the function's process is the one that is not printed.
fn listeners(running: &RunningProgram) -> Vec<ListenerCase> {
    use ForeignAccess::{Never, Unread};
    let variables = running.variables();
    let printed = |name: &str| {
        let line = format!("export AWS_ENDPOINT_URL_{name}=http://127.0.0.1:");
        let rest = variables.lines().find_map(|printed| printed.strip_prefix(&line)).expect(name);
        rest.split('/').next().expect("a port").parse::<u16>().expect("a port")
    };
    let front = running.address("http://");
    let front: u16 = front.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a port");
    let invoke = "POST /2015-03-31/functions/Message/invocations";
    let services = ListenerCase::new("AWS services", printed("LAMBDA"));
    let (host, body) = (format!("Host: 127.0.0.1:{}\r\n", services.port), "{}");
    assert_eq!(ask(services.port, invoke, &host, body).0, 200, "the function runs, and so does its Runtime API");
    let handshake = &format!("Connection: Upgrade\r\n{UPGRADE}");
    let mut listeners = vec![
        services
            .asked(invoke, SIGNED, "{}", Never)
            .called("DynamoDB_20120810.ListTables")
            .called("DynamoDB_20120810.DeleteTable")
            .called("AmazonSQS.GetQueueUrl")
            .called("AmazonSSM.GetParameter")
            .called("AWSEvents.PutEvents")
            .asked("POST /", &SIGNED.replace("/x/aws4", "/sns/aws4"), "Action=Publish&Message=x", Never)
            .asked("POST /dev/@connections/Gto47d9-DoECGqg=", SIGNED, "x", Never)
            .asked("GET /", "", "", Never),
        ListenerCase::new("WebSocket gateway and @connections", printed("APIGATEWAYMANAGEMENTAPI"))
            .asked("POST /dev/@connections/Gto47d9-DoECGqg=", SIGNED, "x", Never)
            .asked("DELETE /dev/@connections/Gto47d9-DoECGqg=?X-Amz-Signature=x", "", "", Never)
            // $connect decides about the origin of a handshake, as in the service.
            .asked("GET /dev", handshake, "", Unread),
        ListenerCase::new("HTTP API and inspector", front)
            .asked("POST /write", "", "x", Never)
            .asked("GET /read", "", "", Unread)
            .asked("GET /inspector/connections", "", "", Never)
            .asked("GET /inspector/records?run=0&after=0", "", "", Never)
            .asked("GET /inspector/env", "", "", Never)
            .asked("POST /inspector/connections/x/received", "", "x", Never)
            .asked("DELETE /inspector/connections/x", "", "", Never)
            .asked("GET /", "", "", Unread)
            .asked("GET /inspector", "", "", Unread)
            .asked("GET /health", "", "", Unread),
    ];
    let known: BTreeSet<u16> = listeners.iter().map(|listener| listener.port).collect();
    let of_processes: Vec<u16> = listening(running.id()).difference(&known).copied().collect();
    let [runtime] = of_processes.as_slice() else { panic!("listeners without a row here: {of_processes:?}") };
    let answer = "POST /2018-06-01/runtime/invocation/none/response";
    listeners.push(ListenerCase::new("Runtime API", *runtime).asked(answer, "", "{}", Never).asked(
        "POST /2018-06-01/runtime/invocation/none/error",
        "",
        "{}",
        Never,
    ));
    listeners
}

#[test]
#[cfg(target_os = "linux")]
fn no_listener_is_open_to_pages_of_other_sites() {
    let running = RunningProgram::with(TEMPLATE, &[]);
    let listeners = listeners(&running);
    let ports: BTreeMap<u16, &str> = listeners.iter().map(|listener| (listener.port, listener.name)).collect();
    assert_eq!(ports.keys().copied().collect::<BTreeSet<_>>(), listening(running.id()), "each listener has a row");
    let evil = "http://evil.example";
    for ListenerCase { name, port, requests } in &listeners {
        let host = format!("Host: 127.0.0.1:{port}\r\n");
        let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
        let rebound = format!("Host: evil.example:{port}\r\n");
        let simple = "Content-Type: text/plain\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
        for (request, headers, body, answered) in requests {
            let check = |attack: &str, refused: bool| {
                let headers = format!("{attack}{headers}");
                let (status, answer) = ask(*port, request, &headers, body);
                assert_eq!(status == 403, refused, "{name}: {request} with {headers}: {answer}");
                let may_read = answer.contains("access-control-allow");
                assert!(!may_read || attack == own, "{name}: {request} with {headers}: {answer}");
            };
            check(&host, false);
            check(&own, false);
            // A host name of the other site that points here. For the browser it is the same origin, which it may send.
            check(&rebound, true);
            check(&format!("{rebound}Origin: {evil}:{port}\r\nSec-Fetch-Site: same-origin\r\n"), true);
            check(&format!("{host}{rebound}"), true);
            let foreign = *answered == ForeignAccess::Never;
            for origin in [evil, "https://evil.example", "null"] {
                check(&format!("{host}Origin: {origin}\r\n"), foreign);
            }
            if *request != READ {
                check(&format!("{host}Origin: {DEVELOPMENT}\r\n"), foreign);
            }
            check(&format!("{host}Sec-Fetch-Site: same-site\r\n"), foreign);
            // Requests without a preflight: a form, or fetch without CORS.
            check(&format!("{host}{simple}"), foreign);
            check(&format!("{host}{simple}Origin: {evil}\r\n"), foreign);
        }
        for (request, headers, ..) in requests {
            // Preflights are refused.
            let path = request.split(' ').nth(1).expect("a path");
            let asked = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-amz-target\r\n";
            let headers = if headers.contains("Upgrade") { "" } else { asked };
            for origin in [evil, DEVELOPMENT] {
                if (origin, request.as_str()) == (DEVELOPMENT, READ) {
                    continue;
                }
                let (status, answer) =
                    ask(*port, &format!("OPTIONS {path}"), &format!("{host}Origin: {origin}\r\n{headers}"), "");
                assert_eq!(status, 403, "{name}: a preflight of {origin} for {path}: {answer}");
                assert!(
                    !answer.contains("access-control-allow"),
                    "{name}: a preflight of {origin} for {path}: {answer}"
                );
            }
        }
    }
}

/// The origin of a development server on this machine.
const DEVELOPMENT: &str = "http://localhost:5173";
/// The request to the HTTP API that a page of this machine may send.
const READ: &str = "GET /read";

#[test]
fn a_page_of_this_machine_may_read_unless_the_template_configures_cors() {
    let running = RunningProgram::with(TEMPLATE, &[]);
    let front = running.address("http://");
    let port: u16 = front.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a port");
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    for origin in [DEVELOPMENT, "https://127.0.0.1:8443", "http://[::1]:3000"] {
        let page = format!("{host}Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
        let (status, answer) = ask(port, READ, &page, "");
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains(&format!("access-control-allow-origin: {origin}\r\n")), "{answer}");
        let asked = "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n";
        let (status, answer) = ask(port, "OPTIONS /read", &format!("{page}{asked}"), "");
        assert_eq!(status, 204, "{answer}");
        for allowed in [&format!("origin: {origin}"), "methods: get", "headers: authorization,*"] {
            assert!(answer.contains(&format!("access-control-allow-{allowed}\r\n")), "{answer}");
        }
    }
}

#[test]
fn an_allowed_host_name_is_accepted_and_the_log_says_how_to_allow_others() {
    let running = RunningProgram::with(TEMPLATE, &["--allow-host", "laptop.local"]);
    let front = running.address("http://");
    let port: u16 = front.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a port");
    let status = |host: &str| ask(port, "GET /health", &format!("Host: {host}\r\n"), "").0;
    assert_eq!([status("laptop.local:1"), status("host.docker.internal"), status("other.internal")], [200, 200, 403]);
    let logged = running.end();
    assert!(logged.contains("request refused"), "{logged}");
    assert!(logged.contains("other.internal") && logged.contains("--allow-host"), "{logged}");
}
