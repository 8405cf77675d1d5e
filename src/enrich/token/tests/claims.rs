//! Tables of claims and the type.

use super::*;

#[test]
fn dates_are_judged_at_event_time() {
    const SECOND: i64 = 1_000_000_000;
    let zone = everything();
    let hs = signer("HS256");
    let (end, start) = (NOW + 100, NOW - 100);
    for (claims, at, expected) in [
        (json!({"exp": end}), (end + 60) * SECOND, VALID),
        (
            json!({"exp": end}),
            (end + 60) * SECOND + 1,
            invalid(Expired),
        ),
        (json!({"exp": end}), (end + 59) * SECOND, VALID),
        (json!({"exp": end}), (end + 61) * SECOND, invalid(Expired)),
        (json!({"nbf": start}), (start - 60) * SECOND, VALID),
        (
            json!({"nbf": start}),
            (start - 60) * SECOND - 1,
            invalid(NotYetValid),
        ),
        (json!({"nbf": start}), (start - 59) * SECOND, VALID),
        (
            json!({"nbf": start}),
            (start - 61) * SECOND,
            invalid(NotYetValid),
        ),
        (
            json!({"exp": 1_795_161_700.5}),
            (end + 60) * SECOND + SECOND / 2,
            VALID,
        ),
        (
            json!({"exp": 1_795_161_700.5}),
            (end + 60) * SECOND + SECOND / 2 + 1_000_000,
            invalid(Expired),
        ),
        (json!({"exp": 1e300}), (end + 60) * SECOND, VALID),
        (json!({"exp": i64::MAX}), (end + 60) * SECOND, VALID),
        (json!({"exp": u64::MAX}), (end + 60) * SECOND, VALID),
        (json!({"exp": -1}), 60 * SECOND, invalid(Expired)),
        (json!({"exp": -1e300}), 0, invalid(Expired)),
        (json!({"exp": i64::MIN}), 0, invalid(Expired)),
        (json!({"nbf": i64::MIN}), 0, VALID),
        (json!({"nbf": u64::MAX}), NOW * SECOND, invalid(NotYetValid)),
        // `iat` says when, not from when.
        (json!({"iat": NOW + 86_400}), NOW * SECOND, VALID),
    ] {
        let token = format!("Bearer {}", hs.token(&claims));
        let verdict = judge_at(&zone, &token, at);
        assert_eq!(verdict.outcome, expected, "{claims} at {at}");
        assert_eq!(verdict.claims.is_some(), expected == VALID);
    }
}

#[test]
fn claims_are_compared_with_the_configuration() {
    let hs = signer("HS256");
    let mut object = configuration("all", &all_keys());
    object.issuer = Some("https://issuer.example".to_owned());
    object.audience = vec!["shop".to_owned(), "admin".to_owned()];
    object.require_exp = true;
    let zone = zone_of(vec![object]);
    let good = json!({"iss": "https://issuer.example", "aud": "shop", "exp": NOW});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for (claims, expected) in [
        (good.clone(), VALID),
        (with("aud", json!(["x", "admin"])), VALID),
        (with("aud", json!(["x", 1, "shop"])), VALID),
        (with("aud", json!(["x"])), invalid(ClaimMismatch)),
        (with("aud", json!([])), invalid(ClaimMismatch)),
        (with("aud", json!([["shop"]])), invalid(ClaimMismatch)),
        (with("aud", json!("Shop")), invalid(ClaimMismatch)),
        (with("aud", json!({"shop": 1})), invalid(ClaimMismatch)),
        (without("aud"), invalid(ClaimMismatch)),
        (
            with("iss", json!("https://issuer.example/")),
            invalid(ClaimMismatch),
        ),
        (
            with("iss", json!(["https://issuer.example"])),
            invalid(ClaimMismatch),
        ),
        (without("iss"), invalid(ClaimMismatch)),
        (without("exp"), invalid(ClaimMismatch)),
        // The dates come first.
        (json!({"exp": NOW - 3600}), invalid(Expired)),
        (json!({"nbf": NOW + 3600}), invalid(NotYetValid)),
    ] {
        assert_eq!(outcome(&zone, &hs.token(&claims)), expected, "{claims}");
    }
}

#[test]
fn iat_counts_where_the_configuration_asks_for_it() {
    const SECOND: i64 = 1_000_000_000;
    let hs = signer("HS256");
    let zone = |max_age: Option<u64>, require_iat, refuse_future_iat| {
        let mut object = configuration("all", &all_keys());
        object.max_age = max_age.map(std::time::Duration::from_secs);
        object.require_iat = require_iat;
        object.refuse_future_iat = refuse_future_iat;
        zone_of(vec![object])
    };
    let aged = || zone(Some(600), false, None);
    let future = || zone(None, false, Some(true));
    let required = || zone(None, true, None);
    let iat = |seconds: i64| json!({ "iat": NOW + seconds });
    for (zone, claims, offset, expected) in [
        // The maximum age, with the skew of 60 s.
        (aged(), iat(0), 660 * SECOND, VALID),
        (aged(), iat(0), 660 * SECOND + 1, invalid(Expired)),
        (aged(), iat(0), 659 * SECOND, VALID),
        (aged(), iat(0), 661 * SECOND, invalid(Expired)),
        (aged(), json!({}), 0, invalid(ClaimMismatch)),
        (aged(), json!({"iat": "x"}), 0, invalid(ClaimMismatch)),
        (aged(), json!({"iat": i64::MAX}), 0, invalid(NotYetValid)),
        (aged(), json!({"iat": i64::MIN}), 0, invalid(Expired)),
        // Expired comes before everything else of the claims.
        (
            aged(),
            json!({"iat": NOW - 1_000, "nbf": NOW + 1_000}),
            0,
            invalid(Expired),
        ),
        // It implies that a token cannot choose its age by an `iat` that lies ahead, unless that is said.
        (aged(), iat(61), 0, invalid(NotYetValid)),
        (zone(Some(600), false, Some(false)), iat(61), 0, VALID),
        // `iat` in the future.
        (future(), iat(60), 0, VALID),
        (future(), iat(60), -1, invalid(NotYetValid)),
        (future(), iat(59), 0, VALID),
        (future(), iat(61), 0, invalid(NotYetValid)),
        (future(), iat(-86_400), 0, VALID),
        (future(), json!({}), 0, VALID),
        (future(), json!({"iat": null}), 0, invalid(ClaimMismatch)),
        // Required, and otherwise free.
        (required(), iat(86_400), 0, VALID),
        (required(), json!({}), 0, invalid(ClaimMismatch)),
        (required(), json!({"iat": [1]}), 0, invalid(ClaimMismatch)),
        // Unless asked for, `iat` is nobody's business: the vendor does not look at it.
        (everything(), json!({"iat": "x"}), 0, VALID),
    ] {
        let value = format!("Bearer {}", hs.token(&claims));
        let verdict = judge_at(&zone, &value, NOW * SECOND + offset);
        assert_eq!(verdict.outcome, expected, "{claims} at {offset}");
    }
}

#[test]
fn the_type_is_compared_where_one_is_configured() {
    let hs = signer("HS256");
    let mut object = configuration("all", &all_keys());
    object.types = vec!["at+jwt".to_owned(), "application/JWT".to_owned()];
    let zone = zone_of(vec![object]);
    let mismatch = invalid(ClaimMismatch);
    for (name, expected) in [
        (json!("at+jwt"), VALID),
        (json!("AT+JWT"), VALID),
        (json!("application/at+jwt"), VALID),
        (json!("JWT"), VALID),
        (json!("dpop+jwt"), mismatch),
        (json!("text/at+jwt"), mismatch),
        (json!(""), mismatch),
        (json!(["at+jwt"]), mismatch),
        (json!(null), mismatch),
    ] {
        let header = json!({"alg": "HS256", "kid": hs.kid, "typ": name});
        let token = hs.token_with(&header, &json!({}));
        assert_eq!(outcome(&zone, &token), expected, "{name}");
        // The dates come first.
        let token = hs.token_with(&header, &json!({"exp": 1}));
        assert_eq!(outcome(&zone, &token), invalid(Expired), "{name}");
    }
    assert_eq!(outcome(&zone, &hs.token(&json!({}))), mismatch);
}
