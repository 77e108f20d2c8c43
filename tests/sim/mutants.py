#!/usr/bin/env python3
"""Shows that the simulation bites: breaks the code on purpose, one patch at a time, and runs seeds until one fails, and
the stories for what seeds meet too seldom.

Needs Python 3 beside what the build needs; takes half an hour on two cores.

Usage: tests/sim/mutants.py [name ...]      MUTANT_SEEDS=5000 is the number of seeds each mutant may survive
       tests/sim/mutants.py --check         only looks whether every patch applies
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
SEEDS = int(os.environ.get("MUTANT_SEEDS", "5000"))
APPLY, STORE, FIRED = "src/store/azure/apply.rs", "src/store/azure/mod.rs", "src/store/azure/fired.rs"
UPKEEP, REMEMBERED, APPS = "src/store/azure/upkeep.rs", "src/store/azure/remembered.rs", "src/store/azure/apps.rs"
STEP, OUTBOX, STATE, ENGINE = "src/push/step.rs", "src/push/outbox.rs", "src/push/state.rs", "src/engine/mod.rs"
POLICY = "src/push/policy.rs"

# name: [(file, text that stands there exactly once, text to put in its place), ...]
MUTANTS = {
    "none": [],
    "a newer timer dies": [(FIRED, "Looked::Newer if timer.again => Ok(\"newer\"),", "Looked::Newer => Ok(\"newer\"),"), (FIRED, "            Looked::Newer => {\n                let again = Message::Timer(Timer { again: true, ..timer.clone() });\n                self.queue.arm(&again, limits::SECOND_LOOK).await.map(|_| \"newer\")\n            }\n", "")],
    "an older timer acts": [(APPLY, "Some(Charge::Older) => return Ok(Looked::Older),", "Some(Charge::Older) => {}")],
    "a timer that fired is not replaced": [(APPLY, "filter(|timer| !used && timer.due > now)", "filter(|timer| timer.due > now)")],
    "the timer of a lost write stays": [(APPLY, "(Ok(Put::Conflict) | Err(Failure::Corrupt(_)), Cover::Armed) => record.timer.clone(),", "(Ok(Put::Conflict) | Err(Failure::Corrupt(_)), Cover::Armed) => None,")],
    "the timer of a write in doubt is deleted": [(APPLY, "(Ok(Put::Conflict) | Err(Failure::Corrupt(_)), Cover::Armed) => record.timer.clone(),", "(Ok(Put::Conflict | Put::InDoubt) | Err(_), Cover::Armed) => record.timer.clone(),"), (APPLY, "(Ok(Put::Conflict | Put::InDoubt) | Err(_), Cover::Armed | Cover::Kept | Cover::Shifted) => None,", "(Ok(Put::Conflict | Put::InDoubt) | Err(_), Cover::Kept | Cover::Shifted) => None,")],
    "a timer is moved to wait longer": [(APPLY, "if timer.due > wake {", "if timer.due != wake {")],
    "an early timer keeps the turn": [(APPLY, "                            drop(turn);\n", "")],
    "no turns": [("src/store/azure/turns.rs", "turn.guard = Some(line.lock_owned().await);", "turn.guard = None; drop(line);")],
    "a remembered row is an answer": [(APPLY, "                        None if !fresh => {", "                        None if false => {")],
    "a settled row is taken from memory": [(REMEMBERED, "matches!(row.phase, Phase::Waiting { .. }) && now < row.deadline", "true || now < row.deadline || matches!(row.phase, Phase::Waiting { .. })")],
    "a round that was only looked at is the newest": [(REMEMBERED, "Which::Newest(_) => *newest && ", "Which::Newest(_) => ")],
    "the next round leaves the last alone": [(APPLY, "if let Some(earlier) = beside.filter(|stored| !stored.record.row.is_purged()) {", "if let Some(earlier) = beside.filter(|_| false) {")],
    "a purged push leaves no trace": [(STEP, "(Some(row), Input::Purge) => {", "(Some(_), Input::Purge) if true => Decision::Step(Box::new(Step { did: Did::Purged, change: Change::Remove, claims: Vec::new() })),\n        (Some(row), Input::Purge) => {")],
    "a round that may go is not written before the next": [(APPLY, "stored.record.row.is_purged() || stored.record.row.is_spent(soon)", "stored.record.row.is_purged() || soon < now")],
    "what is settled is spent": [(STATE, "clock::after(last, limits::PURGED_KEPT) <= now", "last <= clock::after(now, limits::PURGED_KEPT)")],
    "a late deadline is not held": [(APPLY, "if pending && late {", "if pending && late && false {")],
    "nobody asks what waits on the queue": [(APPLY, "let last = if pending { self.queue.last_spill().await? } else { None };", "let last: Option<Instant> = None;"), ],
    "a push opened from the queue is not held": [(STEP, "if self.spilled && until > deadline {", "if false && until > deadline {")],
    "a spill is not noted while it fails": [(FIRED, "        if let Message::Spill(_) = &message\n            && let", "        if let Message::Upkeep(_) = &message\n            && let")],
    "a report may count for the round before and for this": [(STEP, "let earlier = row.since.max(row.before.get(&self.arrival.region).copied());", "let earlier = row.since;")],
    "a repeat opens a round": [(STEP, "        if received > row.repeats_until() {\n            return self.open(Some(row), Some(row.repeats_until()));", "        if received > row.deadline {\n            return self.open(Some(row), Some(row.repeats_until()));")],
    "nobody asks whether the tag moved": [(STEP, "let moved = row.subject.tag.as_ref().map(|_| (row.opened, row.deadline));", "let moved = None;")],
    "a tag moved back is a repeat": [(STEP, "Some(Answer { moved: Some(moved), .. }) => return self.open(Some(row), Some(moved)),", "Some(Answer { moved: Some(_), .. }) => {}")],
    "the first of two reports stays late": [(STEP, "let in_time = received < row.deadline && row.deadline <= seen.at && row.is_waiting();", "let in_time = false && received < row.deadline && row.deadline <= seen.at;")],
    "nothing is overtaken": [(STEP, "        overtake(&mut settled, self.now);\n", "")],
    "the all-clear does not wait": [(OUTBOX, ".max().unwrap_or(now).max(now)", ".max().map_or(now, |_| now)")],
    "a result of an old claim counts": [(OUTBOX, "if *claims != attempted.claim || lease_until.is_none() => {", "if false => {")],
    "a lease is ignored": [(OUTBOX, "if now < lease_until.unwrap_or(*not_before) {", "if now < *not_before {")],
    "companions are told to everybody": [(POLICY, "(self.companions || !subject.is_companion())", "(self.companions || !subject.repository.is_empty())")],
    "upkeep never walks": [(UPKEEP, "        let (mut note, version) = self.note().await?;\n", "        if core.registry().is_none() { return Ok(\"walked\"); }\n        let (mut note, version) = self.note().await?;\n")],
    "upkeep forgets what owes": [(UPKEEP, "                walk.owing.push(entry.push.clone());", "                drop(entry.push.clone());")],
    "a young reminder goes": [(UPKEEP, "entry.at != row.opened && clock::until(entry.at, now) > MARGIN", "entry.at != row.opened && clock::until(entry.at, now) >= Duration::ZERO")],
    "upkeep arms for a week": [(APPLY, "} else if replaced || self.remembered", "} else if false && replaced || self.remembered")],
    "any app tells": [(APPLY, "foreign.clone().filter(|_| !step.is_report())", "foreign.clone().filter(|_| false)"), (APPLY, "let claims = if app.is_some() {", "let claims = if false {")],
}


def patched(name, patches, root):
    """The files that the patches change, as they are then."""
    texts = {}
    for file, old, new in patches:
        text = texts.get(file) or (root / file).read_text()
        if text.count(old) != 1:
            sys.exit(f"mutant `{name}`: its text stands {text.count(old)} times in {file}: {old!r}")
        texts[file] = text.replace(old, new)
    return texts


def run(name, patches, work):
    for source in ("src", "tests"):
        shutil.rmtree(work / source, ignore_errors=True)
        # The emulator's packages are large, and the simulation does without them.
        shutil.copytree(ROOT / source, work / source, copy_function=shutil.copy, ignore=shutil.ignore_patterns("node_modules"))
    for file in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(ROOT / file, work / file)
    shutil.copytree(ROOT / "benches", work / "benches", dirs_exist_ok=True)
    for file, text in patched(name, patches, work).items():
        (work / file).write_text(text)
    # A directory of its own: cargo names what it builds by package, not by path, so mutants would pass for the real thing.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "mutants"
    env = dict(os.environ, CARGO_TARGET_DIR=str(target), SIM_SEEDS=f"0..{SEEDS}", RUST_BACKTRACE="0")
    env.pop("SIM_SEED", None)
    # Most are caught within a second, and built for much longer.
    env.update(CARGO_PROFILE_RELEASE_LTO="off", CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16", CARGO_PROFILE_RELEASE_OPT_LEVEL="1", CARGO_PROFILE_RELEASE_INCREMENTAL="true")
    build = subprocess.run(["cargo", "test", "--release", "--quiet", "--test", "sim", "--no-run"], cwd=work, env=env, capture_output=True, text=True)
    if build.returncode != 0:
        sys.exit(f"mutant `{name}` does not compile:\n{build.stderr[-3000:]}")
    test = subprocess.run(["cargo", "test", "--release", "--test", "sim", "--", "--nocapture"], cwd=work, env=env, capture_output=True, text=True)
    found = re.search(r"seed (\d+) after \d+: (.*)", test.stdout + test.stderr)
    found = found or re.search(r"test stories::()(\w+) \.\.\. FAILED", test.stdout)
    if test.returncode != 0 and not found:
        sys.exit(f"mutant `{name}` failed in another way:\n{(test.stdout + test.stderr)[-3000:]}")
    return found


def main():
    if sys.argv[1:] == ["--check"]:
        for name, patches in MUTANTS.items():
            patched(name, patches, ROOT)
        return
    chosen = sys.argv[1:] or list(MUTANTS)
    survivors = 0
    print("| mutant | seed | what was found |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name in chosen:
            found = run(name, MUTANTS[name], pathlib.Path(directory))
            expected = bool(found) == (name != "none")
            survivors += not expected
            seed, cause = (found[1] or "a story", re.sub(r"\b[0-9a-f]{64}-", "push ", found[2])) if found else ("-", f"nothing in {SEEDS} seeds")
            print(f"| {name} | {seed} | {cause[:110]}{'' if expected else ' **UNEXPECTED**'} |", flush=True)
    sys.exit(1 if survivors else 0)


main()
