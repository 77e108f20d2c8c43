"use strict";
// Puts fragments of the service into the page. What is shown is the service's markup; nothing here makes any of data.
const $ = (query, at = document) => at.querySelector(query), all = (query, at = document) => [...at.querySelectorAll(query)];
const main = $("#main"), dialogs = { confirm: $("#confirm"), help: $("#help"), ask: $("#ask") };
const stored = (store) => ({
  get: (name) => { try { return window[store].getItem(name); } catch { return null; } },
  set: (name, value) => { try { value === null ? window[store].removeItem(name) : window[store].setItem(name, value); } catch { /* kept for this page only */ } },
});
const tab = stored("sessionStorage"), browser = stored("localStorage");
const root = new URL(location.pathname.replace(/\/+$/, "").replace(/[^/]*$/, ""), location.origin);
$("#host").textContent = location.host;

// The key comes from a link once, or from the prompt, and stands in no address that anybody keeps.
let key = tab.get("key");
const takeKey = () => {
  const found = /^#key=(.+)$/.exec(location.hash);
  if (!found) return false;
  key = decodeURIComponent(found[1]);
  tab.set("key", key);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
};
takeKey();
const call = (path, options = {}) => fetch(new URL(path, root), {
  ...options, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(20000),
  headers: key ? { "x-functions-key": key } : {},
});
const reason = async (answer) => { try { return (await answer.json()).error; } catch { return { code: "", message: `The service answered ${answer.status}.` }; } };

// Time: the service's, by the difference to this machine's.
let ahead = 0;
const now = () => Date.now() + ahead;
const two = (n) => String(n).padStart(2, "0");
const clock = (seconds) => {
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60);
  return hours ? `${hours}:${two(minutes % 60)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
};
const span = (ms) => {
  const s = Math.max(0, Math.floor(ms / 1000)), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  return d > 1 ? `${d} d` : h ? `${h} h${m % 60 ? ` ${m % 60} min` : ""}` : m ? `${m} min` : `${s} s`;
};
let zone = browser.get("zone") === "local" ? undefined : "UTC";
const shown = (text, form) => {
  const at = new Date(text), day = (date) => date.toLocaleDateString("en-GB", { timeZone: zone });
  const part = (options) => at.toLocaleString("en-GB", { timeZone: zone, hourCycle: "h23", ...options }).replace(",", "");
  const time = part({ hour: "2-digit", minute: "2-digit", second: "2-digit", ...(form === "exact" && { fractionalSecondDigits: 3 }) });
  const today = day(at) === day(new Date(now())), near = Math.abs(now() - at) < 6 * 864e5;
  if (form === "full") return `${part({ weekday: "short", day: "numeric", month: "short" })} ${time}`;
  return today ? time : `${near ? part({ weekday: "short" }) : part({ day: "numeric", month: "short" })} ${time}`;
};
const over = new Set();
const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
function tick() {
  for (const e of all("[data-left]")) {
    const left = Math.ceil((Date.parse(e.dataset.left) - now()) / 1000);
    write(e, left > 0 ? clock(left) + (e.dataset.after || "") : e.dataset.then);
    if (left <= 0 && main.contains(e) && !over.has(e.dataset.left)) { over.add(e.dataset.left); soon(1000); }
  }
  for (const e of all("[data-ago]")) write(e, `${span(now() - Date.parse(e.dataset.ago))} ago`);
  for (const e of all("[data-since]")) write(e, span(now() - Date.parse(e.dataset.since)));
}
function tell() { for (const e of all("time[data-form]", main)) write(e, shown(e.dateTime, e.dataset.form)); tick(); }
setInterval(() => paused || tick(), 1000);

// Asking the service, and asking again.
let turn = 0, timer = 0, paused = false, read = null, away = null, returned = "", holding = false;
const rests = () => paused || document.hidden || all("dialog[open]").length > 0;
function soon(ms) { clearTimeout(timer); timer = setTimeout(() => rests() ? soon(1000) : load("refresh"), ms); }
function wanted() {
  const query = new URLSearchParams(location.search), push = query.get("push");
  if (push) return `pushes/page/push/${encodeURIComponent(push)}`;
  const view = query.get("view") === "regions" ? "regions" : "list";
  query.delete("view");
  return `pushes/page/${view}?${query}`;
}
async function load(how) {
  const mine = ++turn, address = wanted();
  clearTimeout(timer);
  const slow = how === "refresh" ? 0 : setTimeout(() => mine === turn && bones(how), 300);
  let answer = null, text = "", error = null;
  try {
    answer = await call(address);
    if (answer.ok) text = await answer.text(); else error = await reason(answer);
  } catch { answer = null; }
  clearTimeout(slow);
  if (mine !== turn) return;
  main.removeAttribute("aria-busy");
  if (answer && (answer.status === 401 || error?.code === "operators_only")) return ask(error);
  if (!answer?.ok) { trouble(answer, error); return soon(5000); }
  // Whatever stands before the service, a page of its own is none of ours.
  const article = new DOMParser().parseFromString(text, "text/html").querySelector("article[data-view]");
  if (!article) { trouble(answer, { code: "foreign", message: "Something else than this service answered." }); return soon(5000); }
  const news = away === null ? "" : returned;
  [away, read] = [null, Date.now()];
  if (dialogs.ask.open) {
    dialogs.ask.close();
    if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  }
  ahead = Date.parse(article.dataset.now) - Date.now();
  $("#trouble").replaceChildren();
  main.classList.remove("stale");
  $("#forget").hidden = !key;
  show(article, how, news);
  soon(article.dataset.busy === "true" ? 5000 : 30000);
}
function bones(how) {
  const at = how === "filter" && $("[data-part=table]", main) || main;
  main.setAttribute("aria-busy", "true");
  raw.delete(at);
  const loading = Object.assign(document.createElement("p"), { className: "sr", textContent: "Loading" });
  at.replaceChildren(loading, ...Array.from({ length: 9 }, () => Object.assign(document.createElement("span"), { className: "bone" })));
}
function notice(at, bold, rest, bad) {
  const box = document.createElement("div"), text = document.createElement("p"), strong = document.createElement("b");
  const icon = $(`#i-${bad ? "stop" : "warn"}`).ownerSVGElement.cloneNode(false), use = document.createElementNS(icon.namespaceURI, "use");
  icon.setAttribute("class", "i");
  use.setAttribute("href", `#i-${bad ? "stop" : "warn"}`);
  icon.append(use);
  box.className = bad ? "notice bad" : "notice";
  strong.textContent = bold;
  text.append(strong, " ", rest);
  box.append(icon, text);
  at.replaceChildren(box);
}
// A failed question leaves what is shown, and says since when.
function trouble(answer, error) {
  const passing = !answer || error.code === "storage_unavailable" || answer.status >= 500 && error.code !== "operator_needed" && error.code !== "misconfigured";
  main.classList.toggle("stale", passing && read !== null);
  if (!passing) return notice($("#trouble"), "That did not work.", error.message, true);
  away ??= now();
  const since = shown(new Date(away).toISOString(), "short"), seen = read ? `You see what was read at ${shown(new Date(read + ahead).toISOString(), "short")}. ` : "";
  const storage = error?.code === "storage_unavailable";
  const kept = storage ? "Webhooks that are accepted meanwhile are kept and applied later. " : "";
  document.title = `▲ ${storage ? "storage away" : "no answer"} · ${location.host}`;
  const what = `${storage ? "Storage has been away" : answer ? "The service has been too busy" : "The service has not answered"} since ${since}.`;
  write($("#news"), what);
  returned = storage ? "Storage is back" : "The service answers again";
  notice($("#trouble"), what, `${seen}${kept}Trying again every 5 s.`);
  main.querySelectorAll(".bone").forEach((bone) => bone.remove());
}

// Showing: parts of a view, rows of a table and cells of a row are replaced where the service's markup differs.
const raw = new WeakMap();
const mark = (element) => {
  const parts = all("[data-part], [data-keyed] > tr, [data-keyed] > tr > *", element);
  for (const part of [element, ...parts]) raw.set(part, part.outerHTML);
};
function swap(old, next) {
  const text = next.outerHTML;
  if (raw.get(old) === text) return;
  const focus = old.contains(document.activeElement) && document.activeElement;
  const names = ["href", "name", "data-confirm", "data-fold", "data-copy"];
  const path = focus && focus.tagName + names.filter((a) => focus.hasAttribute(a)).map((a) => `[${a}="${CSS.escape(focus.getAttribute(a))}"]`).join("");
  mark(next);
  for (const open of all("details[open][data-keep]", old)) { const same = $(`[data-keep="${CSS.escape(open.dataset.keep)}"]`, next); if (same) same.open = true; }
  for (const open of all("[data-fold][aria-expanded=true]", old)) $(`[data-fold="${open.dataset.fold}"]`, next)?.setAttribute("aria-expanded", "true");
  old.replaceWith(next);
  if (focus) ($(path, next) || main).focus({ preventScroll: true });
}
function rows(old, next) {
  const had = new Map([...old.rows].map((row) => [row.dataset.key, row]));
  let at = old.firstElementChild;
  for (const row of [...next.rows]) {
    const same = had.get(row.dataset.key), cells = [...row.cells];
    had.delete(row.dataset.key);
    if (same?.cells.length === cells.length) {
      for (const { name, value } of row.attributes) if (name !== "hidden") same.setAttribute(name, value);
      [...same.cells].forEach((cell, n) => swap(cell, cells[n]));
      if (same === at) at = at.nextElementSibling; else old.insertBefore(same, at);
    } else {
      mark(row);
      old.insertBefore(row, at);
      if (at === same) at = row.nextElementSibling.nextElementSibling;
      same?.remove();
      if (row.dataset.along && $(`[data-fold="${row.dataset.along}"][aria-expanded=true]`)) row.hidden = false;
    }
  }
  if (!holding) for (const row of had.values()) row.remove();
}
// Whoever has scrolled is not moved: new pushes wait until they are asked for.
function hold(old, article) {
  const known = new Set(all("[data-key]", old).map((row) => row.dataset.key));
  const added = all("tbody > tr[data-key]", article).filter((row) => !known.has(row.dataset.key));
  const count = added.filter((row) => !row.dataset.along).length;
  holding = scrollY > 200 && count > 0;
  if (holding) { added.forEach((row) => row.remove()); write($("#new"), `${count} new push${count > 1 ? "es" : ""}`); }
  $("#new").hidden = !holding;
}
function show(article, how, back) {
  const old = $("article", main), same = how !== "whole" && old?.dataset.view === article.dataset.view;
  const news = same && listen(old, article) || back;
  holding = false;
  $("#new").hidden = true;
  if (!same) {
    mark(article);
    main.replaceChildren(article);
    return shownNow(article, news);
  }
  if (how === "refresh" && article.dataset.view === "list") hold(old, article);
  for (const part of all("[data-part]", article)) {
    const before = $(`[data-part="${part.dataset.part}"]`, old);
    if (!before || part.dataset.part === "filters") continue;
    const tables = all("[data-keyed]", before), next = all("[data-keyed]", part);
    if (tables.length && tables.length === next.length) tables.forEach((table, n) => rows(table, next[n]));
    else swap(before, part);
  }
  Object.assign(old.dataset, article.dataset);
  shownNow(article, news);
}
function shownNow(article, news) {
  document.title = `${article.dataset.title} · ${location.host}`;
  write($("#fresh"), `${paused ? "Paused at" : "Fresh as of"} ${shown(article.dataset.now, "short")} ${zone || "local time"}`);
  const view = article.dataset.view === "regions" ? "regions" : "list";
  for (const a of all("nav [data-for]")) a.dataset.for === view ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  if (news) write($("#news"), news);
  tell();
}
// At most one sentence for those who do not see the page change.
function listen(old, article) {
  for (const row of all("tbody > tr[data-news]:not(.along)", article)) {
    const before = $(`tr[data-key="${CSS.escape(row.dataset.key)}"]`, old);
    if (before && before.dataset.state !== row.dataset.state) return row.dataset.news;
  }
  const first = $(".verdict b", article)?.textContent, had = $(".verdict b", old)?.textContent;
  return old.dataset.title !== article.dataset.title && first !== had ? article.dataset.title : "";
}

// Views and filters are addresses.
let depth = 0, here = location.search;
// Whoever comes back stands at the link that led away.
function stand(left) {
  const link = $(`main a[href="${CSS.escape(left)}"]`), row = link?.closest("tr");
  if (row?.hidden) $(`[data-fold="${row.dataset.along}"]`, main)?.click();
  link?.focus();
}
async function go(address, how, stay) {
  const left = here;
  depth += 1;
  history.pushState(null, "", address);
  here = location.search;
  await load(how);
  scrollTo(0, 0);
  if (stay) stand(left);
}
addEventListener("popstate", async () => {
  const left = here;
  depth -= 1;
  here = location.search;
  await load("whole");
  stand(left);
});
addEventListener("hashchange", () => takeKey() && load("whole"));
document.addEventListener("visibilitychange", () => document.hidden || paused || soon(0));
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "get") return;
  event.preventDefault();
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()));
  go(`?${query}`, "filter");
});
document.addEventListener("change", (event) => {
  if (event.target.closest(".filters :is(select, [type=checkbox])")) event.target.form.requestSubmit();
  if (event.target.matches("[data-ask]")) question(`${dialogs.confirm.dataset.address.replace(/&region=.*/, "")}&region=${encodeURIComponent(event.target.value)}`);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='?']"), button = event.target.closest("button");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); go(link.getAttribute("href"), "whole"); main.focus({ preventScroll: true }); }
  if (!button || button.getAttribute("aria-disabled") === "true") return;
  if (button.dataset.copy) navigator.clipboard?.writeText(button.dataset.copy).then(() => write($("#news"), "Copied"));
  if (button.dataset.confirm) question(button.dataset.confirm);
  if (button.dataset.fold) {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", open);
    all(`[data-along="${button.dataset.fold}"]`).forEach((row) => { row.hidden = !open; });
  }
});
$("#new").onclick = () => load("new").then(() => scrollTo(0, 0));

// What an operator does, after the service has said what that would do.
async function question(address, changed) {
  let answer, text;
  try { answer = await call(`pushes/page/confirm/${address}`); text = answer.ok ? await answer.text() : (await reason(answer)).message; } catch { text = "The service does not answer."; }
  if (!answer?.ok) { if (answer?.status === 401) return ask(); return dialogs.confirm.open ? refuse(text) : notice($("#trouble"), "That cannot be done now.", text, true); }
  dialogs.confirm.dataset.address = address;
  dialogs.confirm.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  if (!dialogs.confirm.open) dialogs.confirm.showModal();
  $("[autofocus]", dialogs.confirm)?.focus();
  if (changed) refuse("The push has changed meanwhile. Look again at what will happen.");
  for (const e of all("time[data-form]", dialogs.confirm)) write(e, shown(e.dateTime, e.dataset.form));
  tick();
}
const refuse = (text) => { const box = $("[data-error]", dialogs.confirm); box.textContent = text; box.hidden = false; };
dialogs.confirm.addEventListener("submit", async (event) => {
  const form = event.target;
  if (event.submitter?.value !== "go") return;
  event.preventDefault();
  const chosen = new FormData(form), address = dialogs.confirm.dataset.address, target = chosen.get("target");
  event.submitter.disabled = true;
  try {
    const again = await call(`pushes/page/confirm/${address}`), text = again.ok ? await again.text() : (await reason(again)).message;
    if (!again.ok) return refuse(text);
    const changed = new DOMParser().parseFromString(text, "text/html").querySelector("form").dataset.changed;
    if (changed !== form.dataset.changed) return await question(address, true);
    const answer = await call(`pushes/${form.dataset.post}${target ? `?target=${encodeURIComponent(target)}` : ""}`, { method: "POST" });
    if (!answer.ok) return refuse((await reason(answer)).message);
    dialogs.confirm.close();
    await load("refresh");
    write($("#news"), "Done");
  } catch {
    refuse("The service does not answer. What was asked may have been done all the same: look at the push before you ask again.");
  } finally {
    event.submitter.disabled = false;
  }
});
dialogs.confirm.addEventListener("close", () => soon(0));

// The key, wanted or refused. What was typed anywhere stays.
function ask(error) {
  clearTimeout(timer);
  write($("#ask-title"), key ? "Key refused" : "Key wanted");
  $("#refused").hidden = !key;
  write($("#refused"), key ? `${error?.code === "operators_only" ? error.message : "This key does not open the pushes (401). Perhaps it was renewed."} What you typed is kept.` : "");
  $("#key").setAttribute("aria-invalid", Boolean(key));
  if (!dialogs.ask.open) dialogs.ask.showModal();
  if (!$("article", main)) main.replaceChildren();
  $("#key").focus();
}
dialogs.ask.addEventListener("close", () => {
  if ($("article", main) || read) return;
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Give the key", onclick: () => load("whole") });
  main.replaceChildren(button);
});
dialogs.ask.addEventListener("submit", (event) => { event.preventDefault(); key = $("#key").value; tab.set("key", key); load($("article", main) ? "refresh" : "whole"); });
$("#forget").onclick = () => {
  [key, read] = [null, null];
  tab.set("key", null);
  $("#key").value = "";
  $("#forget").hidden = true;
  main.replaceChildren();
  load("whole");
};

// Switches, kept by the browser.
const themes = ["auto", "light", "dark"];
const wear = (theme) => { theme === "auto" ? delete document.documentElement.dataset.theme : document.documentElement.dataset.theme = theme; write($("#theme"), `Theme: ${theme}`); browser.set("theme", theme); };
wear(themes.includes(browser.get("theme")) ? browser.get("theme") : "auto");
$("#theme").onclick = () => wear(themes[(themes.indexOf($("#theme").textContent.slice(7)) + 1) % 3]);
const name = () => write($("#zone"), zone || "local");
name();
$("#zone").onclick = () => { zone = zone ? undefined : "UTC"; browser.set("zone", zone ? "UTC" : "local"); name(); tell(); };
$("#pause").onclick = () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", paused);
  write($("#fresh"), $("#fresh").textContent.replace(/^(Paused at|Fresh as of)/, paused ? "Paused at" : "Fresh as of"));
  if (!paused) load("refresh");
};
$("#keyed").checked = browser.get("keys") !== "off";
$("#keyed").onchange = () => browser.set("keys", $("#keyed").checked ? "on" : "off");
$("#keys").onclick = () => dialogs.help.showModal();
$(".skip").onclick = (event) => { event.preventDefault(); main.focus(); };
document.addEventListener("keydown", (event) => {
  if (!$("#keyed").checked || event.ctrlKey || event.metaKey || event.altKey || all("dialog[open]").length) return;
  const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
  if (event.key === "Escape") {
    const out = $("[data-escape]", main);
    if (typing) typing.blur();
    else if (out) out.click();
    else if (/[?&](push|view)=/.test(location.search)) depth > 0 ? history.back() : go("?", "whole", true);
    return;
  }
  if (typing) return;
  const links = all(".matrix tbody tr:not([hidden]) th > a", main), at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const to = { j: Math.min(at + 1, links.length - 1), k: Math.max(at - 1, 0) }[event.key];
  if (event.key === "/") { event.preventDefault(); $(".filters input[name=repository]", main)?.focus(); }
  else if (event.key === "?") dialogs.help.showModal();
  else if (event.key === "r") load("refresh");
  else if (to !== undefined) { links[to]?.focus(); links[to]?.closest("tr").scrollIntoView({ block: "nearest" }); }
});
load("whole");
