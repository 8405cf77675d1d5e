//! What needs no server: names in SQL, secrets in logs.

use std::io::{Read, Write};
use std::net::TcpListener;

use rustls::{ServerConfig, ServerConnection, Stream};
use rustls_pki_types::PrivateKeyDer;

use super::*;

pub(super) fn settings(url: &str, database: &str) -> Settings {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Settings {
        url: url.to_owned(),
        database: database.to_owned(),
        user: None,
        password: Some("hunter2".to_owned()),
        cluster: None,
        replicated: false,
        migrate: true,
        ca: None,
        retention: Retention {
            minutes: days(8),
            hours: days(35),
            days: days(400),
            events: None,
        },
        deadline: Duration::from_millis(300),
    }
}

#[test]
fn names_and_texts_stay_what_they_are() {
    assert_eq!(identifier("a`b\\"), "`a\\`b\\\\`");
    assert_eq!(literal("it's \\ a"), "'it\\'s \\\\ a'");
}

#[test]
fn a_password_is_not_printed() {
    let shown = format!("{:?}", settings("http://127.0.0.1:1", "g"));
    assert!(
        shown.contains("127.0.0.1") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[tokio::test]
async fn nobody_at_the_address_may_come_back_and_a_bad_authority_does_not() {
    let unreachable = settings("http://127.0.0.1:1", "g");
    let error = ClickHouse::open(&unreachable, "p").await.unwrap_err();
    assert!(
        error.retry() && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );
    let unusable = Settings {
        ca: Some("no/such/file.pem".into()),
        ..unreachable
    };
    let error = ClickHouse::open(&unusable, "p").await.unwrap_err();
    assert!(
        !error.retry() && error.to_string().contains("file.pem"),
        "{error}"
    );
}

/// A server with its own certificate that refuses everybody, as many times as given. Its address and its certificate, PEM.
fn private_server(answers: usize) -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().take(answers).flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let mut request = vec![0; 1 << 16];
            // A client that does not trust us hangs up here.
            if stream.read(&mut request).is_ok() {
                let words =
                    "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)";
                let answer = format!(
                    "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{words}",
                    words.len()
                );
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (format!("https://{address}"), certified.cert.pem())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_only_then() {
    let (url, certificate) = private_server(2);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let trusting = Settings {
        ca: Some(file.path().to_owned()),
        ..settings(&url, "g")
    };
    let error = ClickHouse::open(&trusting, "p").await.unwrap_err();
    assert!(
        error.to_string().contains("Authentication failed"),
        "{error}"
    );
    let error = ClickHouse::open(&settings(&url, "g"), "p")
        .await
        .unwrap_err();
    assert!(
        !error.retry() && error.to_string().contains("store.ca"),
        "{error}"
    );
}

/// A server that answers every request with nothing; the head of each goes into the channel.
fn silent_server() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut part = [0; 4_096];
            // The body comes in chunks, of which the last one is empty.
            while !request.ends_with(b"0\r\n\r\n") {
                match socket.read(&mut part) {
                    Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = socket.write_all(answer);
            let text = String::from_utf8_lossy(&request).into_owned();
            let head = text.lines().next().unwrap_or_default().to_owned();
            if heads.send(head).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}"), received)
}

#[tokio::test]
async fn every_insert_says_everything_that_makes_it_count_once() {
    let (url, heads) = silent_server();
    let connection = Connection::new(&settings(&url, "g")).unwrap();
    let body = Bytes::from_static(b"rows");
    connection
        .insert("INSERT INTO t FORMAT ArrowStream", "shop/t/0-9", body)
        .await
        .unwrap();
    let head = heads.recv().unwrap();
    for setting in [
        "insert_deduplication_token=shop%2Ft%2F0-9",
        "insert_deduplicate=1",
        "deduplicate_blocks_in_dependent_materialized_views=1",
        "async_insert=0",
        "max_insert_threads=1",
        "optimize_on_insert=1",
        "wait_end_of_query=1",
    ] {
        assert!(head.contains(setting), "{setting} in {head}");
    }
    assert!(!head.contains("compress=1"), "{head}");
    assert!(!head.contains("insert_quorum"), "{head}");
    // Of replicated tables, most replicas have the rows before the answer comes.
    let replicated = Settings {
        replicated: true,
        ..settings(&url, "g")
    };
    let connection = Connection::new(&replicated).unwrap();
    let body = Bytes::from_static(b"rows");
    connection
        .insert("INSERT INTO t FORMAT ArrowStream", "t", body)
        .await
        .unwrap();
    let head = heads.recv().unwrap();
    for setting in ["insert_quorum=auto", "insert_quorum_parallel=1"] {
        assert!(head.contains(setting), "{setting} in {head}");
    }
}

#[tokio::test]
async fn repeated_requests_are_counted_by_all_clones_together() {
    let unreachable = settings("http://127.0.0.1:1", "g");
    let connection = Connection::new(&unreachable).unwrap();
    let store = ClickHouse::with(connection, &unreachable, "p", 0);
    let other = store.clone().with_zones(["z"]);
    assert_eq!(store.retries(), 0);
    assert!(store.newest_minute().await.unwrap_err().retry());
    let retries = store.retries();
    assert!(retries > 0);
    assert_eq!(other.retries(), retries);
}
