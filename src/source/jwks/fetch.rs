//! One fetch of a key set over HTTP, with the caching of RFC 9111.
//!
//! Enters: a URL. Leaves: the bytes of the set, or that the one before still holds, and for how long the issuer says so. What
//! `no-store` asks is not followed: a set must outlive its issuer's outage, and its keys are public.

use std::time::Duration;

use axum::http::{HeaderMap, Request, Response, header};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};

use crate::clock;
use crate::policy::objects::JwksUrl;
use crate::wire::outbound::{Client, Method, Options, OutboundError, StatusCode, Url, permit};

/// Longest body, bytes. A set of thirty RSA keys with certificate chains has about 150 KB.
const MAX_BODY: usize = 1 << 20;

/// What a fetch found.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A set, not read yet.
    Set(Vec<u8>),
    /// The set that was had before still holds.
    Same,
}

/// What is sent with the next request so that the issuer may say "not modified".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// Asks one issuer.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    url: Url,
    /// The answer that the set at hand came with.
    held: Option<CachePolicy>,
}

impl Fetcher {
    /// `validators` are those of the set at hand, if there is one.
    ///
    /// # Errors
    /// The URL or the authorities cannot be used.
    pub(super) fn new(
        settings: &JwksUrl,
        validators: Option<&Validators>,
    ) -> Result<Self, OutboundError> {
        let options = Options {
            allow_private: settings.allow_private,
            timeout: settings.timeout,
            max_body: MAX_BODY,
            ca: settings.ca.clone(),
        };
        let mut fetcher = Self {
            client: Client::new(&options)?,
            url: permit(&settings.url, settings.allow_private)?,
            held: None,
        };
        if let Some(validators) = validators {
            let mut answer = Response::builder().status(StatusCode::OK);
            for (name, value) in [
                (header::ETAG, &validators.etag),
                (header::LAST_MODIFIED, &validators.last_modified),
            ] {
                if let Some(value) = value {
                    answer = answer.header(name, value);
                }
            }
            let policy = answer.body(()).ok().map(|answer| {
                let request = fetcher.request();
                CachePolicy::new_options(&request, &answer, clock::now(), options_of_a_client())
            });
            fetcher.held = policy;
        }
        Ok(fetcher)
    }

    /// The validators of the answer that the set at hand came with.
    pub(super) fn validators(answer: &HeaderMap) -> Validators {
        let text = |name| {
            let value = answer.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Validators {
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
        }
    }

    /// Caches on the way are told to ask the issuer: they are what a rotation is late for.
    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.url.as_str().parse().unwrap_or_default();
        let headers = request.headers_mut();
        let accept = "application/jwk-set+json, application/json;q=0.9, */*;q=0.1";
        headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
        let fresh = header::HeaderValue::from_static("no-cache");
        headers.insert(header::CACHE_CONTROL, fresh);
        request
    }

    /// Asks the issuer. An answer that is not understood leaves what is held as it was; call [`Fetcher::hold`] with the
    /// answer whose set is used.
    ///
    /// # Errors
    /// Why there is no set, in words.
    pub(super) async fn fetch(&mut self) -> Result<(Fetched, Seen), String> {
        let request = self.request();
        let headers = match self
            .held
            .as_ref()
            .map(|held| held.before_request(&request, clock::now()))
        {
            Some(BeforeRequest::Stale { request, .. }) => request.headers,
            _ => request.headers().clone(),
        };
        let sent = self
            .client
            .send(Method::GET, &self.url, headers, Vec::new())
            .await;
        let answer = sent.map_err(|error| error.to_string())?;
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let now = clock::now();
        let (found, policy, headers) = match (&self.held, answer.status) {
            (Some(held), StatusCode::NOT_MODIFIED) => {
                match held.after_response(&request, &response, now) {
                    AfterResponse::NotModified(policy, parts) => {
                        (Fetched::Same, policy, parts.headers)
                    }
                    AfterResponse::Modified(..) => {
                        // The next answer is taken whole.
                        self.held = None;
                        return Err("\"not modified\" for another version than ours".to_owned());
                    }
                }
            }
            (_, StatusCode::OK) => {
                let policy =
                    CachePolicy::new_options(&request, &response, now, options_of_a_client());
                let headers = response.headers().clone();
                (Fetched::Set(answer.body), policy, headers)
            }
            (_, status) if status.is_redirection() => {
                return Err(format!(
                    "the answer is {status}, and redirects are not followed; configure the URL that it leads to"
                ));
            }
            (_, status) => return Err(format!("the answer is {status}")),
        };
        let says = [header::CACHE_CONTROL, header::EXPIRES, header::PRAGMA]
            .iter()
            .any(|name| headers.contains_key(name));
        let seen = Seen {
            fresh_for: says.then(|| policy.time_to_live(now)),
            validators: Self::validators(&headers),
            policy,
        };
        Ok((found, seen))
    }

    /// Holds the answer whose set is used from now on.
    pub(super) fn hold(&mut self, seen: Seen) {
        self.held = Some(seen.policy);
    }
}

/// An answer as far as caching goes.
#[derive(Debug)]
pub(super) struct Seen {
    /// How long the issuer says that the set holds; `None` = it does not say.
    pub(super) fresh_for: Option<Duration>,
    pub(super) validators: Validators,
    policy: CachePolicy,
}

fn options_of_a_client() -> CacheOptions {
    CacheOptions {
        shared: false,
        ..CacheOptions::default()
    }
}
