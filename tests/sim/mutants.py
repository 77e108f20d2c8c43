#!/usr/bin/env python3
"""Shows that the simulation bites: breaks the code on purpose, one patch at a time, and runs seeds until one fails, and
the stories for what seeds meet too seldom.

Needs Python 3 beside what the build needs; takes two to ten minutes on two cores.

Usage: tests/sim/mutants.py [name ...]      MUTANT_SEEDS=1000 is the number of seeds each mutant may survive
Exit code 0 only when every patch applies, the unpatched code passes, and every mutant is caught.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = int(os.environ.get("MUTANT_SEEDS", "1000"))
ENGINE, COVERING, STEP, ROUNDS = "src/engine.rs", "src/engine/cover.rs", "src/push/step.rs", "src/push/rounds.rs"
STATE, LIMITS = "src/push/state.rs", "src/limits.rs"

COVER = """\
            let replaced = match self.cover(&mut next, wake, rearm, &mut held, &expected, now).await {
                Ok(replaced) => replaced,
                Err(cause) => {
                    self.drop_spare(held).await;
                    return Err(cause);
                }
            };
"""
PUT = "            match self.commit(&next, &expected, &mut held).await? {\n"
JOBS = "jobs.extend(claims.into_iter().map(|claim| Job { row: Arc::clone(&stored.row), claim }));"

# name: [(file, text that stands there exactly once, text to put in its place), ...]
MUTANTS = {
    "none": [],
    "commit before arm": [(ENGINE, COVER + PUT, """
            let bare = crate::push::state::TimerRef { id: "later".into(), receipt: String::new(), due: now };
            let bare = Row { timer: wake.map(|due| crate::push::state::TimerRef { due, ..bare }), ..next.clone() };
            let mut replaced = None;
            let mut put = self.store.put(&bare, &expected).await?;
            if let Put::Written(version) = put {
                replaced = self.cover(&mut next, wake, rearm, &mut held, &expected, now).await?;
                put = self.store.put(&next, &Expected::Version(version)).await?;
            }
            match put {
""")],
    "no compare-and-swap": [("src/store/memory.rs", "if !fits {", "if !fits && rows_are_guarded() {"),
                            ("src/store/memory.rs", "fn versioned(", "fn rows_are_guarded() -> bool {\n    false\n}\n\nfn versioned(")],
    "no backstop behind a delivery": [(COVERING, "let Some(wake) = wake else {", "let Some(wake) = wake.filter(|_| next.settled().is_none()) else {")],
    "backstop only in the row": [(COVERING, "if let Some(timer) = current.filter(|t| t.due > wake) {", "if let Some(timer) = current.filter(|t| t.due > wake) {\n            if next.settled().is_some() {\n                next.timer = Some(TimerRef { due, ..timer });\n                return Ok(None);\n            }")],
    "answer before commit": [(ENGINE, PUT, "            if matches!(input, Input::Arrival(_)) && !again && claims.is_empty() {\n                return Ok(Done { what, row: Some(Arc::new(next)), jobs });\n            }\n" + PUT)],
    "deliver before commit": [(ENGINE, PUT, "            " + JOBS.replace("into_iter()", "iter().cloned()").replace("Arc::clone(&stored.row)", "Arc::new(next.clone())") + "\n" + PUT),
                              (ENGINE, "                    " + JOBS + "\n", "")],
    "trust a remembered row": [(ENGINE, "                if !fresh {\n", "                if !fresh && false {\n")],
    "disarm before commit": [(ENGINE, PUT, "            if let Some(old) = replaced.clone() {\n                let _ = self.timers.disarm(&crate::timers::Armed { id: old.id, receipt: old.receipt }).await;\n            }\n" + PUT)],
    "shift later before commit": [(COVERING, "if let Some(timer) = current.filter(|t| t.due > wake) {", "if let Some(timer) = current {")],
    "no second look at an unseen push": [(ENGINE, "matches!(done.what, What::UnknownPush | What::Ahead) && timer.reason != Reason::Unseen", "matches!(done.what, What::Ahead) && timer.reason != Reason::Unseen")],
    "no second look at a timer ahead of its row": [(ENGINE, "What::UnknownPush | What::Ahead) &&", "What::UnknownPush) &&")],
    "a timer ahead of its row is a spare": [(STEP, "if fired.revision > row.revision {", "if false && fired.revision > row.revision {")],
    "reuse a living lease": [(STEP, "if now < lease_until.unwrap_or(*not_before) {", "if now < *not_before {")],
    "leases too short for an attempt": [(LIMITS, "pub const LEASE_MARGIN: Duration = Duration::from_secs(15);", "pub const LEASE_MARGIN: Duration = Duration::from_secs(0);")],
    "a new id for every attempt": [(STATE, "let opened = self.opened.timestamp_millis();", "let opened = self.updated.timestamp_millis();")],
    "settle before the deadline": [(STEP, "Phase::Waiting if now >= row.deadline =>", "Phase::Waiting if now >= row.opened =>")],
    "settle late arrivals as in time": [(STEP, "if arrival.received >= row.deadline ||", "if false ||")],
    "a spare never dies": [(STEP, "if in_charge.is_some_and(|timer| now < clock::after(timer.due, limits::SPARE_PATIENCE)) {", "if false {")],
    "the timer in charge is a spare": [(STEP, "!in_charge.is_some_and(|timer| called(&timer.id))", "!in_charge.is_some_and(|timer| called(&timer.id) && timer.due <= now)")],
    "a spare does not come again": [(ENGINE, "if let (What::Spare, Some(due)) = (", "if let (What::Early, Some(due)) = (")],
    "spilled arrivals are lost": [(ENGINE, "let spill = self.timers.arm(&message, Duration::from_secs(1));", "let spill = async { Ok::<(), Failure>(()) };")],
    "a spilled arrival guesses": [(ENGINE, "self.run(Of::Spilled(&key)", "self.run(Of::Newest(&key)")],
    "a repeated input is not repeated": [(ENGINE, "if !again {", "if !again || true {")],
    "no budget for an arrival": [(LIMITS, "pub const ARRIVAL_ROW_BUDGET: Duration = Duration::from_millis(1200);", "pub const ARRIVAL_ROW_BUDGET: Duration = Duration::from_millis(6000);")],
    # Two remedies for one race, each of which hides the lack of the other most of the time.
    "trust a timer that fired before the commit": [
        (COVERING, "if delay <= limits::EARLY_TIMER_WAIT {\n                // After", "if false {\n                // After"),
        (ENGINE, "What::UnknownPush | What::Ahead) &&", "What::UnknownPush) &&")],
    "a timer is used for another write": [(COVERING, "        let reason = if next", "        if let Some(held) = held.as_ref().filter(|h| h.new && h.timer.due <= wake) {\n            index.await?;\n            return Ok(next.timer.replace(held.timer.clone()).filter(|old| old.id != held.timer.id));\n        }\n        let reason = if next")],
    "a second look stands in for whichever is named": [(ENGINE, "{ timer.of.as_deref() } else", "{ None } else")],
    "an unknown id is not of the old round": [(STATE, "self.earlier.iter().any(|known| known == id)", "self.earlier.is_empty() && id.is_empty()")],
    "the webhook of a push that overlaps is dropped": [(ROUNDS, "    row.repeated.push((region.clone(), Arrived { at: arrival.received, id: id.clone() }));\n", "")],
    "the webhook of a push that overlaps counts for nothing": [(ROUNDS, "previous.repeated.iter().map(|(region, at)| (region, at, counts(at)));", "previous.repeated.iter().map(|(region, at)| (region, at, false));")],
    "a closed round is taken from memory": [("src/engine/remembered.rs", "stored.row.settled().is_none_or(|s| !s.superseded).then(|| stored.clone())", "Some(stored.clone())")],
    "a claim does not outlive a conflict": [(ENGINE, "                    self.remembered.lost(of.key());\n", "                    if conflicts == 0 {\n                        return Ok(Done { what, row: Some(Arc::new(next)), jobs });\n                    }\n")],
}


def run(name, patches, work):
    for source in ("src", "tests"):
        shutil.rmtree(work / source, ignore_errors=True)
        # The emulator's packages are large, and the simulation does without them.
        shutil.copytree(ROOT / source, work / source, copy_function=shutil.copy, ignore=shutil.ignore_patterns("node_modules"))
    for file in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(ROOT / file, work / file)
    shutil.copytree(ROOT / "benches", work / "benches", dirs_exist_ok=True)
    for file, old, new in patches:
        text = (work / file).read_text()
        if text.count(old) != 1:
            sys.exit(f"mutant `{name}`: its text stands {text.count(old)} times in {file}: {old!r}")
        (work / file).write_text(text.replace(old, new))
    # A directory of its own: cargo names what it builds by package, not by path, so mutants would pass for the real thing.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "mutants"
    env = dict(os.environ, CARGO_TARGET_DIR=str(target), SIM_SEEDS=f"0..{SEEDS}", RUST_BACKTRACE="0")
    env.pop("SIM_SEED", None)
    build = subprocess.run(["cargo", "test", "--quiet", "--test", "sim", "--no-run"], cwd=work, env=env, capture_output=True, text=True)
    if build.returncode != 0:
        sys.exit(f"mutant `{name}` does not compile:\n{build.stderr[-3000:]}")
    test = subprocess.run(["cargo", "test", "--test", "sim", "--", "--nocapture"], cwd=work, env=env, capture_output=True, text=True)
    found = re.search(r"seed (\d+) after \d+: (.*)", test.stdout + test.stderr)
    found = found or re.search(r"test stories::()(\w+) \.\.\. FAILED", test.stdout)
    if test.returncode != 0 and not found:
        sys.exit(f"mutant `{name}` failed in another way:\n{(test.stdout + test.stderr)[-3000:]}")
    return found


def main():
    chosen = sys.argv[1:] or list(MUTANTS)
    survivors = 0
    print("| mutant | seed | what was found |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name in chosen:
            found = run(name, MUTANTS[name], pathlib.Path(directory))
            expected = bool(found) == (name != "none")
            survivors += not expected
            seed, cause = (found[1] or "a story", re.sub(r"\b[0-9a-f]{40}-", "push ", found[2])) if found else ("-", f"nothing in {SEEDS} seeds")
            print(f"| {name} | {seed} | {cause[:110]}{'' if expected else ' **UNEXPECTED**'} |", flush=True)
    sys.exit(1 if survivors else 0)


main()
