use proptest::prelude::*;

use super::*;

const KEY: &str = "c2VjcmV0LWFjY291bnQta2V5LW9mLXRlc3Rz";

fn read(pairs: &[(&str, &str)]) -> (Option<Account>, Vec<Fault>) {
    let source = Source::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
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
    assert_eq!(faults.len(), 1);
    faults[0].to_string()
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
    for text in ["UseDevelopmentStorage=true", "usedevelopmentstorage=True;DevelopmentStorageProxyUri=http://10.0.0.1;"]
    {
        let account = good(text);
        assert_eq!(account.tables, "http://127.0.0.1:10002/devstoreaccount1");
        assert_eq!(account.queues, "http://127.0.0.1:10001/devstoreaccount1");
        assert!(is_loopback(&account.tables));
    }
}

#[test]
fn faults_say_what_would_be_right() {
    let cases = [
        ("hello", "part 1 has no ="),
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
fn a_connection_string_wins_over_the_identity_form() {
    let (account, faults) =
        read(&[(SETTING, "UseDevelopmentStorage=true"), ("AzureWebJobsStorage__accountName", "acct")]);
    assert_eq!(faults, []);
    assert_eq!(account.unwrap().name, EMULATOR);
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
        prop_assert!(account.is_some() != (faults.len() == 1));
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
