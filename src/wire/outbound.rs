//! The one client for URLs that somebody configured: key sets, and whatever else is asked for or told over HTTP.
//!
//! Enters: a URL and a request. Leaves: an answer of bounded size within a bounded time. Whoever may write a URL into a
//! configuration must not reach what only this machine reaches: a name is resolved here, every address that it has is
//! checked, and the connection goes to the checked ones; addresses in a URL are checked too; redirects are answers, not
//! followed; proxies of the environment are ignored; nothing is decompressed. No connection outlives its request, so every
//! request resolves and checks anew.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use thiserror::Error;

pub use reqwest::Url;
pub use reqwest::header::HeaderMap;
pub use reqwest::{Method, StatusCode};

use super::address::is_public;

/// What requests introduce themselves with.
const AGENT: &str = concat!("gatewatch/", env!("CARGO_PKG_VERSION"));

/// A URL that must not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct Refusal {
    /// The fact.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Checks a URL as far as that goes without a network: `https`, or `http` to this machine itself where private addresses
/// are allowed; no user, no password, no fragment; an address in it must be public unless private ones are allowed.
///
/// # Errors
/// What is wrong with it. The URL is not repeated: it may hold a secret.
pub fn permit(text: &str, allow_private: bool) -> Result<Url, Refusal> {
    let refuse = |what: String, hint| Err(Refusal { what, hint });
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return refuse(
                format!("not a URL: {error}"),
                "https://issuer.example/.well-known/jwks.json",
            );
        }
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refuse(
            "the URL holds a user, a password or a fragment".to_owned(),
            "leave them out; the URL is printed in messages",
        );
    }
    let host = url.host_str().unwrap_or_default();
    // The parser has undone every other way to write an IPv4 address.
    let literal: Option<IpAddr> = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok();
    let own = host == "localhost" || literal.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if own && allow_private => {}
        "http" => {
            return refuse(
                "http can be read and changed on its way".to_owned(),
                "use https; http is for a loopback address with allow_private = true",
            );
        }
        other => {
            return refuse(format!("{other} is not asked"), "use https");
        }
    }
    match literal {
        Some(address) if !allow_private && !is_public(address) => refuse(
            format!("{address} is not an address of the public internet"),
            "name a public host, or write allow_private = true",
        ),
        _ => Ok(url),
    }
}

/// Bounds of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether hosts may have addresses outside the public internet.
    pub allow_private: bool,
    /// Longest time from the first look-up to the last byte.
    pub timeout: Duration,
    /// Longest body that is taken, bytes.
    pub max_body: usize,
    /// PEM of the only authorities that are trusted; `None` = those of the system.
    pub ca: Option<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum OutboundError {
    /// The URL must not be asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The authorities cannot be read, or the system has none.
    #[error("the client cannot be made: {0}")]
    Client(String),
    /// No connection, no certificate that is trusted, no answer in time.
    #[error("{0}")]
    Failed(String),
    /// More bytes than are taken.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body, as sent.
    pub body: Vec<u8>,
}

/// The client. Works within a Tokio runtime.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    allow_private: bool,
    max_body: usize,
}

impl Client {
    /// A client with these bounds.
    ///
    /// # Errors
    /// The authorities cannot be read, or the system has none.
    pub fn new(options: &Options) -> Result<Self, OutboundError> {
        let failed = |error: reqwest::Error| OutboundError::Client(reason(&error));
        let mut builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(options.timeout)
            .pool_max_idle_per_host(0)
            .dns_resolver(Checked {
                allow_private: options.allow_private,
            });
        if let Some(pem) = &options.ca {
            let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?;
            if roots.is_empty() {
                let none = "no certificate in the file of the authorities".to_owned();
                return Err(OutboundError::Client(none));
            }
            builder = builder.tls_certs_only(roots);
        }
        Ok(Self {
            http: builder.build().map_err(failed)?,
            allow_private: options.allow_private,
            max_body: options.max_body,
        })
    }

    /// Sends one request and takes the whole answer.
    ///
    /// # Errors
    /// No answer within the bounds. Messages name the host, never the whole URL.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, OutboundError> {
        let url = permit(url.as_str(), self.allow_private)?;
        let failed = |error: reqwest::Error| OutboundError::Failed(reason(&error));
        let request = self.http.request(method, url).headers(headers).body(body);
        let mut response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.max_body {
                return Err(OutboundError::TooLong(self.max_body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// The words of an error and of what caused it, without the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the exchange failed".to_owned()
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            // A string takes everything.
            let _ = write!(text, ": {words}");
        }
        cause = error.source();
    }
    text
}

/// Resolves names and gives out addresses that may be connected to, all or none: a name with one private address is
/// somebody's attempt to reach it.
struct Checked {
    allow_private: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str();
            // The port is the URL's; the connector sets it.
            let found = tokio::net::lookup_host((host, 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            let private = found.iter().find(|address| !is_public(address.ip()));
            match private {
                Some(address) if !allow_private => Err(format!(
                    "{host} has the address {}, which is not of the public internet",
                    address.ip()
                )
                .into()),
                _ => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_asked() {
        for (url, open, private) in [
            ("https://issuer.example/jwks", true, true),
            ("https://issuer.example:8443/jwks?tenant=1", true, true),
            ("https://1.1.1.1/", true, true),
            ("https://[2606:4700:4700::1111]/", true, true),
            // Private addresses, in every way to write them.
            ("https://127.0.0.1/", false, true),
            ("https://2130706433/", false, true),
            ("https://0x7f.1/", false, true),
            ("https://0177.0.0.1/", false, true),
            ("https://127.1/", false, true),
            ("https://169.254.169.254/latest/meta-data", false, true),
            ("https://[::1]/", false, true),
            ("https://[::ffff:127.0.0.1]/", false, true),
            ("https://[::ffff:a00:1]/", false, true),
            ("https://[fd00::1]/", false, true),
            ("https://0/", false, true),
            // The name is looked at when it is resolved.
            ("https://localhost/", true, true),
            // In the clear only to this machine.
            ("http://issuer.example/", false, false),
            ("http://10.0.0.1/", false, false),
            ("http://127.0.0.1:8080/", false, true),
            ("http://localhost:8080/", false, true),
            ("http://[::1]:8080/", false, true),
            ("http://localhost.attacker.example/", false, false),
            ("ftp://issuer.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("data:,x", false, false),
            ("issuer.example/jwks", false, false),
            ("https://user@issuer.example/", false, false),
            ("https://user:secret@issuer.example/", false, false),
            ("https://issuer.example/#keys", false, false),
            ("https://", false, false),
            ("", false, false),
        ] {
            assert_eq!(permit(url, false).is_ok(), open, "{url}");
            assert_eq!(permit(url, true).is_ok(), private, "{url}");
        }
        let refusal = permit("https://user:secret@issuer.example/", true).unwrap_err();
        assert!(!format!("{refusal} {}", refusal.hint).contains("secret"));
    }
}
