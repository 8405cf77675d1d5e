//! What attackers write: no panic, no bound broken, no value in a verdict.

use super::{Case, SECRET, SHOP, bodies, get, policy, say, styles};

/// Texts that attackers write; the verdict may be anything, but there is one and it is bounded.
#[test]
fn hostile_texts_do_not_panic() {
    let policies = [
        policy(SHOP, true),
        policy(styles::STYLES, true),
        policy(bodies::BODIES, true),
    ];
    let texts = [
        "",
        "%",
        "%f",
        "%ff",
        "%00",
        "=",
        "&&==&&",
        "[",
        "]",
        "[]",
        "d[",
        "d[]",
        "d[[]]",
        "d[a][b][c][d][e][f][g][h][i]=1",
        "d[a]=1&d[a][b]=2&d[a][]=3",
        ";;;",
        ";s",
        ";s=",
        "...",
        ",,,",
        "R,1,G",
        "é=ü&\u{1f600}",
        "1e999",
        "-",
        "+",
        "{\"a\":",
        "[[[[",
        "--xx",
        "--xx--",
        "--xx\r\n\r\n--xx--",
        "<a",
        "<a b='",
        "&#x;",
        "\u{0}",
        "a=1\u{0}&a",
    ];
    let types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=xx",
        "application/xml",
        "text/plain",
        "application/x-ndjson",
        ";;;",
        "a/b;c",
        "/",
    ];
    for policy in &policies {
        for text in texts {
            for target in [
                "/v1/lamps/1",
                "/query",
                "/header",
                "/matrix/1/2/3/4",
                "/label/a/b/c/d",
                "/simple/a/b/c",
            ] {
                let request = format!("GET {target}?{text}");
                let headers = [
                    ("cookie", text),
                    ("x-list", text),
                    ("x-colour", text),
                    ("x-trace", text),
                ];
                say(
                    policy,
                    Case {
                        headers: &headers,
                        ..get(&request)
                    },
                );
            }
            let path = text.replace('/', "");
            say(
                policy,
                get(&format!("GET /matrix/{path}/;l={path}/;e={path}/{path}")),
            );
            say(
                policy,
                get(&format!("GET /label/.{path}/{path}/.{path}/.{path}")),
            );
            for content_type in types {
                for request in ["POST /form", "POST /v1/lamps"] {
                    let headers = [("content-type", content_type), ("content-encoding", "gzip")];
                    say(
                        policy,
                        Case {
                            request,
                            headers: &headers,
                            body: Some(text),
                            ..Case::default()
                        },
                    );
                }
            }
        }
    }
}

#[test]
fn values_never_leave_the_enricher() {
    let shop = policy(SHOP, true);
    let forms = policy(bodies::BODIES, true);
    let styles = policy(styles::STYLES, true);
    let headers = [
        ("x-trace", SECRET),
        ("cookie", "lang=s3cr3t; ids=s3cr3t"),
        ("x-list", SECRET),
        ("x-json", SECRET),
        ("x-colour", "s3cr3t=s3cr3t"),
    ];
    for target in [
        "/v1/lamps/s3cr3t?limit=s3cr3t&tags=s3cr3t&s3cr3t=1",
        "/query?f=s3cr3t&d[s3cr3t]=s3cr3t&d[R]=s3cr3t&j=s3cr3t&n=s3cr3t,s3cr3t&a=s3cr3t&b=s3cr3t",
        "/header",
        "/matrix/s3cr3t/;l=s3cr3t/;e=s3cr3t/;s3cr3t=1",
        "/files/s3cr3t.s3cr3t",
    ] {
        let request = format!("GET {target}");
        for policy in [&shop, &styles] {
            say(
                policy,
                Case {
                    headers: &headers,
                    ..get(&request)
                },
            );
        }
    }
    for (content_type, body) in [
        (
            "application/json",
            r#"{"name": ["s3cr3t"], "s3cr3t": 1, "notes": {"s3cr3t": 1}, "size": "s3cr3t", "parts": ["s3cr3t"]}"#,
        ),
        ("application/json", "{\"s3cr3t\": s3cr3t"),
        ("s3cr3t/s3cr3t", "s3cr3t"),
        (
            "application/x-www-form-urlencoded",
            "name=s3cr3ts3cr3t&s3cr3t=1&age=s3cr3t&home=s3cr3t",
        ),
        (
            "multipart/form-data; boundary=s3cr3t",
            "--s3cr3t\r\nContent-Disposition: form-data; name=\"s3cr3t\"\r\nContent-Type: s3cr3t/s3cr3t\r\n\r\ns3cr3t\r\n--s3cr3t--",
        ),
        (
            "application/xml",
            "<s3cr3t age=\"s3cr3t\"><s3cr3t>s3cr3t</s3cr3t></s3cr3t>",
        ),
        ("text/plain", SECRET),
        (
            "application/x-ndjson",
            "{\"city\": 1, \"s3cr3t\": \"s3cr3t\"}",
        ),
    ] {
        let headers = [("content-type", content_type)];
        for (policy, request) in [(&shop, "POST /v1/lamps"), (&forms, "POST /form")] {
            let said = say(
                policy,
                Case {
                    request,
                    headers: &headers,
                    body: Some(body),
                    ..Case::default()
                },
            );
            assert!(said.starts_with("violates"), "{content_type}: {said}");
        }
    }
}
