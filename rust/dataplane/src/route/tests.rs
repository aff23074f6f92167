use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

#[test]
fn a_pattern_is_everything_a_service_or_a_method() {
    let cases = [
        ("/*", "/a.B/C", true),
        ("/a.B/*", "/a.B/C", true),
        ("/a.B/*", "/a.Bc/C", false),
        ("/a.B/*", "/a.B", false),
        ("/a.B/C", "/a.B/C", true),
        ("/a.B/C", "/a.B/Cd", false),
        ("/a.B/C", "/a.b/C", false),
    ];
    for (text, path, matches) in cases {
        assert_eq!(pattern(text).matches(path.as_bytes()), matches, "{text} {path}");
        assert_eq!(pattern(text).to_string(), text);
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_the_forms_that_are() {
    for text in
        ["", "*", "/", "a.B/C", "/a.B", "/a.B/", "//C", "/a.*/C", "/a.B/C*", "/a/b/c", "/a b/c"]
    {
        let error = Pattern::new(text).unwrap_err().to_string();
        assert!(error.contains("/package.Service/*"), "{text}: {error}");
    }
}

#[test]
fn the_first_route_that_matches_wins() {
    let table: RouteTable = serde_json::from_str(
        r#"[
            {"match": "/a.B/C", "key": ["path"], "on_missing": "reject", "idempotent": true},
            {"match": "/a.B/*", "key": ["peer"], "on_missing": "any", "idempotent": false}
        ]"#,
    )
    .unwrap();
    assert_eq!(table.find(b"/a.B/C").sources.as_slice(), [KeySource::Path]);
    assert_eq!(table.find(b"/a.B/C").on_missing, OnMissing::Reject);
    assert_eq!(table.find(b"/a.B/D").sources.as_slice(), [KeySource::Peer]);
}

#[test]
fn a_request_of_no_route_has_the_default_one() {
    let table = RouteTable::new(Vec::new());
    for path in [&b"/x.Y/Z"[..], b"", b"not a path"] {
        let route = table.find(path);
        let [KeySource::Metadata(name)] = route.sources.as_slice() else { panic!("{route:?}") };
        assert_eq!(name.as_str(), "x-hashroute-key");
        assert_eq!((route.on_missing, route.idempotent), (OnMissing::Any, false));
    }
}

#[test]
fn a_rule_says_what_its_requests_write() {
    let route = |more: &str| {
        let document = format!(
            r#"{{"match": "/*", "key": ["path"], "on_missing": "reject", "idempotent": false{more}}}"#
        );
        serde_json::from_str::<Route>(&document).unwrap().writes
    };
    assert_eq!(route(""), None);
    assert_eq!(route(r#", "write": false, "group": null"#), None);
    assert_eq!(route(r#", "write": true, "group": null"#), Some(Writes::Slot));
    let group = Some(Writes::Group(GroupName::new("fix").unwrap()));
    assert_eq!(route(r#", "write": false, "group": "fix""#), group, "a group implies a write");
}

#[test]
fn only_a_rule_of_a_group_may_be_without_a_key() {
    let route = |group: &str| {
        let document = format!(
            r#"{{"match": "/*", "key": [], "on_missing": "reject", "idempotent": false,
                "write": true, "group": {group}}}"#
        );
        serde_json::from_str::<Route>(&document)
    };
    assert!(route(r#""fix""#).is_ok());
    assert!(route("null").unwrap_err().to_string().contains("1 to 8 key sources"));
    assert!(route(r#""""#).unwrap_err().to_string().contains("1 to 255 bytes"));
}

#[test]
fn a_misspelt_field_of_a_route_is_refused() {
    let route =
        r#"{"match": "/*", "key": ["path"], "on_missing": "any", "idempotent": true, "x": 1}"#;
    assert!(serde_json::from_str::<Route>(route).unwrap_err().to_string().contains("`x`"));
}
