// The page: where files come from, and what is said about them.
"use strict";

const AT_A_TIME = 3;
const NAMED = 5; // unfinished files whose names are shown

const title = document.title;
const copyAll = $("copy-all").textContent;
const rows = new Map(); // by transfer
const open = new Map(); // transfers that are not finished, by key
const queue = []; // transfers that wait for their turn
const counts = {}; // of transfers, by state
const bytes = { all: 0, sent: 0 };
let running = 0;
let locked = true; // nothing is sent before it is known that the secret is valid

// All files

function changed(transfer, before) {
  const { state, key, trouble } = transfer;
  counts[before] -= 1;
  counts[state] = (counts[state] || 0) + 1;
  if (!transfer.finished) open.set(key, transfer);
  else if (open.get(key) === transfer) open.delete(key);
  const row = rows.get(transfer);
  row.show();
  if (state === "failed") {
    if (!row.element.contains(document.activeElement)) $("list").prepend(row.element);
    if (trouble.code === "unauthorized") {
      locked = true;
      askForSecret(text("code unauthorized"));
    }
  }
  moved(transfer, true);
  update();
  if (transfer.finished && !active() && terms.uploads != null) learnTerms();
}

function moved(transfer, certain = false) {
  const row = rows.get(transfer), { state, file, sent } = transfer;
  const counted = !["failed", "cancelled"].includes(state);
  const all = counted ? file.size : 0, has = counted ? sent : 0;
  bytes.all += all - row.all;
  bytes.sent += has - row.has;
  Object.assign(row, { all, has });
  row.progress(certain);
  showTotal();
}

function wait(transfer) {
  transfer.set("waiting");
  queue.push(transfer);
  next();
}

function next() {
  while (running < AT_A_TIME && !locked) {
    const at = queue.findIndex((it) => !it.running); // one that is paused and resumed may be
    if (at < 0) break;
    const [transfer] = queue.splice(at, 1);
    if (transfer.state === "waiting") {
      running += 1;
      transfer.run().then(() => { running -= 1; next(); });
    }
  }
  keepAwake();
}

// Files with a trouble fail at once.
function add(found, trouble = null) {
  for (const [file, name] of found) {
    const transfer = new Transfer(file, name || "file", { changed, moved });
    if (open.has(transfer.key)) continue; // chosen twice
    const row = new Row(transfer);
    rows.set(transfer, row);
    $("list").append(row.element);
    counts.waiting = (counts.waiting || 0) + 1;
    transfer.trouble = trouble;
    if (terms.max_size && file.size > terms.max_size) {
      transfer.trouble = new Trouble({ code: "too-large" });
    }
    if (transfer.trouble) {
      transfer.set("failed");
    } else {
      wait(transfer);
    }
  }
}

const active = () => (counts.waiting || 0) + (counts.sending || 0) + (counts.storing || 0)
  + (counts.broken || 0);

function update() {
  const { stored = 0, failed = 0, cancelled = 0 } = counts;
  const all = rows.size - cancelled;
  const said = all ? text(failed ? "summary failed" : "summary", { all, stored, failed }) : "";
  if ($("summary").textContent !== said) $("summary").textContent = said;
  $("copy-all").hidden = stored < 2 || active() > 0;
  if (active()) $("copy-all").textContent = copyAll;
  showTotal();
  showUnfinished();
}

function showTotal() {
  const share = bytes.all ? bytes.sent / bytes.all : 0;
  $("total").hidden = !active() || open.size < 2;
  $("total").value = share;
  document.title = active() ? `${Math.floor(100 * share)}% · ${title}` : title;
}

$("copy-all").onclick = async () => {
  const lines = [...rows.keys()].filter((it) => it.result)
    .map(({ name, result }) => [result.name, result.digest, name].join("  "));
  $("copied").textContent = lines.join("\n");
  await copyText(lines.join("\n"), $("copied"));
  $("copied").textContent = "";
  $("copy-all").textContent = text("copied");
};

// What was not finished when the page was last open

let former = memory.all();

function showUnfinished() {
  if (!former.length) return;
  former = former.filter(({ key }) => !open.has(key) && memory.get(key));
  $("unfinished").hidden = !former.length;
  const names = former.slice(0, NAMED).map(({ name }) => name).join(", ");
  $("unfinished-text").textContent = text(
    former.length > NAMED ? "unfinished more" : "unfinished",
    { names, more: former.length - NAMED },
  );
}

$("discard").textContent = text("discard");
$("discard").onclick = () => {
  for (const { key, id } of former) {
    memory.remove(key);
    server.remove(id);
  }
  showUnfinished();
  $("choose").focus();
};

// Who may: the secret is the part of the link after "#", which no server and no proxy sees

function takeSecret(given = new URLSearchParams(location.hash.slice(1)).get("token")) {
  server.secret = given && given.replace(/[^!-~]/g, ""); // it has to fit into a header field
  try {
    if (given) {
      sessionStorage.setItem("token", server.secret);
      history.replaceState(null, "", location.pathname + location.search);
    } else {
      server.secret = sessionStorage.getItem("token");
    }
  } catch { /* not allowed: it stays in the address, for a reload */ }
}

function askForSecret(said) {
  $("secret-text").textContent = said;
  $("secret-form").hidden = false;
}

async function learnTerms() {
  const response = await server.request("GET", document.body.dataset.terms);
  if (Trouble.of(response).code === "unauthorized") {
    $("form").hidden = true;
    askForSecret(text(server.secret ? "code unauthorized" : "secret"));
    $("secret").focus();
    return;
  }
  $("form").hidden = false;
  $("secret-form").hidden = true;
  if (response.status === 200) {
    try { showTerms(JSON.parse(response.text)); } catch { /* a proxy has answered */ }
  }
  if (!locked) return;
  locked = false;
  for (const it of rows.keys()) {
    if (it.state === "failed" && it.trouble.code === "unauthorized") wait(it);
  }
  next();
}

function showTerms(found) {
  terms = found;
  const said = [];
  if (terms.label) said.push(text("for", { label: terms.label }));
  if (terms.max_size) said.push(text("at most", { size: formatSize(terms.max_size) }));
  if (terms.uploads != null) said.push(text("uploads", { uploads: terms.uploads }));
  if (terms.expires !== null) {
    const language = document.documentElement.lang;
    const time = new Date(terms.expires * 1000)
      .toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
    said.push(text("until", { time }));
  }
  $("terms").textContent = said.join(" · ");
  $("terms").hidden = !said.length;
}

$("secret-form").onsubmit = (event) => {
  event.preventDefault();
  takeSecret($("secret").value);
  $("secret").value = "";
  learnTerms();
};

addEventListener("hashchange", () => { takeSecret(); learnTerms(); });

// The screen of a phone stays on while something is sent

let lock = null, locking = false;

async function keepAwake() {
  if (locking || !navigator.wakeLock) return; // only over https
  locking = true;
  try {
    if (active() && !lock && document.visibilityState === "visible") {
      lock = await navigator.wakeLock.request("screen");
      lock.onrelease = () => { lock = null; };
    }
    if (!active() && lock) await lock.release();
  } catch { /* the battery is low, for example */ }
  locking = false;
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  keepAwake();
  tryAgain();
});

const tryAgain = () => { for (const it of open.values()) if (it.wake) it.wake(); };

addEventListener("online", tryAgain);
addEventListener("beforeunload", (event) => { if (active()) event.preventDefault(); });

// Where files come from

async function walk(entry, path) {
  const name = path + entry.name;
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      add([[file, name]]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one, `${name}/`);
    }
  } catch {
    add([[new File([], name), name]], new Trouble({ code: "changed" }));
  }
}

async function dropped({ items }) {
  // All of them now: the list is empty after the event.
  const found = [...items].filter((it) => it.kind === "file")
    .map((it) => [it.webkitGetAsEntry && it.webkitGetAsEntry(), it.getAsFile()]);
  for (const [entry, file] of found) {
    if (entry && entry.isDirectory) await walk(entry, "");
    else if (file) add([[file, file.name]]);
  }
}

for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"], ["take-photo", "camera"]]) {
  $(button).onclick = () => $(input).click();
  $(input).onchange = () => {
    const found = [...$(input).files].map((it) => [it, it.webkitRelativePath || it.name]);
    $(input).value = "";
    add(found);
  };
}

const hasFiles = (transfer) => transfer && [...transfer.types].includes("Files");
const over = (is) => document.body.classList.toggle("over", is);

addEventListener("dragover", (event) => {
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  over(true);
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
addEventListener("drop", (event) => {
  over(false);
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  if (!$("form").hidden) dropped(event.dataTransfer);
});
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length || $("form").hidden) return;
  event.preventDefault();
  add(files.map((it) => [it, it.name]));
});

// From here on, the form is not needed

$("form").onsubmit = (event) => event.preventDefault();
if (!("webkitdirectory" in $("folder"))) $("choose-folder").hidden = true;
document.documentElement.classList.add("scripted");
takeSecret();
learnTerms();
update();
