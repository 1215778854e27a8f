// The page of the drop box: sends files with tus, and needs nothing else.
"use strict";

(() => {
  const AT_A_TIME = 3;
  const RETRY_AFTER = [1, 2, 4, 8, 15, 30]; // seconds; the last one is repeated
  const GIVE_UP_AFTER = 60 * 60; // seconds of failures in a row
  const PREFIX = "upload:";

  const body = document.body;
  const say = JSON.parse(body.dataset.messages);
  const maxSize = Number(body.dataset.maxSize);
  const $ = (id) => document.getElementById(id);
  const list = $("list");
  const uploads = [];
  let wakeLock = null;

  document.documentElement.classList.add("scripted");

  // A token: the part of the link after "#", which no server and no proxy sees.
  const token = (() => {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    try {
      if (given) {
        sessionStorage.setItem("token", given);
        history.replaceState(null, "", location.pathname + location.search);
      }
      return given || sessionStorage.getItem("token");
    } catch {
      return given;
    }
  })();

  // Texts

  const text = (key, values = {}) =>
    (say[key] || key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
    return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
  };

  const duration = (seconds) => {
    if (!isFinite(seconds)) return "";
    const all = Math.ceil(seconds), h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60;
    const two = (number) => String(number).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(all % 60)}` : `${m}:${two(all % 60)}`;
  };

  const base64 = (string) =>
    btoa(String.fromCharCode(...new TextEncoder().encode(string)));

  const hex = (field) => {
    const found = /sha-256=:([A-Za-z0-9+/=]+):/.exec(field || "");
    if (!found) return "";
    return [...atob(found[1])].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  };

  // What is known of unfinished uploads after a reload

  const store = {
    get(key) { try { return JSON.parse(localStorage.getItem(PREFIX + key)); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(PREFIX + key, JSON.stringify(value)); } catch { /* full, or not allowed */ } },
    remove(key) { try { localStorage.removeItem(PREFIX + key); } catch { /* not allowed */ } },
    all() {
      try {
        return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))
          .map((key) => [key.slice(PREFIX.length), this.get(key.slice(PREFIX.length))])
          .filter(([, value]) => value && value.url);
      } catch { return []; }
    },
  };

  // One request; `progress` is called with the bytes of the body that have been sent

  const request = (upload, method, url, fields, content = null, progress = null) =>
    new Promise((resolve) => {
      const xhr = new XMLHttpRequest();
      upload.xhr = xhr;
      xhr.open(method, url);
      xhr.setRequestHeader("Tus-Resumable", "1.0.0");
      if (token) xhr.setRequestHeader("Authorization", `Bearer ${token}`);
      for (const [name, value] of Object.entries(fields)) xhr.setRequestHeader(name, value);
      if (progress) xhr.upload.onprogress = (event) => progress(event.loaded);
      xhr.onloadend = () => {
        upload.xhr = null;
        resolve({
          status: xhr.status,
          field: (name) => (xhr.status ? xhr.getResponseHeader(name) : null),
          text: xhr.status ? xhr.responseText : "",
        });
      };
      xhr.send(content);
    });

  const reason = (response) => {
    try {
      const problem = JSON.parse(response.text);
      return text(`code ${problem.code}`) === `code ${problem.code}`
        ? problem.detail : text(`code ${problem.code}`);
    } catch {
      return text("status", { status: response.status });
    }
  };

  class Upload {
    constructor(file, path) {
      this.file = file;
      this.name = path || file.name || "file";
      this.key = [this.name, file.type, file.size, file.lastModified].join("|");
      this.url = (store.get(this.key) || {}).url || null;
      this.offset = 0;
      this.sent = 0;
      this.failures = 0;
      this.samples = [];
      this.state = "waiting";
      this.build();
    }

    build() {
      const make = (name, className, content = "") => {
        const element = document.createElement(name);
        element.className = className;
        element.textContent = content;
        return element;
      };
      this.row = make("li", "waiting");
      const row = make("div", "row");
      row.append(make("span", "name", this.name), make("span", "size", size(this.file.size)));
      this.bar = document.createElement("progress");
      this.bar.max = 1;
      this.bar.value = 0;
      this.bar.setAttribute("aria-label", this.name);
      this.line = make("div", "state");
      this.result = make("div", "result");
      this.actions = make("div", "actions");
      this.buttons = {};
      for (const action of ["pause", "resume", "retry", "cancel", "copy"]) {
        const button = make("button", action, text(action));
        button.type = "button";
        button.setAttribute("aria-label", `${text(action)}: ${this.name}`);
        button.onclick = () => this[action]();
        this.buttons[action] = button;
        this.actions.append(button);
      }
      this.row.append(row, this.bar, this.line, this.result, this.actions);
      list.append(this.row);
      this.show("waiting");
    }

    show(state, message = null) {
      const shown = {
        waiting: ["cancel"], sending: ["pause", "cancel"], broken: ["pause", "retry", "cancel"],
        paused: ["resume", "cancel"], failed: ["retry"], stored: ["copy"], cancelled: [],
      };
      this.state = state;
      this.row.className = state;
      this.bar.hidden = ["stored", "failed", "cancelled"].includes(state);
      for (const [name, button] of Object.entries(this.buttons)) {
        const focused = document.activeElement === button;
        button.hidden = !shown[state].includes(name);
        if (focused && button.hidden) {
          (Object.values(this.buttons).find((other) => !other.hidden) || $("choose")).focus();
        }
      }
      this.line.textContent = message ?? text(state);
      update();
    }

    progress(sent) {
      this.sent = sent;
      this.bar.value = this.file.size ? sent / this.file.size : 1;
      const now = performance.now() / 1000;
      this.samples.push([now, sent]);
      while (this.samples.length > 2 && now - this.samples[0][0] > 5) this.samples.shift();
      const [first] = this.samples;
      const rate = now > first[0] ? (sent - first[1]) / (now - first[0]) : 0;
      if (this.state !== "sending") return;
      this.line.textContent = sent >= this.file.size ? text("storing") : rate > 0
        ? text("progress", {
          percent: Math.floor(100 * sent / (this.file.size || 1)), sent: size(sent),
          rate: size(rate), left: duration((this.file.size - sent) / rate),
        }) : text("sending");
    }

    // Each step returns whether to go on

    async run() {
      if (maxSize && this.file.size > maxSize) {
        this.show("failed", text("code too-large"));
        return;
      }
      this.show("sending");
      this.samples = [];
      const began = this.failures ? this.began : Date.now();
      this.began = began;
      try {
        while (this.state === "sending") {
          const outcome = await this.step();
          if (outcome === "stored") { this.finished(); break; }
          if (outcome === "again" && this.state === "sending") await this.wait();
        }
      } catch (error) {
        this.show("failed", String(error.message || error));
      }
      next();
    }

    async step() {
      if (!this.url) {
        const made = await this.create();
        if (made !== "ok") return made;
      } else {
        const found = await this.ask();
        if (found !== "ok") return found;
      }
      return this.offset === this.file.size ? "stored" : this.send();
    }

    async create() {
      const metadata = [`filename ${base64(this.name)}`];
      if (this.file.type) metadata.push(`filetype ${base64(this.file.type)}`);
      const response = await request(this, "POST", body.dataset.files || "/files/", {
        "Upload-Length": this.file.size,
        "Upload-Metadata": metadata.join(","),
        "Want-Repr-Digest": "sha-256=9",
        "Accept": "application/json",
      });
      if (response.status !== 201) return this.judge(response);
      this.url = new URL(response.field("Location"), location.href).pathname;
      this.offset = 0;
      this.last = response;
      store.set(this.key, { url: this.url, name: this.name, at: Date.now() });
      return "ok";
    }

    async ask() {
      const response = await request(this, "HEAD", this.url, { "Accept": "application/json" });
      if ([403, 404, 410].includes(response.status)) {
        this.forget(); // it has expired: begin again
        return this.state === "sending" ? "next" : "stop";
      }
      if (response.status !== 200) return this.judge(response);
      this.offset = Number(response.field("Upload-Offset"));
      this.last = response;
      this.progress(this.offset);
      return "ok";
    }

    async send() {
      const from = this.offset;
      const response = await request(this, "PATCH", this.url, {
        "Upload-Offset": from,
        "Content-Type": "application/offset+octet-stream",
        "Accept": "application/json",
      }, this.file.slice(from), (sent) => this.progress(from + sent));
      if (response.status === 409) return "next"; // the offset is asked for again
      if (response.status !== 204) return this.judge(response);
      this.offset = Number(response.field("Upload-Offset"));
      this.last = response;
      this.failures = 0;
      return this.offset === this.file.size ? "stored" : "next";
    }

    judge(response) {
      if (this.state !== "sending") return "stop";
      const { status } = response;
      const temporary = status === 0 || status === 408 || status === 423 || status === 429
        || (status >= 500 && status !== 501 && status !== 505);
      this.after = Number(response.field("Retry-After")) || 0;
      this.message = status ? reason(response) : text("no connection");
      if (temporary && Date.now() - this.began < GIVE_UP_AFTER * 1000) return "again";
      this.show("failed", this.message);
      return "stop";
    }

    async wait() {
      const steps = RETRY_AFTER.length - 1;
      const seconds = this.after || RETRY_AFTER[Math.min(this.failures, steps)];
      this.failures += 1;
      this.show("broken", text("broken", { reason: this.message, seconds }));
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, seconds * 1000);
        this.wake = () => { clearTimeout(timer); resolve(); };
      });
      this.wake = null;
      if (this.state === "broken") this.show("sending");
    }

    finished() {
      this.forget(true);
      const name = this.last.field("Stored-As") || "";
      const digest = hex(this.last.field("Repr-Digest"));
      this.result.textContent = [name, digest].filter(Boolean).join(" ");
      this.show("stored", text("stored"));
      if (!this.result.textContent) this.buttons.copy.hidden = true;
    }

    forget(keepUrl = false) {
      store.remove(this.key);
      if (!keepUrl) { this.url = null; this.offset = 0; }
    }

    stop() {
      if (this.xhr) this.xhr.abort();
      if (this.wake) this.wake();
    }

    pause() { this.show("paused"); this.stop(); }
    resume() { this.failures = 0; this.show("waiting"); next(); }
    retry() {
      if (this.state === "broken") { this.wake(); return; }
      this.resume();
    }
    cancel() {
      const { url } = this;
      this.show("cancelled");
      this.stop();
      this.forget();
      if (url) request({}, "DELETE", url, {});
    }
    async copy() {
      try {
        await navigator.clipboard.writeText(this.result.textContent);
      } catch {
        getSelection().selectAllChildren(this.result);
        document.execCommand("copy");
      }
      this.line.textContent = text("copied");
    }
  }

  const active = () => uploads.filter((it) => ["sending", "broken"].includes(it.state));

  const next = () => {
    const waiting = uploads.filter((it) => it.state === "waiting");
    for (const upload of waiting.slice(0, Math.max(0, AT_A_TIME - active().length))) upload.run();
    keepAwake();
  };

  const add = (found) => {
    for (const [file, path] of found) {
      const upload = new Upload(file, path);
      const same = uploads.find((it) => it.key === upload.key
        && ["waiting", "sending", "broken", "paused"].includes(it.state));
      if (same) { upload.row.remove(); continue; }
      uploads.push(upload);
    }
    update();
    next();
  };

  function update() {
    const count = (...states) => uploads.filter((it) => states.includes(it.state)).length;
    const all = uploads.length - count("cancelled"), stored = count("stored"), failed = count("failed");
    const said = all ? text(failed ? "summary failed" : "summary", { all, stored, failed }) : "";
    if ($("summary").textContent !== said) $("summary").textContent = said;
    const open = store.all().filter(([key]) => !uploads.some((it) => it.key === key));
    $("unfinished").hidden = !open.length;
    if (open.length) {
      $("unfinished").textContent = text("unfinished", { names: open.map(([, it]) => it.name).join(", ") });
    }
  }

  // The screen of a phone stays on while something is sent

  async function keepAwake() {
    const wanted = active().length > 0;
    try {
      if (wanted && !wakeLock && document.visibilityState === "visible" && navigator.wakeLock) {
        wakeLock = await navigator.wakeLock.request("screen");
        wakeLock.onrelease = () => { wakeLock = null; };
        if (!active().length) await wakeLock.release();
      } else if (!wanted && wakeLock) {
        await wakeLock.release();
      }
    } catch { wakeLock = null; }
  }

  // Where files come from

  const walk = async (entry, path, found) => {
    if (entry.isFile) {
      const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
      if (file) found.push([file, path + file.name]);
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
        if (!some.length) break;
        for (const one of some) await walk(one, `${path}${entry.name}/`, found);
      }
    }
  };

  const dropped = async (transfer) => {
    const items = [...transfer.items].filter((item) => item.kind === "file").map((item) => [
      item.webkitGetAsEntry ? item.webkitGetAsEntry() : null, item.getAsFile(),
    ]);
    const found = [];
    for (const [entry, file] of items) {
      if (entry) await walk(entry, "", found);
      else if (file) found.push([file, file.name]);
    }
    add(found);
  };

  const chosen = (input) => {
    const found = [...input.files].map((file) => [file, file.webkitRelativePath || file.name]);
    input.value = "";
    add(found);
  };

  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"], ["take-photo", "camera"]]) {
    $(button).onclick = () => $(input).click();
    $(input).onchange = () => chosen($(input));
  }
  if (!("webkitdirectory" in $("folder"))) $("choose-folder").hidden = true;
  if (!matchMedia("(pointer: coarse)").matches) $("take-photo").hidden = true;
  $("form").onsubmit = (event) => event.preventDefault();

  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    body.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    dropped(event.dataTransfer);
  });
  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) { event.preventDefault(); add(files.map((file) => [file, file.name])); }
  });

  addEventListener("online", () => active().forEach((it) => it.wake && it.wake()));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") return;
    keepAwake();
    active().forEach((it) => it.wake && it.wake());
  });
  addEventListener("beforeunload", (event) => {
    if (active().length) event.preventDefault();
  });

  update();
})();
