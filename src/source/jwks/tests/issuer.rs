//! An issuer on this machine: TLS, one connection per thread, answers that a test chooses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

/// What an issuer answers a request with: the head and the body as they are sent.
type Answer = Box<dyn FnMut(&str) -> Vec<u8> + Send>;

/// An issuer at work. The thread ends with the process.
pub(super) struct Issuer {
    pub(super) port: u16,
    /// PEM of the authority that its certificate chains to: itself.
    pub(super) ca: Vec<u8>,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Issuer {
    /// Listens on a free port of `127.0.0.1` under the names `localhost` and `127.0.0.1`.
    pub(super) fn start() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let issuer = Self {
            port: listener.local_addr().unwrap().port(),
            ca: cert.pem().into_bytes(),
            heads: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(|_| {
                head("503 Service Unavailable", "")
            }))),
        };
        let (heads, answer) = (Arc::clone(&issuer.heads), Arc::clone(&issuer.answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                if let Some(head) = read_head(&mut stream) {
                    let bytes = answer.lock().unwrap()(&head);
                    heads.lock().unwrap().push(head);
                    // A client that has read enough goes away.
                    let _ = stream.write_all(&bytes);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        issuer
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/jwks", self.port)
    }

    /// From now on requests are answered like this.
    pub(super) fn answers(&self, answer: impl FnMut(&str) -> Vec<u8> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// From now on this set is served, with these header fields.
    pub(super) fn serves(&self, keys: &[serde_json::Value], fields: &'static str) {
        let body = serde_json::json!({ "keys": keys }).to_string();
        self.answers(move |_| {
            let mut bytes = head("200 OK", fields);
            bytes.extend(body.as_bytes());
            bytes
        });
    }

    /// Heads of the requests so far, in lower case.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The head of an answer whose body ends with the connection.
pub(super) fn head(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{fields}\r\n").into_bytes()
}

fn read_head(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).ok()?.to_ascii_lowercase())
}
