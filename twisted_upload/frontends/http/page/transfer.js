// Sends one file with tus 1.0 (tus.io/protocols/resumable-upload).
//
// It knows nothing of the page.  Whatever breaks, it asks the server how much has been
// stored, and goes on from there; "stored" is said only if the server has said it.
"use strict";

const RETRY_AFTER = [1, 2, 4, 8, 15, 30]; // seconds; the last one is repeated
const GIVE_UP_AFTER = 24 * 3600; // seconds in which the server has stored nothing more
const SILENCE = 60; // seconds without progress, after which a connection is dead
const STORING = 300; // the same once all has been sent: the server waits for its disk
const REMEMBERED = 24 * 3600; // seconds, unless the server says how long

// Where unfinished uploads are on the server, so that they can go on after a reload.
// Without it (a private window), everything else works.
const memory = {
  prefix: "upload:",
  get(key) {
    try {
      const known = JSON.parse(localStorage.getItem(this.prefix + key));
      if (known && known.id && known.until > Date.now()) return known;
    } catch { /* not allowed */ }
    this.remove(key);
    return null;
  },
  set(key, value) {
    try {
      localStorage.setItem(this.prefix + key, JSON.stringify(value));
    } catch { /* full, or not allowed */ }
  },
  remove(key) {
    try { localStorage.removeItem(this.prefix + key); } catch { /* not allowed */ }
  },
  all() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix))
        .map((key) => key.slice(this.prefix.length))
        .map((key) => ({ key, ...this.get(key) })).filter((it) => it.id);
    } catch {
      return [];
    }
  },
};

// Of responses without a problem in them.
const CODES = {
  0: "no connection", 401: "unauthorized", 403: "not-allowed", 413: "too-large", 503: "busy", 507: "no-space",
};

// What went wrong: a code of the server, a status, or neither if there was no response.
class Trouble extends Error {
  constructor({ code = "", status = 0, detail = "", after = 0, temporary = false }) {
    super(detail || code);
    Object.assign(this, { code, status, detail, after, temporary });
  }

  // `moved`: statuses that only mean that our idea of the upload is out of date.
  static of(response, moved = []) {
    const { status } = response;
    let problem = {};
    try { problem = JSON.parse(response.text); } catch { /* it has none: HEAD, or a proxy */ }
    // What a connection is told that is rejected before its request was read.
    const line = /^上传失败: ([a-z-]{1,64})(?: (.*))?\n$/.exec(response.text);
    if (line) problem = { code: line[1], detail: line[2] };
    const code = String(problem.code || CODES[status] || "");
    return new Trouble({
      code,
      detail: String(problem.detail || ""),
      status,
      after: Number(response.field("Retry-After")) || 0,
      temporary: code !== "unauthorized" && ([0, 408, 423, 429, ...moved].includes(status)
        || (status >= 500 && ![501, 505].includes(status))),
    });
  }
}

// The server, and the secret that it asks for.
const server = {
  files: new URL("files/", document.baseURI).pathname,
  secret: null,

  // Send one request.  It never fails: without a response, the status is 0.
  request(method, url, fields = {}, { content = null, progress = null, began = null } = {}) {
    return new Promise((resolve) => {
      const xhr = new XMLHttpRequest();
      let timer = 0;
      const allow = (seconds) => {
        clearTimeout(timer);
        timer = setTimeout(() => xhr.abort(), seconds * 1000);
      };
      xhr.open(method, url);
      xhr.setRequestHeader("Tus-Resumable", "1.0.0");
      xhr.setRequestHeader("Accept", "application/json");
      if (this.secret) xhr.setRequestHeader("Authorization", `Bearer ${this.secret}`);
      for (const [name, value] of Object.entries(fields)) xhr.setRequestHeader(name, value);
      if (content) {
        xhr.upload.onprogress = (event) => {
          allow(event.loaded < event.total ? SILENCE : STORING);
          progress(event.loaded);
        };
        xhr.upload.onload = () => allow(STORING);
      }
      xhr.onloadend = () => {
        clearTimeout(timer);
        const { status } = xhr;
        resolve({
          status,
          text: status ? xhr.responseText : "",
          field: (name) => (status ? xhr.getResponseHeader(name) : null),
        });
      };
      allow(SILENCE);
      xhr.send(content);
      if (began) began(xhr);
    });
  },

  // Remove an upload that nobody wants any more.
  remove(id) {
    return this.request("DELETE", this.files + id);
  },
};

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

const hexDigest = (field) => {
  const found = /sha-256=:([A-Za-z0-9+/=]+):/.exec(field || "");
  if (!found) return "";
  return [...atob(found[1])].map((it) => it.charCodeAt(0).toString(16).padStart(2, "0")).join("");
};

const canBeRead = async (blob) => {
  try {
    await blob.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
};

// One file on its way.
//
// States: waiting, sending, storing (all has been sent), broken (waits before it tries
// again), paused; and at the end stored, failed, cancelled.
class Transfer {
  // `changed` is called when the state has changed, `moved` when more has been sent.
  constructor(file, name, { changed, moved }) {
    Object.assign(this, { file, name, changed, moved });
    this.key = [name, file.type, file.size, file.lastModified].join("|");
    this.id = (memory.get(this.key) || {}).id || null;
    this.state = "waiting";
    this.running = false;
    this.offset = 0; // stored by the server
    this.sent = 0;
    this.trouble = null;
    this.seconds = 0; // until the next try
    this.result = null; // of a stored file: its name, and its digest
    this.failures = 0;
  }

  get active() {
    return ["sending", "storing", "broken"].includes(this.state);
  }

  get finished() {
    return ["stored", "failed", "cancelled"].includes(this.state);
  }

  set(state) {
    const before = this.state;
    this.state = state;
    this.changed(this, before);
  }

  // Send until it is finished, or paused.
  async run() {
    this.running = true;
    this.failures = 0;
    this.movedAt = Date.now();
    this.set("sending");
    while (this.active) {
      try {
        await this.step();
      } catch (error) {
        if (this.active) await this.recover(error);
      }
    }
    this.running = false;
  }

  async step() {
    if (this.id) await this.ask();
    else await this.create();
    if (this.active && !this.result) await this.send();
    if (this.active && this.result) {
      memory.remove(this.key);
      this.set("stored");
    }
  }

  async recover(error) {
    this.trouble = error instanceof Trouble ? error : new Trouble({ detail: String(error) });
    const waited = (Date.now() - this.movedAt) / 1000;
    if (!this.trouble.temporary || waited > GIVE_UP_AFTER) {
      this.set("failed");
      return;
    }
    this.seconds = this.trouble.after
      || RETRY_AFTER[Math.min(this.failures, RETRY_AFTER.length - 1)];
    this.failures += 1;
    this.set("broken");
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, this.seconds * 1000);
      this.wake = () => { clearTimeout(timer); resolve(); };
    });
    this.wake = null;
    if (this.state === "broken") this.set("sending");
  }

  async create() {
    const metadata = [`filename ${base64(this.name)}`];
    if (this.file.type) metadata.push(`filetype ${base64(this.file.type)}`);
    const response = await server.request("POST", server.files, {
      "Upload-Length": this.file.size,
      "Upload-Metadata": metadata.join(","),
      "Want-Repr-Digest": "sha-256=9",
    });
    if (response.status !== 201) throw Trouble.of(response);
    // Only the id: a proxy may have another idea of the rest.
    this.id = (response.field("Location") || "").split("/").pop();
    if (!/^[\w-]+$/.test(this.id)) throw new Trouble({ status: response.status });
    if (this.state === "cancelled") {
      server.remove(this.id);
      return;
    }
    const expires = Date.parse(response.field("Upload-Expires")) || 0;
    const until = expires || Date.now() + REMEMBERED * 1000;
    memory.set(this.key, { id: this.id, name: this.name, until });
    this.stored(0);
    if (!this.file.size) this.conclude(response);
  }

  async ask() {
    const response = await server.request("HEAD", server.files + this.id);
    if ([403, 404, 410].includes(response.status)) { // it has expired, or is not ours
      this.forget();
      if (this.active) await this.create();
      return;
    }
    if (response.status !== 200) throw Trouble.of(response);
    this.stored(Number(response.field("Upload-Offset")));
    if (this.offset === this.file.size && response.field("Stored-As")) this.conclude(response);
  }

  async send() {
    const from = this.offset;
    const content = this.file.slice(from);
    const response = await server.request("PATCH", server.files + this.id, {
      "Upload-Offset": from,
      "Content-Type": "application/offset+octet-stream",
    }, {
      content,
      progress: (sent) => this.progress(from + sent),
      began: (xhr) => { this.xhr = xhr; },
    });
    this.xhr = null;
    if (!response.status && this.active && !(await canBeRead(content))) {
      // What is on the server is of a file that is no more.
      server.remove(this.id);
      this.forget();
      throw new Trouble({ code: "changed" });
    }
    if (response.status !== 204) throw Trouble.of(response, [404, 409, 410]);
    this.stored(Number(response.field("Upload-Offset")));
    if (this.offset === this.file.size) this.conclude(response);
  }

  // Note what the server has stored.
  stored(offset) {
    if (!Number.isInteger(offset) || offset < 0 || offset > this.file.size) {
      throw new Trouble({ detail: `Upload-Offset: ${offset}` });
    }
    if (offset > this.offset) {
      this.failures = 0;
      this.movedAt = Date.now();
    }
    this.offset = offset;
    this.progress(offset, true);
  }

  progress(sent, certain = false) {
    this.sent = sent;
    this.moved(this, certain);
    if (!certain && this.state === "sending" && sent >= this.file.size) this.set("storing");
  }

  conclude(response) {
    this.result = {
      name: response.field("Stored-As") || "",
      digest: hexDigest(response.field("Repr-Digest")),
    };
  }

  forget() {
    memory.remove(this.key);
    this.id = null;
    this.offset = 0;
    this.progress(0, true);
  }

  interrupt() {
    if (this.xhr) this.xhr.abort(); // other requests are short, and their results matter
    if (this.wake) this.wake();
  }

  pause() {
    this.set("paused");
    this.interrupt();
  }

  cancel() {
    this.set("cancelled");
    this.interrupt();
    if (this.id) server.remove(this.id);
    this.id = null;
    memory.remove(this.key);
  }
}
