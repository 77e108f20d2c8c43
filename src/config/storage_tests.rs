use proptest::prelude::*;

use super::*;
use crate::config::connection_string::EMULATOR;

const KEY: &str = "c2VjcmV0LWFjY291bnQta2V5LW9mLXRlc3Rz";

fn read(pairs: &[(&str, &str)]) -> (Option<Account>, Vec<Fault>) {
    let source = Source::new(pairs.iter().copied());
    let mut faults = Vec::new();
    let account = account(&source, &mut faults);
    (account, faults)
}

fn good(text: &str) -> Account {
    let (account, faults) = read(&[(SETTING, text)]);
    assert_eq!(faults, [], "{text}");
    account.unwrap()
}

fn bad(pairs: &[(&str, &str)]) -> String {
    let (account, faults) = read(pairs);
    assert_eq!(account, None);
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_given_is_no_fault() {
    assert_eq!(read(&[]), (None, vec![]));
    assert_eq!(read(&[(SETTING, "  "), ("IDENTITY_ENDPOINT", "http://x")]), (None, vec![]));
}

#[test]
fn the_usual_connection_string() {
    let account = good(&format!(
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn"
    ));
    assert_eq!(account.name, "acct");
    assert_eq!(account.tables, "https://acct.table.core.chinacloudapi.cn");
    assert_eq!(account.queues, "https://acct.queue.core.chinacloudapi.cn");
    assert_eq!(account.credential, Credential::SharedKey(KEY.into()));
}

#[test]
fn keys_have_no_case_and_the_rest_has_defaults() {
    let account = good(" accountname = acct ; ACCOUNTKEY=YWI=; ;BlobEndpoint=whatever;");
    assert_eq!(account.credential, Credential::SharedKey("YWI=".into()));
    assert_eq!(account.tables, "https://acct.table.core.windows.net");
}

#[test]
fn explicit_endpoints_lose_their_slash() {
    let account = good(&format!(
        "AccountName=any;AccountKey={KEY};TableEndpoint=http://h:1/any/;QueueEndpoint=https://q.example.com/"
    ));
    assert_eq!((account.tables.as_str(), account.queues.as_str()), ("http://h:1/any", "https://q.example.com"));
}

#[test]
fn signatures_with_and_without_question_mark() {
    for mark in ["", "?"] {
        let account = good(&format!(
            "TableEndpoint=https://acct.table.core.windows.net;QueueEndpoint=https://acct.queue.core.windows.net;\
             SharedAccessSignature={mark}sv=2022-11-02&sig=abc%3D"
        ));
        assert_eq!(account.name, "acct");
        assert_eq!(account.credential, Credential::Sas("sv=2022-11-02&sig=abc%3D".into()));
    }
}

#[test]
fn the_emulator() {
    let account = good("usedevelopmentstorage=True;");
    assert_eq!(account.tables, "http://127.0.0.1:10002/devstoreaccount1");
    assert_eq!(account.queues, "http://127.0.0.1:10001/devstoreaccount1");
    assert!(is_loopback(&account.tables));
}

#[test]
fn case_b3_every_part_is_used_or_refused_by_name() {
    for (host, at) in [
        ("http://127.0.0.2", "http://127.0.0.2"),
        ("HTTP://azurite/", "http://azurite"),
        ("http://[::1]", "http://[::1]"),
    ] {
        let account = good(&format!("UseDevelopmentStorage=true;DevelopmentStorageProxyUri={host}"));
        assert_eq!(account.tables, format!("{at}:10002/devstoreaccount1"));
        assert_eq!(account.queues, format!("{at}:10001/devstoreaccount1"));
    }
    let whole = "AccountName=acct;AccountKey=aaaa;";
    for (text, words) in [
        ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://h:1", "DevelopmentStorageProxyUri holds more"),
        ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=h", "DevelopmentStorageProxyUri is not a URL"),
        ("UseDevelopmentStorage=true;AccountName=acct", "AccountName has no effect beside UseDevelopmentStorage"),
        (&format!("{whole}DevelopmentStorageProxyUri=http://h"), "has no effect without UseDevelopmentStorage=true"),
        (&format!("{whole}TableSecondaryEndpoint=http://h"), "part 3 (\"TableSecondaryEndpoint\") is not used"),
        (&format!("{whole}SharedAccessSignature=sig=x"), "both AccountKey and SharedAccessSignature"),
        ("AcountName=acct;AccountKey=aaaa", "part 1 (\"AcountName\") is misspelt: write AccountName"),
    ] {
        let shown = bad(&[(SETTING, text)]);
        assert!(shown.contains(words) && !shown.contains('\n'), "{text}: {shown}");
    }
    // The name of a part may be a key itself.
    assert_eq!(
        bad(&[(SETTING, &format!("{whole}{KEY}=="))]),
        "AzureWebJobsStorage: part 3 is not used by this service: take it out"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let shown = bad(&[(
        SETTING,
        "AccountName=acct;AccountKey=#;DefaultEndpointsProtocol=ftp;TableEndpoint=x;Colour=red;hello",
    )]);
    assert_eq!(shown.lines().count(), 5, "{shown}");
    let shown = bad(&[
        ("AzureWebJobsStorage__accountName", "No!"),
        ("AzureWebJobsStorage__credential", "key"),
        ("AzureWebJobsStorage__tenantId", "x"),
    ]);
    assert_eq!(shown.lines().count(), 4, "{shown}");
}

#[test]
fn case_b4_every_name_is_used_or_refused() {
    let (account, name) =
        (("AzureWebJobsStorage__accountName", "acct"), "AzureWebJobsStorage__managedIdentityResourceId");
    let token = [("IDENTITY_ENDPOINT", "http://localhost:4141/msi/token"), ("IDENTITY_HEADER", "proof")];
    let with = |more: &[(&str, &str)]| bad(&[&token[..], &[account], more].concat());
    let refused = with(&[(name, "/subscriptions/s3cret")]);
    assert!(refused.starts_with(&format!("{name}: is not used by this service, which knows")), "{refused}");
    assert!(refused.contains("clientId") && !refused.contains("s3cret"), "{refused}");
    assert_eq!(
        with(&[("AzureWebJobsStorage:cleintId", "x")]),
        "AzureWebJobsStorage:cleintId: is misspelt: write AzureWebJobsStorage__clientId"
    );
    // The host's own, which stands beside ours.
    assert_eq!(read(&[&token[..], &[account, ("AzureWebJobsStorage__blobServiceUri", "https://x")]].concat()).1, []);
    assert!(bad(&[("AzureWebJobsStorage__blobServiceUri", "https://x")]).contains("tableServiceUri: is missing"));
}

#[test]
fn faults_say_what_would_be_right() {
    let cases = [
        ("hello", "is no connection string"),
        ("AccountName=acct;hello;AccountKey=aaaa", "part 2 has no ="),
        ("AccountName=acct", "neither AccountKey nor SharedAccessSignature"),
        ("AccountName=acct;AccountKey=#", "not base64"),
        ("AccountKey=aaaa", "no AccountName"),
        ("AccountName=acct;AccountName=b;AccountKey=aaaa", "part 2 repeats"),
        ("AccountName=ACCT;AccountKey=aaaa", "lower-case letters and digits"),
        ("AccountName=acct;AccountKey=aaaa;EndpointSuffix=core/x", "EndpointSuffix"),
        ("AccountName=acct;AccountKey=aaaa;DefaultEndpointsProtocol=ftp", "neither https nor http"),
        ("AccountName=acct;AccountKey=aaaa;TableEndpoint=acct", "TableEndpoint is not a URL"),
        ("AccountName=acct;AccountKey=aaaa;QueueEndpoint=https://h/?sig=x", "SharedAccessSignature"),
        ("AccountName=acct;SharedAccessSignature=sv=1", "no sig="),
        ("SharedAccessSignature=sv=1&sig=x", "neither AccountName nor TableEndpoint"),
        ("AccountName=a\nb;AccountKey=aaaa;TableEndpoint=http://t;QueueEndpoint=http://q", "visible ASCII"),
        ("SharedAccessSignature=sig=x;TableEndpoint=http://.t;QueueEndpoint=http://q", "visible ASCII"),
        ("UseDevelopmentStorage=yes", "can only be true"),
    ];
    for (text, words) in cases {
        let shown = bad(&[(SETTING, text)]);
        assert!(shown.contains(words), "{text}: {shown}");
    }
}

#[test]
fn identity_forms() {
    let token = [("IDENTITY_ENDPOINT", "http://localhost:4141/msi/token"), ("IDENTITY_HEADER", "proof")];
    let with = |more: &[(&str, &str)]| read(&[&token[..], more].concat());
    let (account, faults) = with(&[("AzureWebJobsStorage__accountName", "acct")]);
    assert_eq!(faults, []);
    let account = account.unwrap();
    assert_eq!(account.queues, "https://acct.queue.core.windows.net");
    assert!(matches!(account.credential, Credential::Identity(Identity { client_id: None, .. })));
    let (account, faults) = with(&[
        ("AzureWebJobsStorage__tableServiceUri", "https://acct.table.core.usgovcloudapi.net/"),
        ("AZUREWEBJOBSSTORAGE__QUEUESERVICEURI", "https://acct.queue.core.usgovcloudapi.net"),
        ("AzureWebJobsStorage__credential", "managedIdentity"),
        ("AzureWebJobsStorage__clientId", "abc"),
    ]);
    assert_eq!(faults, []);
    let account = account.unwrap();
    assert_eq!((account.name.as_str(), account.tables.ends_with('/')), ("acct", false));
    assert!(matches!(account.credential, Credential::Identity(Identity { client_id: Some(id), .. }) if id == "abc"));
}

#[test]
fn a_connection_string_and_the_identity_form_exclude_each_other() {
    assert_eq!(good("UseDevelopmentStorage=true").name, EMULATOR);
    let both = bad(&[(SETTING, "UseDevelopmentStorage=true"), ("AzureWebJobsStorage__accountName", "acct")]);
    assert!(both.contains("__accountName: has no effect beside AzureWebJobsStorage"), "{both}");
}

#[test]
fn identity_faults() {
    assert!(bad(&[("AzureWebJobsStorage__accountName", "acct")]).contains("IDENTITY_ENDPOINT"));
    assert!(bad(&[("AzureWebJobsStorage__accountName", "No!")]).contains("lower-case"));
    assert!(bad(&[("AzureWebJobsStorage__tableServiceUri", "https://a.b")]).contains("queueServiceUri: is missing"));
    assert!(bad(&[("AzureWebJobsStorage__credential", "managedidentity")]).contains("tableServiceUri: is missing"));
    let plain = [("AzureWebJobsStorage__tableServiceUri", "http://a.b"), ("AzureWebJobsStorage__accountName", "acct")];
    assert!(bad(&plain).contains("https://"));
    for hidden in ["HTTP://a.b", "ht\ttp://a.b", "Http:a.b"] {
        let hidden = [("AzureWebJobsStorage__tableServiceUri", hidden), ("AzureWebJobsStorage__accountName", "acct")];
        assert!(bad(&hidden).contains("in the clear"), "{hidden:?}");
    }
    let other = [("AzureWebJobsStorage__accountName", "acct"), ("AzureWebJobsStorage__credential", "workload")];
    assert!(bad(&other).contains("only managedidentity"));
}

#[test]
fn nothing_secret_is_shown() {
    let account = good(&format!("AccountName=acct;AccountKey={KEY}"));
    assert!(!format!("{account} {account:?} {:?}", account.credential).contains(KEY));
    let identity = Identity { client_id: None, endpoint: "http://x".into(), header: "proof".into() };
    assert!(!format!("{identity:?}").contains("proof"));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic_or_leak(head in ".{0,40}", tail in ".{0,40}", joint in "[;=?&/:]{0,3}") {
        let text = format!("{head}{joint}AccountKey={KEY}{joint}{tail}");
        let (account, faults) = read(&[(SETTING, &text)]);
        prop_assert!(account.is_some() == faults.is_empty());
        for fault in faults {
            prop_assert!(!fault.to_string().contains(KEY));
        }
        if let Some(account) = account {
            let shown = format!("{account:?}");
            prop_assert!(!shown.contains(KEY));
        }
    }

    #[test]
    fn any_parts_are_read_without_panic_or_leak(
        parts in prop::collection::vec(("(?i)(accountname|accountkey|tableendpoint|queueendpoint|endpointsuffix|sharedaccesssignature|defaultendpointsprotocol)", ".{0,20}"), 0..6)
    ) {
        let text: Vec<String> = parts.iter().map(|(k, v)| format!("{k}={KEY}{v}")).collect();
        for fault in read(&[(SETTING, &text.join(";"))]).1 {
            prop_assert!(!fault.to_string().contains(KEY));
        }
    }
}
