//! Clients with addresses of their own (all of 127.0.0.0/8 is loopback on Linux), the API behind the gateways, and tokens.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client: an address, and the headers that it sends.
#[derive(Clone, Debug)]
pub struct Client {
    pub address: Ipv4Addr,
    pub headers: Vec<(String, String)>,
}

impl Client {
    pub fn at(address: Ipv4Addr) -> Self {
        Self {
            address,
            headers: Vec::new(),
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The status of a `GET`; `None` when the gateway closed the connection without one.
    pub async fn get(&self, port: u16, path: &str) -> Option<u16> {
        let mut request =
            format!("GET {path} HTTP/1.1\r\nHost: api.shop.example\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        request.push_str("\r\n");
        tokio::time::timeout(PATIENCE, self.exchange(port, request.as_bytes()))
            .await
            .expect("the gateway answers in time")
    }

    async fn exchange(&self, port: u16, request: &[u8]) -> Option<u16> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from((self.address, 0))).unwrap();
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = socket.connect(gateway).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        // The status is enough; what follows is read so that the gateway's log says it was sent.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1)?.parse().ok()
    }
}

/// The API: answers every request with 200, for as long as the test runs.
pub fn shop() -> u16 {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(stream: TcpStream) {
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            let field = line.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
        if reader.read_exact(&mut body).is_err() || writer.write_all(answer).is_err() {
            return;
        }
    }
}

/// Somebody who signs tokens.
pub struct Issuer(EcdsaKeyPair);

impl Issuer {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The key set that verifies what it signs.
    pub fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y.
        let point = self.0.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "shop-1",
            "x": coordinate(1..33), "y": coordinate(33..65)}]})
        .to_string()
    }

    /// A token of this issuer, good for an hour.
    pub fn token(&self, subject: &str) -> String {
        let expires = gatewatch::clock::now_millis() / 1_000 + 3_600;
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encode(json!({"alg": "ES256", "typ": "JWT", "kid": "shop-1"}));
        let body =
            encode(json!({"iss": "https://id.shop.example", "sub": subject, "exp": expires}));
        let signed = format!("{head}.{body}");
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
