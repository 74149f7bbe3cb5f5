// A realtime session over a web socket: its start, its chunks (a description, then its bytes), interactions and end.

import { socket } from "./api.js";

const TRY_LATER = 1013;
const NOT_ALLOWED = [1008, 4401];
const WAIT = 3; // seconds before another try where the server is full
const QUIET = 60_000; // ms after which the server hears that somebody still looks, who need not touch a key

export class Session {
  /**
   * Opens a session. `start` is the first message without its type; `on` has `started(about)`, `chunk(about, bytes)`,
   * `ended(chunks)`, each optional, and `notice` shows what goes wrong.
   */
  constructor(path, start, notice, on = {}) {
    Object.assign(this, { path, start, notice, on, interactions: 0, live: false, closed: false, stopped: false, timer: 0 });
    this.open();
  }

  open() {
    this.about = null;
    this.refused = false;
    this.interactions = 0;
    this.connection = socket(this.path);
    this.connection.onopen = () => this.send({ type: "session.start", ...this.start });
    this.connection.onmessage = ({ data }) => this.received(data);
    this.connection.onclose = ({ code }) => this.gone(code);
  }

  send(message) {
    this.said = performance.now();
    if (this.connection.readyState === WebSocket.OPEN) this.connection.send(JSON.stringify(message));
  }

  /** Sends an interaction; returns its number, which the first chunk that reflects it will carry. */
  interact(what) {
    if (!this.live) return 0;
    this.send({ type: "session.interaction", ...what });
    this.interactions += 1;
    return this.interactions;
  }

  received(data) {
    if (typeof data !== "string") {
      if (this.about) this.on.chunk?.(this.about, data);
      this.about = null;
      if (!document.hidden && performance.now() - this.said > QUIET) this.send({ type: "session.ping" });
      return;
    }
    const message = JSON.parse(data);
    const kind = message.type.split(".").pop();
    if (kind === "chunk_metadata") this.about = message;
    else if (kind === "start") {
      this.live = true;
      this.notice.clear();
      this.on.started?.(message);
    } else if (kind === "queue_status") {
      this.notice.show(`Waiting for a place: ${message.position} of ${message.queue_depth}.`);
    } else if (kind === "error") {
      this.refused = true;
      this.notice.show(message.error.message, [["Try again", () => this.again()]]);
    } else if (message.type === "session.done") {
      this.closed = true;
    }
  }

  gone(code) {
    const wasLive = this.live;
    this.live = false;
    if (!this.closed && (!this.refused || code === TRY_LATER)) this.explain(code, wasLive);
    this.on.ended?.(wasLive);
  }

  explain(code, wasLive) {
    if (code === TRY_LATER) {
      let left = WAIT;
      const count = document.createElement("span");
      count.setAttribute("aria-hidden", "true");
      const tick = () => {
        if (left <= 0) return this.again();
        count.textContent = `Trying again in ${left} s`;
        left -= 1;
        return undefined;
      };
      this.notice.show("All places are taken.", [["Try now", () => this.again()]], count);
      tick();
      this.timer = setInterval(tick, 1000);
    } else if (NOT_ALLOWED.includes(code)) {
      this.notice.askKey(() => this.again());
    } else {
      this.notice.show(wasLive ? "The connection to the server is lost." : "The server does not answer. Is “unistep serve” still running?", [
        ["Try again", () => this.again()],
      ]);
    }
  }

  again() {
    clearInterval(this.timer);
    if (this.stopped) return;
    this.notice.clear();
    this.closed = false;
    this.open();
  }

  /** Ends the session; nothing of it arrives after that, and no button that it showed begins it again. */
  stop() {
    clearInterval(this.timer);
    this.stopped = this.closed = true;
    this.notice.clear();
    this.send({ type: "session.stop" });
    this.connection.onmessage = null;
    this.connection.close();
  }
}
