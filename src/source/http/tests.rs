//! Requests over the loopback, answered by a stand-in for the pipeline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;

use reqwest::{Client, Response};
use serde_json::Value;

use super::{Batch, MAX_BATCH, Receipt, listen};
use crate::model::Reject;
use crate::telemetry::Metrics;
use crate::wire::http::Server;

async fn start(token: Option<&str>, metrics: &Metrics) -> (Server, String, Receiver<Batch>) {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (server, batches) = listen(anywhere, token, metrics).await.unwrap();
    let url = format!("http://{}/events", server.address());
    (server, url, batches)
}

/// Answers every batch with its number of bytes, until the source ends.
fn store_all(batches: Receiver<Batch>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut bodies = Vec::new();
        for batch in batches {
            assert!(batch.arrived.is_some());
            let receipt = Receipt {
                batch: "b".to_owned(),
                bytes: batch.body.len() as u64,
                accepted: batch.body.len() as u64,
                refused: 1,
                rejected: vec![(3, Reject::Malformed)],
            };
            bodies.push(batch.body);
            batch.reply.stored(receipt);
        }
        bodies
    })
}

async fn problem(answer: Response, status: u16) -> String {
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["status"], status);
    body["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn batches_are_unpacked_and_answered_after_they_are_stored() {
    let metrics = Metrics::new();
    let (server, url, batches) = start(None, &metrics).await;
    let storing = store_all(batches);
    let client = Client::new();
    let lines = b"{}\n{}\nx\n".to_vec();
    let gzipped = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&lines).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(lines.as_slice(), 1).unwrap();
    for (body, coding) in [
        (lines.clone(), None),
        (gzipped, Some("gzip")),
        (zstd, Some("zstd")),
    ] {
        let mut request = client.post(&url).body(body);
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{coding:?}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(
            answer.text().await.unwrap(),
            r#"{"batch":"b","accepted":8,"rejected_total":1,"rejected":[{"line":3,"reason":"malformed"}]}"#
        );
    }
    server.stop().await;
    assert_eq!(
        storing.join().unwrap(),
        vec![lines.clone(), lines.clone(), lines]
    );
    assert!(
        metrics
            .encode()
            .contains("gatewatch_http_batches_total{status=\"200\"} 3\n")
    );
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let metrics = Metrics::new();
    let (server, url, batches) = start(Some("secret"), &metrics).await;
    let storing = store_all(batches);
    let client = Client::new();
    for token in [
        None,
        Some("Bearer Secret"),
        Some("Bearer"),
        Some("Basic secret"),
        Some("secret"),
    ] {
        let mut request = client.post(&url).body("{}\n");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{token:?}");
        assert!(problem(answer, 401).await.contains("authorization: Bearer"));
    }
    let post = || client.post(&url).header("authorization", "bearer secret");
    let answer = post()
        .header("content-encoding", "br")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["accept-encoding"], "gzip, zstd");
    problem(answer, 415).await;
    let answer = post()
        .header("content-encoding", "gzip")
        .body("x")
        .send()
        .await
        .unwrap();
    problem(answer, 400).await;
    let answer = post()
        .body(vec![b'\n'; MAX_BATCH + 1])
        .send()
        .await
        .unwrap();
    assert!(problem(answer, 413).await.contains("16777216"));
    let bomb = zstd::encode_all(vec![b'\n'; MAX_BATCH + 1].as_slice(), 1).unwrap();
    let answer = post()
        .header("content-encoding", "zstd")
        .body(bomb)
        .send()
        .await
        .unwrap();
    problem(answer, 413).await;
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["allow"], "POST");
    problem(answer, 405).await;
    let answer = client
        .post(url.replace("/events", "/"))
        .send()
        .await
        .unwrap();
    problem(answer, 404).await;
    let answer = post().body(vec![b'\n'; MAX_BATCH]).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    server.stop().await;
    assert_eq!(
        storing.join().unwrap().len(),
        1,
        "nothing that was refused came through"
    );
    let text = metrics.encode();
    assert!(
        text.contains("gatewatch_http_batches_total{status=\"401\"} 5\n"),
        "{text}"
    );
    assert!(
        text.contains("gatewatch_http_batches_total{status=\"413\"} 2\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_chunked_body_over_the_bound_is_refused() {
    let (server, url, batches) = start(None, &Metrics::new()).await;
    let address = server.address();
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let part = vec![b'\n'; 1 << 20];
        for _ in 0..17 {
            write!(stream, "{:x}\r\n", part.len()).unwrap();
            stream.write_all(&part).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(&answered.await.unwrap(), b"HTTP/1.1 413");
    assert!(batches.try_recv().is_err(), "{url}");
    server.stop().await;
}

#[tokio::test]
async fn too_many_waiting_batches_are_told_to_come_again() {
    let (server, url, batches) = start(None, &Metrics::new()).await;
    let client = Client::new();
    // Sixteen batches of the largest size fill the budget; they wait, because nobody stores anything yet.
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let request = client.post(&url).body(vec![b'\n'; MAX_BATCH]);
        waiting.push(tokio::spawn(request.send()));
    }
    let (held, batches) = tokio::task::spawn_blocking(move || {
        let held: Vec<Batch> = batches.iter().take(16).collect();
        (held, batches)
    })
    .await
    .unwrap();
    let answer = client.post(&url).body("{}").send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    problem(answer, 429).await;

    // An answer makes room; a batch that is let go was not stored.
    let mut held = held.into_iter();
    held.next().unwrap().reply.stored(Receipt::default());
    drop(held);
    let mut statuses = Vec::new();
    for sender in waiting {
        statuses.push(sender.await.unwrap().unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(
        statuses[1..].iter().all(|status| *status == 503),
        "{statuses:?}"
    );
    let storing = store_all(batches);
    let answer = client.post(&url).body("{}").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    server.stop().await;
    storing.join().unwrap();
}
