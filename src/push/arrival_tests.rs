use super::*;
use proptest::prelude::*;

fn code(body: &str) -> &'static str {
    parse(body.as_bytes()).expect_err("a fault").code
}

#[test]
fn every_documented_action_is_read() {
    for (action, target, rest, tag, registry) in [
        ("push", r#","tag":"t""#, r#","request":{"host":"C.azurecr.io"}"#, Some("t"), "c.azurecr.io"),
        ("push", r#","tag":"""#, r#","request":{"host":"c.azurecr.io"}"#, None, "c.azurecr.io"),
        ("delete", "", r#","request":{"host":"c.azurecr.io"}"#, None, "c.azurecr.io"),
        ("quarantine", r#","size":1,"tag":"t""#, r#","request":{}"#, Some("t"), ""),
        ("chart_push", r#","tag":"t","name":"n","version":"v""#, "", Some("t"), ""),
        ("chart_delete", r#","tag":null"#, r#","request":null,"x":[1]"#, None, ""),
    ] {
        let target = format!(r#"{{"digest":"sha256:1","repository":"a"{target}}}"#);
        let body = format!(r#"{{"id":"1","action":"{action}","target":{target}{rest}}}"#);
        let Ok(Webhook::FanIn { subject, .. }) = parse(body.as_bytes()) else { panic!("{body}") };
        let read = (subject.action.as_str(), subject.tag.as_deref(), subject.registry.as_str());
        assert_eq!(read, (action, tag, registry));
    }
}

#[test]
fn ping_and_unknown_actions_need_nothing_else() {
    assert_eq!(parse(br#"{"id":"1","timestamp":"t","action":"ping"}"#), Ok(Webhook::Ping));
    assert_eq!(parse(br#"{"action":"lease_renew","target":{}}"#), Ok(Webhook::Unknown));
}

#[test]
fn faults_name_their_cause() {
    assert_eq!(code(" \n"), "body_empty");
    assert_eq!(code("hello"), "body_not_json");
    assert_eq!(code("{\"action\":"), "body_not_json");
    assert_eq!(code("[]"), "body_not_object");
    assert_eq!(code("\"text\""), "body_not_object");
    assert_eq!(code("{}"), "action_missing");
    assert_eq!(code(r#"{"action":"push","id":7}"#), "member_type");
    assert_eq!(code(r#"{"action":"push","id":"1"}"#), "member_missing");
    let long =
        format!(r#"{{"action":"push","id":"1","target":{{"repository":"{}","digest":"d"}}}}"#, "x".repeat(10_240));
    let fault = parse(long.as_bytes()).unwrap_err();
    assert_eq!(fault.code, "member_too_long");
    assert!(fault.message.contains("target.repository") && fault.message.len() < 200);
}

#[test]
fn case_c7_a_member_in_other_letters_is_refused() {
    for (first, second) in [("action", "Action"), ("tag", "TAG"), ("digest", "dige\u{17f}t"), ("host", "Host")] {
        let both = |name: &str| {
            if name == first {
                format!(r#""{first}":"push","{second}":"delete""#)
            } else {
                format!(r#""{name}":"push""#)
            }
        };
        let body = format!(
            r#"{{"id":"1",{},"target":{{"repository":"a",{},{}}},"request":{{{}}}}}"#,
            both("action"),
            both("digest"),
            both("tag"),
            both("host")
        );
        assert_eq!(code(&body), "member_type", "{body}");
    }
    // What nobody reads may have any name.
    assert!(parse(br#"{"action":"ping","Actor":1,"target":{"MediaType":"x"}}"#).is_ok());
}

#[test]
fn case_c10_event_grid_is_named() {
    for body in [
        r#"[{"id":"1","topic":"/subscriptions/x","eventType":"Microsoft.ContainerRegistry.ImagePushed","data":{"action":"push"}}]"#,
        r#" [{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"1"}}]"#,
        r#"{"specversion":"1.0","type":"Microsoft.ContainerRegistry.ImagePushed","id":"1","data":{}}"#,
    ] {
        assert_eq!(code(body), "event_grid", "{body}");
    }
}

#[test]
fn case_c11_half_a_character_is_called_what_it_is() {
    let body = r#"{"id":"1","action":"push","target":{"repository":"a","digest":"d","tag":"\ud800"}}"#;
    assert_eq!(code(body), "body_not_text");
    assert!(parse(body.replace("ud800", r"ud83d\ude00").as_bytes()).is_ok(), "two halves are one");
}

#[test]
fn an_array_is_no_object() {
    // A relay finds no `host` to replace in an array, so a push with one could never be told of.
    assert_eq!(code(r#"{"action":"push","id":"1","target":["a","d","t"]}"#), "member_type");
    assert_eq!(
        code(r#"{"action":"push","id":"1","target":{"repository":"a","digest":"d"},"request":["h"]}"#),
        "member_type"
    );
}

#[test]
fn a_host_is_bounded_as_it_is_kept() {
    // The lower case of this letter is longer than the letter.
    let host = "\u{130}".repeat(limits::MEMBER_BYTES_MAX / 2);
    let body = serde_json::json!({"action": "push", "id": "1", "target": {"repository": "a", "digest": "d"},
        "request": {"host": host}});
    assert_eq!(code(&body.to_string()), "member_too_long");
}

#[test]
fn a_fault_repeats_nothing_of_the_body() {
    for body in [r#"{"action":"push","id":"s3cret","target":5}"#, r#"{"s3cret":}"#, "s3cret", "[\"s3cret\"]"] {
        assert!(!format!("{:?}", parse(body.as_bytes())).contains("s3cret"), "{body}");
    }
}

#[test]
fn login_servers_are_normalised() {
    for (host, plain) in [
        ("Contoso.azurecr.io", "contoso.azurecr.io"),
        ("contoso.azurecr.io:443", "contoso.azurecr.io"),
        ("contoso.westus.geo.azurecr.io", "contoso.azurecr.io"),
        ("contoso-a1b2.NorthEurope.geo.azurecr.cn:443", "contoso-a1b2.azurecr.cn"),
        ("", ""),
        (":443", ":443"),
        ("a.b.geo", "a.b.geo"),
        ("contoso.west.data.azurecr.io", "contoso.azurecr.io"),
        ("contoso.azurecr.io.", "contoso.azurecr.io"),
        ("contoso.west.data.azurecr.io.:443", "contoso.azurecr.io"),
    ] {
        assert_eq!(login_server(host), plain, "{host}");
    }
}

#[test]
fn case_a17_one_registry_by_many_names_is_one_push() {
    let read = |request: &str, registry| {
        let body =
            format!(r#"{{"action":"push","id":"1","target":{{"repository":"a","digest":"d","tag":"t"}}{request}}}"#);
        Arrival::read(Region::parse("a").unwrap(), Instant::UNIX_EPOCH, body, registry).unwrap()
    };
    let hosts = ["Contoso.azurecr.io", "contoso.west.data.azurecr.io", "contoso.azurecr.io.", "contoso.azurecr.io:443"];
    let named = hosts.map(|host| read(&format!(r#","request":{{"host":"{host}"}}"#), None).key(Correlation::Content));
    assert!(named.iter().all(|key| *key == named[0]));
    // Where nothing is there to normalise, the settings say it; then they say it for all.
    assert_ne!(read("", None).key(Correlation::Content), named[0]);
    for request in ["", r#","request":null"#, r#","request":{}"#, r#","request":{"host":"10.0.0.1"}"#] {
        assert_eq!(read(request, Some("contoso.azurecr.io")).key(Correlation::Content), named[0], "{request}");
    }
}

#[test]
fn the_two_correlation_modes_differ_in_what_counts() {
    use Correlation::{Content, Id};
    let arrival = |id: &str, digest: &str, tag: &str| {
        let target = format!(r#"{{"repository":"p","digest":"{digest}","tag":"{tag}"}}"#);
        let body = format!(r#"{{"action":"push","id":"{id}","target":{target}}}"#);
        Arrival::read(Region::parse("a").unwrap(), Instant::UNIX_EPOCH, body, None).unwrap()
    };
    let [one, other_id, other_tag] =
        [("1", "d", ""), ("2", "d", ""), ("1", "d", "t")].map(|(i, d, t)| arrival(i, d, t));
    assert_eq!(one.key(Content), other_id.key(Content));
    assert_ne!(one.key(Content), other_tag.key(Content));
    assert_ne!(one.key(Id), other_id.key(Id));
    assert_ne!(one.key(Id), one.key(Content));
    let [tagged, moved] = ["d", "e"].map(|digest| arrival("1", digest, "t").key(Content));
    assert_eq!(tagged.place(), moved.place(), "digests of one tag share a place");
    assert_ne!(tagged, moved);
}

proptest! {
    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body);
    }

    #[test]
    fn any_member_values_are_kept(id in ".{1,30}", repository in ".{1,40}", tag in ".{0,40}", digest in ".{1,40}") {
        let body = serde_json::json!({"id": id, "action": "push",
            "target": {"repository": repository, "tag": tag, "digest": digest}, "request": {"host": "h"}});
        let parsed = parse(body.to_string().as_bytes());
        let expected = Subject { registry: "h".into(), repository, tag: Some(tag).filter(|t| !t.is_empty()), digest, action: "push".into() };
        prop_assert_eq!(parsed, Ok(Webhook::FanIn { id, subject: expected }));
    }
}
