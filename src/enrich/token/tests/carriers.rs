//! Tables of what carries a token.

use super::*;

#[test]
fn the_first_source_with_something_in_it_decides() {
    let hs = signer("HS256");
    let token = hs.token(&json!({}));
    let mut object = configuration("all", &all_keys());
    object.token_sources = [
        r#"http.request.headers["authorization"][0]"#,
        r#"http.request.headers["x-token"][1]"#,
        r#"http.request.cookies["Tok"][0]"#,
    ]
    .map(str::to_owned)
    .to_vec();
    let zone = zone_of(vec![object]);
    let cookie = format!("a=b; Tok={token}; tok=x");
    let lower = format!("tok={token}");
    let bearer = |scheme: &str| format!("{scheme}{token}");
    let all = || Captured::All;
    let names =
        |names: &[&'static str]| Captured::Names(names.iter().map(|name| (*name).into()).collect());
    let missing = TokenOutcome::Missing;
    let unknown = TokenOutcome::NotCaptured;
    for (fields, captured, expected) in [
        (vec![("Authorization", bearer("Bearer "))], all(), VALID),
        (vec![("AUTHORIZATION", bearer("bEaReR   "))], all(), VALID),
        (vec![("authorization", bearer("Bearer: "))], all(), VALID),
        (vec![("authorization", bearer("bearer:"))], all(), VALID),
        (vec![("authorization", bearer(""))], all(), VALID),
        (vec![("authorization", bearer(" \tBearer "))], all(), VALID),
        (
            vec![("authorization", bearer("Bearer\t"))],
            all(),
            invalid(Malformed),
        ),
        (
            vec![("authorization", bearer("Bearer Bearer "))],
            all(),
            invalid(Malformed),
        ),
        (vec![("authorization", bearer("Basic "))], all(), missing),
        (
            vec![("authorization", "Basic YTpi".to_owned())],
            all(),
            missing,
        ),
        (
            vec![("authorization", "garbage".to_owned())],
            all(),
            invalid(Malformed),
        ),
        (
            vec![("authorization", "Bearer x y".to_owned())],
            all(),
            invalid(Malformed),
        ),
        (
            vec![("authorization", "Bearer ".to_owned())],
            all(),
            missing,
        ),
        (vec![("authorization", String::new())], all(), missing),
        (vec![], all(), missing),
        (vec![("x-token", bearer(""))], all(), missing),
        (
            vec![("x-token", "x".to_owned()), ("X-Token", bearer(""))],
            all(),
            VALID,
        ),
        (vec![("cookie", cookie.clone())], all(), VALID),
        (vec![("cookie", lower.clone())], all(), missing),
        // An empty source is passed over, another scheme is not.
        (
            vec![
                ("authorization", "Bearer ".to_owned()),
                ("cookie", cookie.clone()),
            ],
            all(),
            VALID,
        ),
        (
            vec![
                ("authorization", "Basic x".to_owned()),
                ("cookie", cookie.clone()),
            ],
            all(),
            missing,
        ),
        // A bad token hides a good one behind it.
        (
            vec![
                ("authorization", "x.y.z".to_owned()),
                ("cookie", cookie.clone()),
            ],
            all(),
            invalid(Malformed),
        ),
        // What was not captured proves nothing, what was seen does.
        (vec![], Captured::Nothing, unknown),
        (vec![("cookie", cookie.clone())], Captured::Nothing, VALID),
        (
            vec![("authorization", "Basic x".to_owned())],
            Captured::Nothing,
            missing,
        ),
        (
            vec![("authorization", String::new())],
            Captured::Nothing,
            unknown,
        ),
        (
            vec![],
            names(&["Authorization", "X-Token", "Cookie"]),
            missing,
        ),
        (vec![], names(&["authorization", "cookie"]), unknown),
        (vec![], names(&["authorization", "x-token"]), unknown),
    ] {
        let borrowed: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let exchange = exchange(&borrowed, captured);
        let mut out = vec![];
        judge(
            &zone,
            &exchange,
            &TokenCache::new(1),
            &Hasher::new(b"k"),
            &mut Budget::default(),
            &mut out,
        );
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].outcome, expected, "{fields:?}");
        let carried = matches!(expected, TokenOutcome::Valid | TokenOutcome::Invalid(_));
        assert_eq!(out[0].hash.is_some(), carried, "{fields:?}");
    }
}

#[test]
fn every_configuration_judges_for_itself() {
    let (hs, es) = (signer("HS256"), signer("ES256"));
    let zone = zone_of(vec![
        configuration("one", std::slice::from_ref(&hs.jwk)),
        configuration("two", std::slice::from_ref(&es.jwk)),
    ]);
    let value = format!("Bearer {}", es.token(&json!({"sub": "u"})));
    let exchange = exchange(&[("authorization", &value)], Captured::All);
    let mut out = vec![judge_at(&zone, "x", 0)];
    let cache = TokenCache::new(16);
    judge(
        &zone,
        &exchange,
        &cache,
        &Hasher::new(b"k"),
        &mut Budget::default(),
        &mut out,
    );
    let outcomes: Vec<_> = out.iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [invalid(UnknownKey), VALID]);
    assert_eq!(out[0].hash, out[1].hash);
    assert_eq!(out[1].claims.as_ref().unwrap()["sub"], "u");
    assert_eq!(best(&out), Some(VALID));
}

#[test]
fn the_query_carries_a_token_only_where_it_is_a_source() {
    let hs = signer("HS256");
    let token = hs.token(&json!({}));
    let escaped = token.replace('.', "%2E");
    let mut object = configuration("all", &all_keys());
    object.token_sources = vec![
        r#"http.request.headers["authorization"][0]"#.to_owned(),
        r#"http.request.uri.args["access_token"][0]"#.to_owned(),
    ];
    let zone = zone_of(vec![object]);
    let closed = everything();
    let (missing, unknown) = (TokenOutcome::Missing, TokenOutcome::NotCaptured);
    for (query, header, captured, expected) in [
        (format!("access_token={token}"), "", Captured::All, VALID),
        (
            format!("a=1&access_token={token}&b"),
            "",
            Captured::All,
            VALID,
        ),
        (
            format!("access%5Ftoken={escaped}"),
            "",
            Captured::All,
            VALID,
        ),
        (
            format!("access_token=Bearer%20{escaped}"),
            "",
            Captured::All,
            VALID,
        ),
        (format!("ACCESS_TOKEN={token}"), "", Captured::All, missing),
        (
            format!("access_token=&access_token={token}"),
            "",
            Captured::All,
            missing,
        ),
        (
            format!("access_token={token}&access_token=x"),
            "",
            Captured::All,
            VALID,
        ),
        (format!("xaccess_token={token}"), "", Captured::All, missing),
        (
            "access_token=%FF.a.b".to_owned(),
            "",
            Captured::All,
            invalid(Malformed),
        ),
        (String::new(), "", Captured::All, missing),
        // The header comes first, and whether it was captured still counts.
        (
            format!("access_token={token}"),
            "x.y.z",
            Captured::All,
            invalid(Malformed),
        ),
        (
            format!("access_token={token}"),
            "",
            Captured::Nothing,
            VALID,
        ),
        (String::new(), "", Captured::Nothing, unknown),
    ] {
        let fields = [("authorization", header)];
        let fields = if header.is_empty() {
            &fields[1..]
        } else {
            &fields
        };
        let mut exchange = exchange(fields, captured);
        exchange.request.query = Some(query.as_str().into());
        let (cache, mut out) = (TokenCache::new(1), vec![]);
        let (hasher, mut budget) = (Hasher::new(b"k"), Budget::default());
        judge(&zone, &exchange, &cache, &hasher, &mut budget, &mut out);
        assert_eq!(out[0].outcome, expected, "{query}");
        if header.is_empty() {
            judge(&closed, &exchange, &cache, &hasher, &mut budget, &mut out);
            assert!(matches!(
                out[0].outcome,
                TokenOutcome::Missing | TokenOutcome::NotCaptured
            ));
        }
    }
}
