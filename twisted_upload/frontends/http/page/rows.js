// What is said about a file, and what can be done with it.
"use strict";

const $ = (id) => document.getElementById(id);
const texts = JSON.parse(document.body.dataset.texts);
let terms = {}; // what may be sent: see `learnTerms`

// Texts

const text = (key, values = {}) =>
  (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

const formatSize = (size) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
};

const formatDuration = (seconds) => {
  const all = Math.ceil(seconds), h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60;
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(all % 60)}` : `${m}:${two(all % 60)}`;
};

const reason = ({ code, status, detail }) => {
  if (code === "too-large" && terms.max_size) {
    return text("too large", { size: formatSize(terms.max_size) });
  }
  if (code === "not-allowed" && terms.uploads != null) return text("used up");
  return texts[`code ${code}`] ?? (detail || text("status", { status }));
};

const make = (name, className, content = "") => {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = content;
  return element;
};

const copyText = async (content, fallback) => {
  try {
    await navigator.clipboard.writeText(content);
  } catch { // the page did not come over https
    getSelection().selectAllChildren(fallback);
    document.execCommand("copy");
  }
};

// One file

const FINAL = ["too-large", "changed", "empty"]; // codes after which the same is no use

const ACTIONS = {
  waiting: ["cancel"], sending: ["pause", "cancel"], storing: [],
  broken: ["retry", "pause", "cancel"], paused: ["resume", "cancel"],
  stored: ["copy"], failed: ["retry", "dismiss"], cancelled: ["dismiss"],
};

class Row {
  constructor(transfer) {
    this.transfer = transfer;
    this.samples = [];
    this.all = this.has = 0; // bytes that count in the total
    const { name, file } = transfer;
    this.element = make("li", "waiting");
    this.element.tabIndex = -1; // it has the focus while it has no buttons
    const top = make("div", "row"), below = make("div", "row");
    top.append(make("span", "name", name), make("span", "size", formatSize(file.size)));
    this.bar = document.createElement("progress");
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", name);
    this.line = make("span", "state");
    this.actions = make("span", "actions");
    below.append(this.line, this.actions);
    this.element.append(top, this.bar, below);
    this.show();
  }

  button(action) {
    const button = make("button", action, text(action));
    button.type = "button";
    const what = text(action === "copy" ? "copy what" : action);
    button.setAttribute("aria-label", `${what}: ${this.transfer.name}`);
    button.onclick = () => this[action]();
    return button;
  }

  show() {
    const { state, finished, trouble, seconds, result } = this.transfer;
    this.element.className = state;
    this.bar.hidden = finished;
    const shown = [...this.actions.children].map((it) => it.className);
    const wanted = ACTIONS[state].filter(
      (it) => !(it === "retry" && state === "failed" && FINAL.includes(trouble.code)),
    );
    if (shown.join() !== wanted.join()) {
      const focused = this.element.contains(document.activeElement);
      this.actions.replaceChildren(...wanted.map((action) => this.button(action)));
      if (focused) (this.actions.firstChild || this.element).focus();
    }
    if (state === "broken") this.line.textContent = text("broken", { reason: reason(trouble), seconds });
    else if (state === "failed") this.line.textContent = text("failed", { reason: reason(trouble) });
    else if (result && result.name) this.line.textContent = text("stored as", { name: result.name });
    else this.line.textContent = text(state);
    if (state === "stored" && result.digest) {
      this.digest = make("div", "digest", `SHA-256 ${result.digest}`);
      this.element.append(this.digest);
    }
  }

  progress(certain) {
    const { sent, file, state } = this.transfer;
    this.bar.value = file.size ? sent / file.size : 1;
    if (certain) this.samples = []; // it has jumped
    const now = performance.now() / 1000;
    this.samples.push([now, sent]);
    while (this.samples.length > 2 && now - this.samples[0][0] > 5) this.samples.shift();
    const [[then, had]] = this.samples;
    if (state !== "sending" || now - then < 0.5 || sent <= had) return;
    const rate = (sent - had) / (now - then);
    this.line.textContent = text("progress", {
      percent: Math.floor(100 * sent / file.size), sent: formatSize(sent),
      rate: formatSize(rate), left: formatDuration((file.size - sent) / rate),
    });
  }

  pause() { this.transfer.pause(); }
  cancel() { this.transfer.cancel(); }
  resume() { wait(this.transfer); }
  retry() {
    if (this.transfer.wake) this.transfer.wake();
    else wait(this.transfer);
  }
  dismiss() {
    this.transfer.cancel();
    this.element.remove();
    $("choose").focus();
  }
  async copy() {
    const { result } = this.transfer;
    await copyText([result.name, result.digest].filter(Boolean).join(" "), this.digest || this.line);
    const button = this.actions.firstChild;
    button.textContent = text("copied");
    button.setAttribute("aria-label", text("copied"));
  }
}
