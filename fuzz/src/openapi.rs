//! OpenAPI documents, and messages judged by what loads.
//!
//! The input is a document, a zero byte, and a message: `METHOD target`, lines of header fields, an empty line, a body.
//! The same body is the request's and the response's.

use std::borrow::Cow;

use gatewatch::policy::objects::{SchemaObject, ZoneObject};

use super::judging::{self, file};

/// One document and one message.
pub fn run(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0);
    let (document, message) = match end {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &b""[..]),
    };
    let judge = judging::judge(ZoneObject {
        session_identifiers: Vec::new(),
        token_configurations: Vec::new(),
        mtls: Vec::new(),
        schemas: vec![SchemaObject {
            name: "hostile".to_owned(),
            document: file("hostile.yaml", document),
            undeclared_parameters: true,
            formats: true,
            ..SchemaObject::default()
        }],
        ..judging::zone()
    });
    let Some(judge) = judge else {
        return;
    };
    let head = message
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(message.len());
    let body = message.get(head + 2..).unwrap_or_default();
    let head = String::from_utf8_lossy(&message[..head]);
    let (line, fields) = head.split_once('\n').unwrap_or((&head, ""));
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let mut exchange = judging::exchange(method, target, fields);
    exchange.request.body = Some(Cow::Borrowed(body));
    for status in [200, 404] {
        exchange.response = Some(judging::response(status, fields, body));
        judging::judged(&judge, &exchange);
    }
}
