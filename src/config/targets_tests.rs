use super::*;

const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn read(pairs: &[(&str, &str)]) -> (Vec<TargetSettings>, Vec<String>) {
    let source = Source::new(pairs.iter().copied());
    let mut faults = Vec::new();
    let targets = targets(&source, &mut faults);
    (targets, faults.iter().map(ToString::to_string).collect())
}

#[test]
fn nothing_given_is_no_target() {
    let (targets, faults) = read(&[("WebhookTargetUrl", " "), ("WebhookTargets", "")]);
    assert!(targets.is_empty() && faults.is_empty());
    assert!(read(&[("WebhookTargets", "[]")]).1.is_empty());
}

#[test]
fn the_simple_case_is_one_target_named_default() {
    let (targets, faults) = read(&[("WebhookTargetUrl", "https://a.example/hook?code=s3cret")]);
    assert_eq!(faults, [""; 0]);
    assert_eq!(targets[0].policy.name, "default");
    assert_eq!(
        targets[0].policy.notices,
        [Notice::Replicated, Notice::Recovered],
        "a consumer of the registry's format hears of images that are everywhere only"
    );
    assert_eq!(targets[0].policy.filter.actions, ["push"]);
    assert!(!targets[0].policy.companions);
    assert!(targets[0].secrets.is_empty() && targets[0].allow_private);
    let both = format!("{KEY}, {KEY}");
    let (targets, faults) = read(&[
        ("WebhookTargetUrl", "http://localhost:9000/hook"),
        ("WebhookTargetSecret", &both),
        ("WebhookTargetFormat", "CloudEvents"),
        ("WebhookAllowPrivateTargets", "True"),
    ]);
    assert_eq!(faults, [""; 0]);
    assert_eq!(targets[0].policy.notices, [Notice::Replicated, Notice::TimedOut]);
    assert_eq!(targets[0].secrets.len(), 2);
    assert_eq!(
        targets[0].to_string(),
        "default: cloudevents to http://localhost:9000/…, signed, of replicated, timed_out"
    );
}

#[test]
fn targets_are_read_in_full() {
    let json = format!(
        r#"[{{"name":"flux","url":"http://10.0.0.7/hook/abc","allowHttp":true,"secret":"{KEY}"}},
            {{"name":"ops","url":"https://hooks.example/x","format":"slack","outcomes":["timed_out","recovered"],
              "secrets":["{KEY}","{KEY}"],"headers":{{"Authorization":"Bearer s3cret"}},"allowPrivate":false,
              "filter":{{"repository":"team/**","tag":"v*","action":"push","tagged":true}}}}]"#
    );
    let (targets, faults) = read(&[("WebhookTargetUrl", "https://a.example/"), ("WebhookTargets", &json)]);
    assert_eq!(faults, [""; 0]);
    assert_eq!(targets.iter().map(|t| t.policy.name.as_str()).collect::<Vec<_>>(), ["default", "flux", "ops"]);
    assert_eq!((targets[1].format, targets[1].secrets.len(), targets[1].allow_private), (Format::Acr, 1, true));
    assert_eq!(targets[1].policy.filter, targets[0].policy.filter);
    let ops = &targets[2];
    assert_eq!(ops.policy.notices, [Notice::TimedOut, Notice::Recovered]);
    assert_eq!(
        ops.policy.filter,
        Filter {
            repository: Some("team/**".into()),
            tag: Some("v*".into()),
            actions: vec!["push".into()],
            tagged: Some(true)
        }
    );
    assert_eq!(ops.headers["authorization"], "Bearer s3cret");
    assert_eq!((ops.secrets.len(), ops.allow_private), (2, false));
    assert!(!format!("{targets:?}").contains("s3cret"));
}

#[test]
fn case_c2_no_acr_target_is_told_of_what_is_no_success() {
    let faults = |format: &str, outcome: &str| {
        let json = format!(r#"[{{"name":"a","url":"https://a/","format":"{format}","outcomes":["{outcome}"]}}]"#);
        read(&[("WebhookTargets", &json)]).1
    };
    for outcome in ["timed_out", "superseded"] {
        let told = faults("acr", outcome);
        assert!(told.len() == 1 && told[0].contains(outcome) && told[0].contains("no success"), "{told:?}");
        for format in ["standard", "cloudevents", "slack", "teams", "github"] {
            assert_eq!(faults(format, outcome), [""; 0]);
        }
    }
    for outcome in ["replicated", "recovered"] {
        assert_eq!(faults("acr", outcome), [""; 0]);
    }
}

#[test]
fn a_workflow_is_started_by_images_that_are_everywhere_unless_more_is_asked_for() {
    let read_one = |members: &str| {
        let json = format!(r#"[{{"name":"a","url":"https://a/","format":"github"{members}}}]"#);
        let (mut targets, faults) = read(&[("WebhookTargets", &json)]);
        assert_eq!(faults, [""; 0]);
        targets.pop().unwrap().policy
    };
    let default = read_one("");
    assert_eq!(default.notices, [Notice::Replicated, Notice::Recovered]);
    assert_eq!(default.filter.actions, ["push"]);
    assert_eq!(read_one(r#","outcomes":["timed_out"]"#).notices, [Notice::TimedOut]);
}

#[test]
fn case_c3_more_than_tagged_pushes_is_asked_for() {
    let target = |members: &str| {
        let json = format!(r#"[{{"name":"a","url":"https://a/"{members}}}]"#);
        let (mut targets, faults) = read(&[("WebhookTargets", &json)]);
        (targets.pop().map(|t| t.policy), faults)
    };
    let asked = |members: &str| {
        let (policy, faults) = target(members);
        assert_eq!(faults, [""; 0], "{members}");
        let policy = policy.unwrap();
        (policy.filter.actions, policy.companions)
    };
    let actions = |all: &[&str]| all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    assert_eq!(asked(""), (actions(&["push"]), false));
    assert_eq!(asked(r#","filter":{"tag":"v*"}"#), (actions(&["push"]), false));
    assert_eq!(asked(r#","filter":{"actions":["push","delete"]}"#), (actions(&["push", "delete"]), false));
    assert_eq!(asked(r#","companions":true,"filter":{"tagged":false}"#), (actions(&["push"]), true));
    assert_eq!(asked(r#","filter":{"tagged":false,"actions":["delete"]}"#), (actions(&["delete"]), false));
    for format in ["standard", "cloudevents", "slack", "teams"] {
        assert_eq!(asked(&format!(r#","format":"{format}""#)), (Vec::new(), false), "{format}");
    }
    // To ask for untagged pushes only would be to ask for nothing.
    for members in [r#","filter":{"tagged":false}"#, r#","format":"slack","filter":{"tagged":false}"#] {
        let (_, faults) = target(members);
        assert!(faults.len() == 1 && faults[0].contains("companions"), "{faults:?}");
    }
}

#[test]
fn every_fault_is_reported_at_once_and_names_target_and_member() {
    let json = format!(
        r#"[{{"name":"a","url":"http://example.com/s3cret"}},
            {{"name":"a","url":"https://u:s3cret@example.com/x?s3cret","format":"xml"}},
            {{"url":"s3cret"}},
            {{"name":"b b","url":"ftp://s3cret/"}},
            {{"name":"c","url":"https://169.254.169.254/metadata?s3cret"}},
            {{"name":"d","url":"https://10.1.2.3/","allowPrivate":false,"secret":"s3cret"}},
            {{"name":"e","url":"https://e/","secrets":["whsec_c2hvcnQ="],"outcomes":["done"],"colour":"red","allowHttp":"yes"}},
            {{"name":"f","url":"https://f/","secrets":["{KEY}","{KEY}","{KEY}"],"filter":{{"repository":"[a","actions":["pull"],"repo":1}}}},
            {{"name":"g","url":"https://g/","headers":{{"Host":"s3cret","webhook-id":"s3cret","Content-Length":"1","X y":"s3cret","X-A":"s3cret\n","X-B":7,"X-C":"1","x-c":"s3cret"}}}},
            {{"name":"h"}}, {{"name":"i","url":7}}, "s3cret"]"#
    );
    let (targets, faults) = read(&[
        ("WebhookTargetSecret", "s3cret"),
        ("WebhookTargetFormat", "xml"),
        ("WebhookAllowPrivateTargets", "maybe"),
        ("WebhookTargets", &json),
    ]);
    assert!(targets.is_empty(), "{targets:?}");
    assert!(!faults.join("\n").contains("s3cret"), "{faults:#?}");
    insta::assert_snapshot!(faults.join("\n"));
}

#[test]
fn bounds_hold() {
    let many = |n: usize| {
        let one = |i| format!(r#"{{"name":"t{i}","url":"https://a/"}}"#);
        format!("[{}]", (0..n).map(one).collect::<Vec<_>>().join(","))
    };
    let simple = ("WebhookTargetUrl", "https://a/");
    assert_eq!(read(&[("WebhookTargets", &many(32))]).0.len(), 32);
    assert_eq!(read(&[simple, ("WebhookTargets", &many(32))]).1, ["WebhookTargets: has 32 elements; 31 are allowed"]);
    assert_eq!(read(&[("WebhookTargetUrl", &format!("https://a/{}", "x".repeat(2048)))]).1.len(), 1);
    let headers: Vec<String> = (0..21).map(|i| format!(r#""x-{i}":"1""#)).collect();
    let json = format!(r#"[{{"name":"a","url":"https://a/","headers":{{{}}}}}]"#, headers.join(","));
    assert_eq!(read(&[("WebhookTargets", &json)]).1.len(), 1);
    for refused in ["http://localhost/", "https://127.0.0.1/", "https://[fd00::1]/"] {
        let guard = ("WebhookAllowPrivateTargets", "false");
        assert_eq!(read(&[("WebhookTargetUrl", refused), guard]).1.len(), 1, "{refused}");
        assert_eq!(read(&[("WebhookTargetUrl", refused)]).1.len(), 0, "{refused}");
    }
    for broken in ["{", "{}", "[1]", r#"[{"name":"s3cret"#] {
        let (_, faults) = read(&[("WebhookTargets", broken)]);
        assert!(faults.len() == 1 && !faults[0].contains("s3cret"), "{faults:?}");
    }
}
