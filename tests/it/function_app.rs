//! The files by which the Functions host knows the app, held to what the code and the stand-in host take for granted.

use std::path::Path;
use std::time::Duration;

use global_webhook::config::{Source, timespan};
use global_webhook::store::azure::{Names, QUEUE};
use global_webhook::{http, poll};
use serde_json::{Value, json};

use crate::support::host::{HostOptions, QueueRules};
use crate::support::service;

const HOST: &str = include_str!("../../host.json");
const IMAGE_PUSH: &str = include_str!("../../ImagePush/function.json");
const DASHBOARD: &str = include_str!("../../Dashboard/function.json");
const PUSHES: &str = include_str!("../../Pushes/function.json");
const REGIONS: &str = include_str!("../../Regions/function.json");
const TIMEOUT_CHECK: &str = include_str!("../../TimeoutCheck/function.json");

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn length(value: &Value) -> Duration {
    timespan::parse(value.as_str().expect("a text")).expect("a length of time")
}

#[test]
fn the_host_gives_messages_back_as_serve_does() {
    let queues = &parse(HOST)["extensions"]["queues"];
    // As often as it takes: a message that fails is put back by the service itself, and nothing is given up.
    assert_eq!((&queues["maxDequeueCount"], service::MAX_DEQUEUE_COUNT), (&json!(i32::MAX), 2_147_483_647));
    assert_eq!(
        (length(&queues["visibilityTimeout"]), poll::RELEASE_AFTER),
        (poll::RELEASE_AFTER, Duration::from_secs(30))
    );
    assert_eq!((length(&queues["maxPollingInterval"]), poll::PAUSE_MAX), (poll::PAUSE_MAX, Duration::from_secs(2)));
    // As the timers are written, which the queue's own tests show.
    assert_eq!(queues["messageEncoding"], "base64");
}

#[test]
fn the_queue_function_is_bound_to_the_timers() {
    let trigger = &parse(TIMEOUT_CHECK)["bindings"];
    let rules = QueueRules::default();
    assert_eq!(
        *trigger,
        json!([{
            "type": "queueTrigger", "direction": "in", "name": rules.binding, "queueName": QUEUE,
            "connection": "AzureWebJobsStorage",
        }])
    );
    assert_eq!((rules.function.as_str(), service::QUEUE), ("TimeoutCheck", QUEUE));
    // The handler reads the name where the host does, and puts what nobody can handle where the host would.
    let names = Names::read(Path::new(env!("CARGO_MANIFEST_DIR")), &Source::default()).expect("names");
    assert_eq!((names.clone(), names.poison), (Names::default(), format!("{QUEUE}-poison")));
}

#[test]
fn requests_are_forwarded_to_the_built_program_under_its_prefix() {
    let host = parse(HOST);
    assert_eq!(host["extensions"]["http"]["routePrefix"], http::PREFIX);
    let handler = &host["customHandler"];
    // Without it the host sends envelopes, to paths without the prefix.
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    let program = Path::new(env!("CARGO_BIN_EXE_global-webhook")).file_name().and_then(|name| name.to_str());
    assert_eq!(handler["description"]["defaultExecutablePath"].as_str(), program);
    assert_eq!(handler["description"].get("arguments"), None, "without arguments it is the handler");
}

#[test]
fn the_page_is_for_everybody_and_its_fragments_fit_the_operators_route() {
    let trigger = &parse(DASHBOARD)["bindings"][0];
    assert_eq!((&trigger["authLevel"], &trigger["route"]), (&json!("anonymous"), &json!("dashboard")));
    assert_eq!(trigger["methods"], json!(["get"]));
    // `page/push/{id}` has three parts, and no push is called `page`.
    assert_eq!(parse(PUSHES)["bindings"][0]["route"], "pushes/{id?}/{operation?}/{argument?}");
    assert!("page".parse::<global_webhook::push::PushId>().is_err());
}

#[test]
fn the_http_functions_have_the_routes_of_the_stand_in_host() {
    let mut routes = Vec::new();
    for (name, text) in [("ImagePush", IMAGE_PUSH), ("Pushes", PUSHES), ("Regions", REGIONS)] {
        let function = parse(text);
        let [trigger, answer] = &function["bindings"].as_array().expect("bindings")[..] else {
            panic!("{name}: {function}")
        };
        assert_eq!((&trigger["type"], &trigger["direction"]), (&json!("httpTrigger"), &json!("in")), "{name}");
        assert_eq!((&answer["type"], &answer["direction"]), (&json!("http"), &json!("out")), "{name}");
        assert_eq!(trigger["authLevel"], "function", "{name}");
        let methods: Vec<String> = serde_json::from_value(trigger["methods"].clone()).expect("methods");
        let methods: Vec<String> = methods.iter().map(|method| method.to_uppercase()).collect();
        routes.push((trigger["route"].as_str().unwrap_or(name).to_owned(), methods));
    }
    let stand_in = HostOptions::attached(0).routes;
    let stand_in: Vec<_> = stand_in.iter().map(|route| (route.template(), route.methods().to_vec())).collect();
    assert_eq!(routes, stand_in);
}
