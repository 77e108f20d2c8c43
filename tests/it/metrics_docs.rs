//! What is written about metrics is what is served: docs/metrics.md, and the dashboard beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::metrics::scrape;
use crate::support::service::Serve;

fn document(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// What is served: names with their type and labels; those that a query may use, buckets and all; and values of labels.
struct Served {
    metrics: BTreeMap<String, (String, BTreeSet<String>)>,
    series: BTreeSet<String>,
    values: BTreeMap<String, BTreeSet<String>>,
}

async fn served() -> Served {
    let settings = [("WebhookRegions", "east"), ("WebhookTargetUrl", "http://127.0.0.1:9/")];
    let serve = Serve::start(&settings, &[]).await;
    let text = scrape(&serve.base_url()).await;
    let mut served = Served { metrics: BTreeMap::new(), series: BTreeSet::new(), values: BTreeMap::new() };
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            (family, kind) = described.split_once(' ').expect("a name and a type");
        }
        if line.starts_with('#') {
            continue;
        }
        let (sample, _) = line.rsplit_once(' ').expect("a value");
        let (series, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let labels: Vec<_> =
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).collect();
        served.series.insert(series.to_owned());
        let named = if kind == "histogram" { family } else { series };
        let shown = if kind == "info" { "gauge" } else { kind };
        let (_, names) = served.metrics.entry(named.to_owned()).or_insert_with(|| (shown.to_owned(), BTreeSet::new()));
        for (name, value) in labels {
            if name != "le" {
                names.insert(name.to_owned());
            }
            served.values.entry(name.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    served
}

/// Names of ours in a text.
fn named(text: &str) -> BTreeSet<String> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let names = text.split(ends).filter(|word| word.starts_with("global_webhook_"));
    names.map(str::to_owned).collect()
}

/// Words between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_what_is_served() {
    let served = served().await;
    let document = document("metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `global_webhook_"));
    let table: BTreeMap<String, (String, BTreeSet<String>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let name = format!("global_webhook_{}", cells[0].trim_end_matches('`'));
            (name, (cells[1].to_owned(), quoted(cells[2])))
        })
        .collect();
    assert_eq!(table, served.metrics);
    // Words of the steps and attempts that are there from the start are all explained.
    let words = quoted(&document);
    for label in ["result", "outcome", "kind"] {
        for value in served.values[label].iter().filter(|value| !value.contains("table") && !value.contains("queue")) {
            assert!(words.contains(value), "{label} {value} is nowhere explained");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboard_name_what_is_there() {
    let served = served().await;
    let document = document("metrics.md");
    let rules = document.split("```yaml").find(|part| part.contains("alert:")).expect("rules");
    let rules = rules.split("```").next().expect("an end");
    let dashboard: Value = serde_json::from_str(&self::document("grafana-dashboard.json")).expect("JSON");
    let mut queries = String::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(panel["type"] == "row" || !targets.is_empty(), "{panel}");
        for target in targets {
            queries += target["expr"].as_str().expect("an expression");
            queries.push('\n');
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        queries += variable["definition"].as_str().unwrap_or_default();
        queries.push('\n');
    }
    for (what, text) in [("rules", rules), ("dashboard", &queries)] {
        let names = named(text);
        let strange: Vec<_> = names.difference(&served.series).collect();
        assert!(strange.is_empty(), "{what}: {strange:?}");
        // Labels that a query picks by, and groups by.
        let labels = text
            .split(['{', '(', ','])
            .filter_map(|part| part.split_once('='))
            .map(|(label, _)| label.trim_end_matches('!').trim());
        for label in labels.filter(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase())) {
            assert!(served.values.contains_key(label) || label == "job", "{what}: label {label}");
        }
    }
    // The dashboard leaves nothing out.
    let shown = named(&queries);
    for (name, (kind, _)) in &served.metrics {
        let name = if kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
        assert!(shown.contains(&name), "{name} is not on the dashboard");
    }
}
