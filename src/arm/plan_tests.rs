use super::super::registry::{Id, Replica, Stage};
use super::*;

const KEY: &str = "s3cret-key";

fn registry(regions: &[&str]) -> Registry {
    let replica = |region: &&str| Replica { region: Region::parse(region).unwrap(), stage: Stage::Complete };
    Registry {
        id: Id { subscription: "s".into(), group: "g".into(), name: "contoso".into() },
        sku: "Premium".into(),
        home: Region::parse(regions[0]).unwrap(),
        replicas: regions.iter().map(replica).collect(),
    }
}

fn template() -> Template {
    Template {
        url: Url::parse("https://app.example/api/ImagePush").unwrap(),
        key: Some(Secret::new(KEY.into())),
        scope: String::new(),
        actions: ["push".to_owned()].into(),
    }
}

fn set() -> Set {
    Set::of("acrgw").unwrap()
}

/// The webhook that [`template`] makes in a region.
fn good(region: &str) -> Webhook {
    let registry = registry(&[region]);
    let wanted = wanted(&template(), &set(), &registry).remove(0);
    Webhook {
        name: wanted.name,
        location: region.into(),
        tags: set().tags(&BTreeMap::new()),
        status: "enabled".into(),
        scope: wanted.scope,
        actions: wanted.actions,
        state: "Succeeded".into(),
        callback: Callback::Read { uri: wanted.uri, headers: wanted.headers },
    }
}

fn but(region: &str, change: impl FnOnce(&mut Webhook)) -> Webhook {
    let mut webhook = good(region);
    change(&mut webhook);
    webhook
}

fn sends(uri: &str, headers: &[(&str, &str)]) -> Callback {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned())));
    Callback::Read { uri: Secret::new(uri.into()), headers: headers.collect() }
}

fn planned(regions: &[&str], actual: &[Webhook], prune: bool) -> Vec<(String, Kind)> {
    let registry = registry(regions);
    let wanted = wanted(&template(), &set(), &registry);
    plan(&wanted, actual, &set(), &registry, prune).into_iter().map(|c| (c.name, c.kind)).collect()
}

/// What is done with the only webhook of the region e.
fn of_one(webhook: Webhook) -> Kind {
    let mut all = planned(&["e"], &[webhook], false);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).1
}

#[test]
fn each_region_gets_one_and_what_is_good_stays() {
    let create = Kind::Create { waits: false };
    assert_eq!(
        planned(&["e", "w"], &[], false),
        [("acrgwe".into(), create.clone()), ("acrgww".into(), create.clone())]
    );
    assert_eq!(
        planned(&["e", "w"], &[good("e")], false),
        [("acrgwe".into(), Kind::Unchanged), ("acrgww".into(), create)]
    );
    let all = planned(&["e", "w"], &[good("e"), good("w")], true);
    assert!(all.iter().all(|(_, kind)| *kind == Kind::Unchanged), "{all:?}");
}

#[test]
fn a_region_that_is_still_made_is_waited_for() {
    let mut registry = registry(&["e", "w"]);
    registry.replicas[1].stage = Stage::New;
    let changes = plan(&wanted(&template(), &set(), &registry), &[], &set(), &registry, false);
    let kinds: Vec<&Kind> = changes.iter().map(|change| &change.kind).collect();
    assert_eq!(kinds, [&Kind::Create { waits: false }, &Kind::Create { waits: true }]);
}

#[test]
fn nothing_is_made_or_deleted_where_the_replica_does_not_work() {
    let mut registry = registry(&["e", "w"]);
    registry.replicas[1].stage = Stage::Broken;
    let wanted = wanted(&template(), &set(), &registry);
    let kind = |actual: &[Webhook]| plan(&wanted, actual, &set(), &registry, true).remove(1).kind;
    assert_eq!(kind(&[]), Kind::Broken);
    assert_eq!(kind(&[good("w")]), Kind::Unchanged);
    assert_eq!(kind(&[but("w", |w| w.location = "e".into())]), Kind::Broken);
    assert!(matches!(kind(&[but("w", |w| w.status = "disabled".into())]), Kind::Update(_)));
}

#[test]
fn what_differs_is_named_and_no_secret_with_it() {
    let uri = "https://app.example/api/ImagePush?region=e";
    let key = [("x-functions-key", KEY)];
    let cases: Vec<(Webhook, Vec<Difference>)> = vec![
        (but("e", |w| w.callback = sends(uri, &[("X-Functions-Key", KEY)])), vec![]),
        (but("e", |w| w.callback = sends(uri, &[])), vec![Difference::Header("x-functions-key".into(), Turn::Added)]),
        (
            but("e", |w| w.callback = sends(uri, &[("x-functions-key", "0ld-key")])),
            vec![Difference::Header("x-functions-key".into(), Turn::Changed)],
        ),
        (
            but("e", |w| w.callback = sends(uri, &[key[0], ("Authorization", "******")])),
            vec![Difference::Header("Authorization".into(), Turn::Removed)],
        ),
        (
            but("e", |w| w.callback = sends("https://u:0ld-key@old.example/x?code=0ld-key&region=w#0ld-key", &key)),
            vec![Difference::Url { from: "https://old.example/x?code=…&region=w".into(), to: uri.into() }],
        ),
        (
            but("e", |w| w.callback = sends("0ld-key", &key)),
            vec![Difference::Url { from: "(no URL)".into(), to: uri.into() }],
        ),
        (but("e", |w| w.callback = Callback::Unreadable), vec![Difference::Unreadable]),
        (but("e", |w| w.scope = "shop:*".into()), vec![Difference::Scope { from: "shop:*".into(), to: String::new() }]),
        (
            but("e", |w| w.actions.extend(["delete".to_owned()])),
            vec![Difference::Actions {
                from: ["push".to_owned(), "delete".into()].into(),
                to: ["push".to_owned()].into(),
            }],
        ),
        (but("e", |w| w.status = "disabled".into()), vec![Difference::Status("disabled".into())]),
        (but("e", |w| w.state = "Failed".into()), vec![Difference::State("Failed".into())]),
        (but("e", |w| w.name = "ACRGWE".into()), vec![]),
        (but("e", |w| drop(w.tags.insert("cost".into(), "7".into()))), vec![]),
    ];
    for (webhook, differences) in cases {
        let told = of_one(webhook.clone());
        let expected = if differences.is_empty() { Kind::Unchanged } else { Kind::Update(differences) };
        assert_eq!(told, expected, "{webhook:?}");
        let words = format!("{told:?}{webhook:?}");
        assert!(!words.contains(KEY) && !words.contains("0ld-key"), "{words}");
    }
}

#[test]
fn a_code_in_the_url_is_compared_and_not_shown() {
    let registry = registry(&["e"]);
    let coded = |code: &str| Template {
        url: Url::parse(&format!("https://app.example/api/ImagePush?code={code}")).unwrap(),
        key: None,
        ..template()
    };
    let made = wanted(&coded("new-key"), &set(), &registry);
    let kind = |uri: &str| {
        let webhook = but("e", |w| w.callback = sends(uri, &[]));
        plan(&made, &[webhook], &set(), &registry, false).remove(0).kind
    };
    let uri = "https://app.example/api/ImagePush?code=new-key&region=e";
    assert_eq!(kind(uri), Kind::Unchanged);
    assert_eq!(kind(&uri.replace("new", "old")), Kind::Update(vec![Difference::UrlSecret]));
    assert!(!format!("{made:?}").contains("new-key"));
}

#[test]
fn a_repository_alone_is_its_latest_tag() {
    for (one, other, same) in [("", "", true), ("a", "a:latest", true), ("a", "a:*", false), ("a/b", "a", false)] {
        assert_eq!(full_scope(one) == full_scope(other), same, "{one} {other}");
    }
}

#[test]
fn whose_a_webhook_is_follows_from_tag_and_name() {
    let untagged = |w: &mut Webhook| w.tags.clear();
    let cases = [
        // Not ours: never touched, even where its name is wanted.
        (but("e", untagged), Kind::Taken),
        (but("e", |w| w.tags = [("managed-by".to_owned(), "terraform".to_owned())].into()), Kind::Taken),
        // Tag names have no case, values do.
        (but("e", |w| w.tags = [("Managed-By".to_owned(), set().tag().1)].into()), Kind::Unchanged),
        (but("e", |w| w.tags = [(set().tag().0.to_owned(), set().tag().1.to_uppercase())].into()), Kind::Taken),
        // Another set's, by another prefix and another region.
        (but("e", |w| w.tags = Set::of("acrgwx").unwrap().tags(&w.tags)), Kind::Taken),
        // Ours, and where it cannot stay.
        (but("e", |w| w.location = "w".into()), Kind::Replace { location: "w".into() }),
    ];
    for (webhook, kind) in cases {
        assert_eq!(of_one(webhook.clone()), kind, "{webhook:?}");
    }
    let others = [
        // No replica there any more.
        (good("n"), Kind::Orphan, Kind::Delete),
        (but("n", untagged), Kind::Foreign { whose: Whose::Strangers }, Kind::Foreign { whose: Whose::Strangers }),
        // A set whose prefix begins like ours.
        (
            but("n", |w| w.name = "acrgwstagingn".into()),
            Kind::Foreign { whose: Whose::AnotherService },
            Kind::Foreign { whose: Whose::AnotherService },
        ),
        (
            but("n", |w| w.name = "other".into()),
            Kind::Foreign { whose: Whose::AnotherService },
            Kind::Foreign { whose: Whose::AnotherService },
        ),
    ];
    for (webhook, kept, pruned) in others {
        for (prune, kind) in [(false, &kept), (true, &pruned)] {
            let all = planned(&["e"], &[good("e"), webhook.clone()], prune);
            assert_eq!(all[1], (webhook.name.clone(), kind.clone()));
        }
    }
}

#[test]
fn removal_takes_the_sets_own_only() {
    let registry = registry(&["e", "w"]);
    let other = but("e", |w| w.callback = sends("https://other.example/api/ImagePush?region=e", &[]));
    let hidden = but("hidden", |w| w.callback = Callback::Unreadable);
    let (stranger, others) = (but("x", |w| w.tags.clear()), but("y", |w| w.name = "zy".into()));
    let actual = [other, good("w"), good("gone"), hidden, stranger, others];
    let kinds = |url: Option<&str>| {
        let url = url.map(|url| Url::parse(url).unwrap());
        let all = removal(&actual, &set(), &registry, url.as_ref());
        all.into_iter().map(|change| change.kind).collect::<Vec<_>>()
    };
    let foreign = |whose| Kind::Foreign { whose };
    let elsewhere = foreign(Whose::AnotherService);
    let rest = [foreign(Whose::Strangers), foreign(Whose::AnotherService)];
    let all = [Kind::Delete, Kind::Delete, Kind::Delete, Kind::Delete];
    assert_eq!(kinds(None), [&all[..], &rest].concat());
    let some = [elsewhere, Kind::Delete, Kind::Delete, foreign(Whose::Unknown)];
    assert_eq!(kinds(Some("https://app.example/api/ImagePush")), [&some[..], &rest].concat());
}

#[test]
fn names_fit_the_registrys_rules() {
    for not in ["", "ab", "a-b-c", "acr gw", "acrgw\u{e9}", &"x".repeat(21)] {
        assert!(Set::of(not).is_err(), "{not:?}");
    }
    let set = Set::of(&"x".repeat(20)).unwrap();
    assert_eq!(set.fits(&registry(&[&"y".repeat(30)])), Ok(()));
    // Cut, they would have one name.
    let twins = ["y".repeat(30) + "1", "y".repeat(30) + "2"];
    assert_ne!(set.name(&Region::parse(&twins[0]).unwrap()), set.name(&Region::parse(&twins[1]).unwrap()));
    assert!(set.fits(&registry(&["e", &twins[0], &twins[1]])).unwrap_err().contains("51 characters"));
}

#[test]
fn somebody_elses_tags_stay_when_a_webhook_is_made_anew() {
    let before = [("cost".to_owned(), "7".to_owned()), ("Managed-By".to_owned(), "x".to_owned())].into();
    let ours = ("managed-by".into(), "acr-global-webhook/acrgw".into());
    assert_eq!(set().tags(&before), [("cost".into(), "7".into()), ours].into());
}
