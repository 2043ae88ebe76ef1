//! A certificate of the user's at both addresses, so that pages that came over TLS can use them.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use apigw_local::{Options, Stack, TlsFiles};
use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_tungstenite::{client_async, connect_async, tungstenite::Message};

use crate::{
    cli::{RunningProgram, WAIT_MAX, program},
    scripted::{exchange, next},
};

/// A certificate of an authority of the test, in files, and what trusts that authority.
struct Authority {
    files: tempfile::TempDir,
    trust: TlsConnector,
}

impl Authority {
    fn certifying(names: &[&str]) -> Self {
        Self::certifying_until(names, (1975, 4096))
    }

    /// A certificate from the beginning of one year to that of another.
    fn certifying_until(names: &[&str], years: (i32, i32)) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let files = tempfile::tempdir().expect("a directory");
        fs::write(files.path().join("cert.pem"), certificate.pem()).expect("written");
        fs::write(files.path().join("key.pem"), key.serialize_pem()).expect("written");
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Self { files, trust: TlsConnector::from(Arc::new(config)) }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Opens a connection over TLS, as a browser does that trusts the authority alone.
    async fn open(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        self.trust.connect(name, TcpStream::connect(address).await?).await
    }
}

/// Sends a GET request and returns the body of the response.
async fn get(mut stream: TlsStream<TcpStream>, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The end of the connection may come without that of TLS.
    let _ = tokio::time::timeout(WAIT_MAX, stream.read_to_end(&mut answer)).await.expect("in time");
    String::from_utf8(answer).expect("UTF-8").split_once("\r\n\r\n").expect("a body").1.to_owned()
}

#[tokio::test]
async fn a_page_over_tls_reaches_both_addresses_and_plain_clients_still_do() {
    let authority = Authority::certifying(&["localhost"]);
    let (certificate, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let running = RunningProgram::start(&["--tls-cert", &certificate, "--tls-key", &key]);
    let (sockets, http) = (running.address("wss://"), running.address("https://"));
    assert!(sockets.starts_with("wss://localhost:") && http.starts_with("https://localhost:"), "{:?}", running.lines);
    let at = |url: &str| {
        let port = url.split("localhost:").nth(1).expect("a port").split('/').next().expect("a port");
        SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
    };
    let (sockets_at, http_at) = (at(&sockets), at(&http));
    let stream = authority.open(http_at, "localhost").await.expect("trusted");
    let shown: Value = serde_json::from_str(&get(stream, "/inspector/connections").await).expect("JSON");
    assert_eq!(shown["webSocketUrl"], format!("wss://localhost:{}/dev", sockets_at.port()));
    let stream = authority.open(sockets_at, "localhost").await.expect("trusted");
    let (mut socket, _) = client_async(sockets.as_str(), stream).await.expect("connected");
    let (mut plain, _) = connect_async(format!("ws://{sockets_at}/dev")).await.expect("connected");
    drop(running.end());
    for closed in [socket.next().await, plain.next().await] {
        assert!(matches!(closed, Some(Ok(Message::Close(Some(_))))), "{closed:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_clients_refuse_for_its_time_is_a_note() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/cli.yaml");
    let expired = "expired at 2001-01-01T00:00:00Z";
    let early = "is not valid before 4000-01-01T00:00:00Z";
    for (years, problem) in [((2000, 2001), Some(expired)), ((4000, 4001), Some(early)), ((2000, 4001), None)] {
        let authority = Authority::certifying_until(&["localhost"], years);
        let files = TlsFiles { certificate: authority.file("cert.pem").into(), key: authority.file("key.pem").into() };
        let options = Options { tls: Some(files), ..Options::on_free_ports(template.clone()) };
        let stack = Stack::start(&options).await.expect("started");
        let expected = problem
            .map(|problem| format!("the certificate of --tls-cert {problem}, and clients refuse it: make a new one"));
        let noted = stack.notes.iter().find(|note| note.contains("--tls-cert"));
        assert_eq!(noted, expected.as_ref(), "{years:?}");
        stack.stop().await;
    }
}

#[tokio::test]
async fn names_of_the_api_in_the_cloud_keep_the_certificate_that_functions_trust() {
    let authority = Authority::certifying(&["localhost", "*.execute-api.eu-central-1.amazonaws.com"]);
    let files = TlsFiles { certificate: authority.file("cert.pem").into(), key: authority.file("key.pem").into() };
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/cli.yaml");
    let stack = Stack::start(&Options { tls: Some(files), ..Options::on_free_ports(template) }).await.expect("started");
    assert!(authority.open(stack.ws_addr, "localhost").await.is_ok());
    let cloud = "abcdefghij.execute-api.eu-central-1.amazonaws.com";
    let refused = authority.open(stack.ws_addr, cloud).await.expect_err("of another authority");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let refused = authority.open(stack.aws_addr, "localhost").await.expect_err("functions post there");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    stack.stop().await;
}

/// A function posts to the domain name of its event while clients have another certificate.
async fn posts_to_the_domain(code: &str, runtime: &str) {
    let authority = Authority::certifying(&["localhost"]);
    let files = TlsFiles { certificate: authority.file("cert.pem").into(), key: authority.file("key.pem").into() };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program");
    let code = directory.join("functions").join(code).to_str().expect("UTF-8").to_owned();
    let parameters = [("Code", code.as_str()), ("Runtime", runtime), ("Handler", "app.handler")];
    let options = Options {
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        tls: Some(files),
        ..Options::on_free_ports(directory.join("processes.yaml"))
    };
    let stack = Stack::start(&options).await.expect("started");
    let url = format!("ws://localhost:{}/dev", stack.ws_addr.port());
    let (mut socket, _) = connect_async(url).await.expect("connected");
    for post in ["post", "post to the domain"] {
        let (first, second) = (exchange(&mut socket, post).await, next(&mut socket).await);
        assert_eq!((first.as_str(), second.as_str()), ("posted", "200"), "{post}");
    }
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn a_function_of_node_still_posts_over_tls() {
    posts_to_the_domain("node", "nodejs20.x").await;
}

#[tokio::test]
#[ignore = "needs Python with awslambdaric; tests/run installs it and runs this"]
async fn a_function_of_python_still_posts_over_tls() {
    posts_to_the_domain("python", "python3.11").await;
}

#[test]
fn files_that_are_no_certificate_and_key_are_refused_in_one_line_with_what_was_expected() {
    let (authority, other) = (Authority::certifying(&["localhost"]), Authority::certifying(&["localhost"]));
    let (certificate, key) = (authority.file("cert.pem"), authority.file("key.pem"));
    let (missing, empty, encrypted) = (authority.file("none.pem"), authority.file("empty"), authority.file("locked"));
    fs::write(&empty, "").expect("written");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&encrypted, locked).expect("written");
    let (damaged, large) = (authority.file("damaged"), authority.file("large"));
    fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nMI!I\n-----END CERTIFICATE-----\n").expect("written");
    fs::write(&large, "x".repeat(1024 * 1024 + 1)).expect("written");
    for (certificate, key, expected) in [
        (&missing, &key, format!("cannot read {missing}: expected a PEM file with a certificate: No such file")),
        (&certificate, &missing, format!("cannot read {missing}: expected a PEM file with a private key: No such")),
        (&key, &key, format!("no certificate in {key}: expected PEM (-----BEGIN CERTIFICATE-----)")),
        (&empty, &key, format!("no certificate in {empty}: expected PEM")),
        (&damaged, &key, format!("invalid certificate in {damaged}: expected PEM (-----BEGIN CERTIFICATE-----): ")),
        (&large, &key, format!("{large} has more than 1048576 bytes: expected a PEM file with a certificate")),
        (&certificate, &certificate, format!("no private key in {certificate}: expected PEM (-----BEGIN PRIVATE KEY")),
        (&certificate, &encrypted, format!("the private key in {encrypted} has a passphrase: expected one without")),
        (&certificate, &other.file("key.pem"), "is not that of the first certificate in".to_owned()),
    ] {
        let arguments = ["--template", "tests/program/cli.yaml", "--tls-cert", certificate, "--tls-key", key];
        let output = program(&arguments).output().expect("ended");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.starts_with("error: ") && error.contains(&expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let alone = program(&["--tls-cert", &certificate]).output().expect("ended");
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--tls-key"), "{alone:?}");
}
