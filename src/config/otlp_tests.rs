use super::*;

fn read(pairs: &[(&str, &str)]) -> (Option<Options>, Vec<String>) {
    let source = Source::new(pairs.iter().copied());
    let mut warnings = Vec::new();
    let options = options(&source, &mut warnings);
    (options, warnings)
}

fn addresses(options: Option<Options>) -> [Option<String>; 2] {
    let Some(Options { traces, metrics, .. }) = options else { return [None, None] };
    [traces, metrics].map(|url| url.map(|url| url.to_string()))
}

#[test]
fn each_signal_has_its_address() {
    let both = |base: &str| [Some(format!("{base}/v1/traces")), Some(format!("{base}/v1/metrics"))];
    for (given, base) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("https://otlp.example/api/otlp/", "https://otlp.example/api/otlp"),
    ] {
        let (options, warnings) = read(&[(ENDPOINT, given)]);
        assert_eq!((addresses(options), warnings), (both(base), vec![]), "{given}");
    }
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces.example/in");
    assert_eq!(addresses(read(&[own]).0), [Some(own.1.to_owned()), None]);
    let (options, warnings) = read(&[(ENDPOINT, "http://c:4318"), ("OTEL_METRICS_EXPORTER", "none")]);
    assert_eq!((addresses(options), warnings), ([Some("http://c:4318/v1/traces".to_owned()), None], vec![]));
    for off in [&[][..], &[(ENDPOINT, "")], &[(ENDPOINT, "http://c:4318"), ("OTEL_SDK_DISABLED", "true")]] {
        let (options, warnings) = read(off);
        assert!(options.is_none() && warnings.is_empty(), "{off:?}");
    }
}

#[test]
fn what_is_wrong_is_a_warning_without_its_value() {
    for (pairs, word) in [
        (&[(ENDPOINT, "s3cret")][..], "no http or https URL"),
        (&[(ENDPOINT, "grpc://u:s3cret@c:4317")], "no http or https URL"),
        (&[(ENDPOINT, "http://")], "no http or https URL"),
        (&[(ENDPOINT, "@Microsoft.KeyVault(SecretUri=https://s3cret)")], "was not resolved"),
        (&[(ENDPOINT, "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf"),
        (&[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret")], "part 2"),
        (&[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret")], "part 1"),
        (&[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret%0a")], "part 1"),
        (&[(ENDPOINT, "http://c"), ("OTEL_TRACES_SAMPLER", "sometimes")], "`always_on`"),
        (
            &[(ENDPOINT, "http://c"), ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")],
            "0 to 1",
        ),
        (&[(ENDPOINT, "http://c"), ("OTEL_METRIC_EXPORT_INTERVAL", "1s")], "milliseconds"),
        (&[(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], "milliseconds"),
    ] {
        let (_, warnings) = read(pairs);
        let [warning] = &warnings[..] else { panic!("{pairs:?}: {warnings:?}") };
        assert!(warning.contains(word) && !warning.contains("s3cret"), "{pairs:?}: {warning}");
    }
}

#[test]
fn headers_and_attributes_are_pairs() {
    let (options, warnings) = read(&[
        (ENDPOINT, "http://c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20a+b%3D%3D, x-key = v&w ,"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=a"),
        ("OTEL_SERVICE_NAME", "b"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    assert_eq!(warnings, [""; 0]);
    let options = options.unwrap();
    let header = |name: &str| options.headers.get(name).map(|value| (value.to_str().unwrap(), value.is_sensitive()));
    assert_eq!(header("authorization"), Some(("Basic a+b==", true)));
    assert_eq!(header("x-key"), Some(("v&w", true)));
    let attribute = |name: &str| {
        let values: Vec<_> =
            options.resource.iter().filter(|(known, _)| known == name).map(|(_, v)| v.as_str()).collect();
        let [value] = values[..] else { panic!("{name}: {values:?}") };
        value
    };
    assert_eq!((attribute("service.name"), attribute("deployment.environment.name")), ("b", "test"));
    assert_eq!(attribute("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(options.sampler, Sampler { ratio: 0.25, parent_based: true });
    assert!(!format!("{options:?}").contains("a+b"), "a header's value is in {options:?}");
}
