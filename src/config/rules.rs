//! `WebhookRules`: exceptions for some pushes, the first match wins.

use std::time::Duration;

use super::members::{Members, elements, shortened};
use super::regions::region;
use super::{Fault, Source};
use crate::limits;
use crate::push::Region;
use crate::push::policy::{Filter, Rule, Verdict};

const SETTING: &str = "WebhookRules";

/// The rules, in the order of the setting: a JSON array of objects with `name`, the conditions `repository`, `tag`,
/// `actions` and `tagged` (all that are given must hold), and either `ignore: true` or any of `regions` and `timeout`.
/// Every fault is added to `faults`; a rule with a fault is left out, so the result counts only when there are none.
pub fn rules(source: &Source, faults: &mut Vec<Fault>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, value) in elements(source, SETTING, limits::RULES_MAX, faults).into_iter().enumerate() {
        let number = index + 1;
        let place = match Members::peek(&value, "name") {
            Some(name) => format!("{SETTING}, rule {number} `{name}`"),
            None => format!("{SETTING}, rule {number}"),
        };
        if rules.iter().any(|earlier: &Rule| earlier.filter == Filter::default()) {
            faults.push(Fault::hidden(&place, "never applies: a rule before it is for every push"));
        }
        let before = faults.len();
        let rule = Members::of(place, value, faults).map(|members| rule(members, number));
        if faults.len() == before {
            rules.extend(rule);
        }
    }
    rules
}

fn rule(mut members: Members<'_>, number: usize) -> Rule {
    let name = members.text("name").unwrap_or_else(|| format!("rule {number}"));
    if name.len() > limits::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        members.fault(
            "name",
            format!("must have at most {} bytes, none of them control characters", limits::NAME_BYTES_MAX),
        );
    }
    let filter = members.filter();
    let ignore = members.flag("ignore").unwrap_or(false);
    let regions = members.texts("regions").map(|names| regions(&mut members, &names));
    let timeout = members.text("timeout").and_then(|text| timeout(&mut members, &text));
    if ignore && (regions.is_some() || timeout.is_some()) {
        members.fault("ignore", "an ignored push waits for nothing: leave out `regions` and `timeout`");
    }
    members.finish();
    let verdict = if ignore { Verdict::Ignore } else { Verdict::FanIn { regions, timeout } };
    Rule { name, filter, verdict }
}

fn regions(members: &mut Members<'_>, names: &[String]) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for name in names {
        match region(name) {
            Ok(region) if regions.contains(&region) => {
                members.fault("regions", format!("names region `{region}` twice"));
            }
            Ok(region) => regions.push(region),
            Err(problem) => {
                let at = members.at("regions");
                members.faults.push(Fault::of(at, &shortened(name), problem));
            }
        }
    }
    if regions.len() > limits::REGIONS_MAX {
        members.fault("regions", format!("names {} regions; {} are allowed", regions.len(), limits::REGIONS_MAX));
    }
    regions
}

fn timeout(members: &mut Members<'_>, text: &str) -> Option<Duration> {
    let at = members.at("timeout");
    super::parse_timeout(text).map_err(|problem| members.faults.push(Fault::of(at, text, problem))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Vec<Rule>, Vec<String>) {
        let source = Source::new([(SETTING, json)]);
        let mut faults = Vec::new();
        let rules = rules(&source, &mut faults);
        (rules, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rules_are_read() {
        let (rules, faults) = read(
            r#"[{"name":"quiet","repository":"tmp/**","ignore":true},
                {"tag":"v*","actions":["push","delete"],"tagged":true,"regions":"West US, eastus","timeout":"0:0:9"},
                {"action":"delete","regions":["a"]}, {"repository":"{a,b}/*"}]"#,
        );
        assert_eq!(faults, [""; 0]);
        assert_eq!(rules.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["quiet", "rule 2", "rule 3", "rule 4"]);
        assert_eq!(rules[0].verdict, Verdict::Ignore);
        let regions = ["westus", "eastus"].map(|r| Region::parse(r).unwrap()).to_vec();
        assert_eq!(rules[1].verdict, Verdict::FanIn { regions: Some(regions), timeout: Some(Duration::from_secs(9)) });
        assert_eq!(
            rules[1].filter,
            Filter {
                repository: None,
                tag: Some("v*".into()),
                actions: vec!["push".into(), "delete".into()],
                tagged: Some(true)
            }
        );
        assert_eq!(rules[3].verdict, Verdict::FanIn { regions: None, timeout: None });
        assert_eq!(read("").0, []);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let (rules, faults) = read(
            r#"[{"name":"a","repositry":"x"}, {"tag":"[a","actions":"pull","timeout":"soon"}, {"regions":["a","A",""]},
                {"ignore":true,"timeout":"PT5S"}, 7, {"ignore":"yes","timeout":5,"tagged":1}, {"timeout":"0"},
                {"regions":["a","A"]}]"#,
        );
        assert_eq!(rules, []);
        insta::assert_snapshot!(faults.join("\n"));
        for bad in ["{}", "[", "\"x\""] {
            assert_eq!(read(bad).1.len(), 1, "{bad}");
        }
        assert_eq!(read(&format!("[{}]", vec!["{}"; 101].join(","))).1.len(), 1);
        assert_eq!(read(&format!(r#"[{{"tag":"{}"}}]"#, "x".repeat(256))).1.len(), 1);
    }
}
