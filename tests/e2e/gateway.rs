//! The gateway as clients and AWS SDKs see it.

use apigw_local::GatewayOptions;
use aws_sdk_apigatewaymanagement::{Client as Management, error::ProvideErrorMetadata, primitives::Blob};
use aws_sdk_dynamodb::{
    config::Credentials,
    types::{ProjectionType, TimeToLiveStatus},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::{
    site::{Received, Site, credentials, eventually, http, run},
    target::Target,
};

/// Returns the id of the only connection.
async fn only_connection(site: &Site) -> String {
    let (_, id) = site.subscriptions().await.into_iter().next().expect("one connection");
    id
}

#[test]
fn the_sdk_posts_to_a_connection_asks_about_it_and_closes_it() {
    run(async {
        let site = Site::start().await;
        let management = Management::new(&site.sdk());
        let mut client = site.connect("/prod").await;
        let id = only_connection(&site).await;

        management
            .post_to_connection()
            .connection_id(&id)
            .data(Blob::new("hello \u{1f600}"))
            .send()
            .await
            .expect("sent");
        assert_eq!(client.text().await, "hello \u{1f600}");
        let description = management.get_connection().connection_id(&id).send().await.expect("described");
        assert!(description.connected_at().is_some() && description.last_active_at() >= description.connected_at());
        assert_eq!(description.identity().and_then(|identity| identity.source_ip()), Some("127.0.0.1"));

        management.delete_connection().connection_id(&id).send().await.expect("closed");
        assert_eq!(client.receive().await, Received::Closed(1000, "Connection Closed Normally".to_owned()));
        drop(client);
        eventually("$disconnect has run", || async { site.subscriptions().await.is_empty() }).await;
        let error =
            management.post_to_connection().connection_id(&id).data(Blob::new("x")).send().await.expect_err("gone");
        assert!(error.into_service_error().is_gone_exception());
    });
}

#[test]
fn signatures_of_the_sdk_are_accepted_when_they_are_checked_and_those_with_another_secret_are_not() {
    run(async {
        let site = Site::behind(GatewayOptions { check_signatures: true, ..GatewayOptions::default() }).await;
        let mut client = site.watcher("PL").await;
        // deliver posts with its own client.
        let alert =
            json!({"region": "PL", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 90}}).to_string();
        let url = format!("http://{}/publish", site.http_addr);
        let unsigned = http(&url, &[], alert.clone()).await;
        assert_eq!(unsigned, (403, json!({"message": "Forbidden"})));
        let identity = Credentials::new("local", "local", None, None, "test");
        let signature = Target::signed(&url, alert.as_bytes(), identity, "eu-central-1");
        let signature: Vec<_> = signature.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(http(&url, &signature, alert).await.0, 200);
        assert_eq!(client.json().await["type"], "viral_alert");

        let (_, id) = site.subscriptions().await.into_iter().next().expect("one connection");
        let management = Management::new(&site.sdk());
        for data in ["", "hello \u{1f600}", &"x".repeat(128 * 1024)] {
            management.post_to_connection().connection_id(&id).data(Blob::new(data)).send().await.expect("sent");
            assert_eq!(client.text().await, data);
        }
        management.get_connection().connection_id(&id).send().await.expect("described");

        for (access_key, secret, expected) in
            [("local", "wrong", "InvalidSignatureException"), ("wrong", "local", "UnrecognizedClientException")]
        {
            let sdk = site.sdk().into_builder().credentials_provider(credentials(access_key, secret)).build();
            let post = Management::new(&sdk).post_to_connection().connection_id(&id).data(Blob::new("x"));
            let error = post.send().await.expect_err("refused").into_service_error();
            assert_eq!(error.code(), Some(expected), "{error:?}");
        }
        client.expect_nothing().await;
        management.delete_connection().connection_id(&id).send().await.expect("closed");
    });
}

#[test]
fn management_calls_that_cannot_be_right_are_refused_as_recorded() {
    run(async {
        let site = Site::start().await;
        let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=local/x")];
        let call = |path: &str, headers: &[(&'static str, &'static str)], body: &str| {
            let (url, headers, body) = (format!("http://{}{path}", site.ws_addr), headers.to_vec(), body.to_owned());
            async move { http(&url, &headers, body).await }
        };
        let well_formed = "/prod/@connections/eHrdFcnvvHcCE-w%3D";
        assert_eq!(call(well_formed, &[], "x").await, (403, json!({"message": "Missing Authentication Token"})));
        assert_eq!(call(well_formed, &signed, "x").await, (410, json!(null)));
        assert_eq!(call("/prod/%40connections/eHrdFcnvvHcCE-w=", &signed, "x").await.0, 410);
        assert_eq!(call("/@connections/eHrdFcnvvHcCE-w=", &signed, "x").await.0, 410, "as behind a custom domain");
        assert_eq!(
            call("/prod/@connections/XXX", &signed, "x").await,
            (400, json!({"message": "Invalid connectionId: XXX"}))
        );
        assert_eq!(
            call("/stage/@connections/eHrdFcnvvHcCE-w=", &signed, "x").await,
            (403, json!({"message": "Forbidden"}))
        );

        let _client = site.connect("/prod").await;
        let path = format!("/prod/@connections/{}", only_connection(&site).await);
        assert_eq!(call(&path, &signed, &"x".repeat(128 * 1024)).await.0, 200);
        assert_eq!(call(&path, &signed, &"x".repeat(128 * 1024 + 1)).await.0, 413);
    });
}

#[test]
fn what_is_no_handshake_is_refused() {
    run(async {
        let site = Site::start().await;
        assert_eq!(http(&format!("http://{}/prod", site.ws_addr), &[], "").await.0, 426);
        assert_eq!(http(&format!("http://{}/other", site.ws_addr), &[], "").await.0, 403);
        assert_eq!(site.try_connect("/other", &[]).await.err(), Some(403));
        assert_eq!(site.connected(), 0);
    });
}

#[test]
fn connect_refuses_with_the_status_of_the_function_and_leaves_nothing() {
    run(async {
        let site = Site::start().await;
        for query in ["region=P", "region=", "region=..%2Fx", "region=%40everyone", "region=PL&format=xml"] {
            assert_eq!(site.try_connect(&format!("/prod?{query}"), &[]).await.err(), Some(400), "{query}");
        }
        assert_eq!(site.try_connect("/prod", &[("X-Region", "../x")]).await.err(), Some(400));
        assert!(site.subscriptions().await.is_empty());
        assert_eq!(site.connected(), 0);
    });
}

#[test]
fn a_subprotocol_is_not_echoed_unless_the_function_returns_it() {
    run(async {
        let site = Site::start().await;
        let mut socket = TcpStream::connect(site.ws_addr).await.expect("a connection");
        let request = format!(
            "GET /prod HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chat\r\n\r\n",
            site.ws_addr
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut head = String::new();
        let mut lines = BufReader::new(socket);
        while lines.read_line(&mut head).await.expect("a line") > 2 {}
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    });
}

#[test]
fn frames_that_are_too_large_or_binary_end_the_connection() {
    run(async {
        let site = Site::start().await;
        let at_most = 32 * 1024;

        let mut client = site.connect("/prod").await;
        client.send(&"x".repeat(at_most)).await;
        assert_eq!(client.json().await["code"], "bad_json", "a frame of exactly 32 KB is taken");
        client.send(&"x".repeat(33 * 1024)).await;
        assert!(matches!(client.receive().await, Received::Closed(1009, _)));

        let mut client = site.connect("/prod").await;
        client.send_message(Message::binary(Bytes::from_static(b"{}"))).await;
        assert!(matches!(client.receive().await, Received::Closed(1003, _)));

        if site.is_local() {
            eventually("$disconnect has run for both", || async { site.subscriptions().await.is_empty() }).await;
        }
    });
}

#[test]
fn tables_have_the_index_and_the_time_to_live_of_the_template() {
    run(async {
        let site = Site::start().await;
        let dynamodb = site.dynamodb();
        for table in ["SubscriptionsTable", "AlertsTable"] {
            let output = dynamodb.describe_time_to_live().table_name(table).send().await.expect("described");
            let time_to_live = output.time_to_live_description.expect("a description");
            assert_eq!(time_to_live.attribute_name(), Some("expires_at"), "{table}");
            assert_eq!(time_to_live.time_to_live_status(), Some(&TimeToLiveStatus::Enabled), "{table}");
        }
        let table = dynamodb.describe_table().table_name("SubscriptionsTable").send().await.expect("described").table;
        let table = table.expect("a table");
        let [index] = table.global_secondary_indexes() else { panic!("one index: {table:?}") };
        assert_eq!(index.index_name(), Some("by_connection"));
        let projection = index.projection().and_then(|projection| projection.projection_type());
        assert_eq!(projection, Some(&ProjectionType::KeysOnly));
    });
}

#[test]
fn health_is_answered() {
    run(async {
        let site = Site::start().await;
        assert_eq!(http(&format!("http://{}/health", site.http_addr), &[], "").await, (200, json!({"status": "ok"})));
        assert_eq!(http(&format!("http://{}/nothing", site.http_addr), &[], "").await.0, 404);
    });
}
