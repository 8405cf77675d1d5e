//! What needs no server: names in SQL, secrets in logs.

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
