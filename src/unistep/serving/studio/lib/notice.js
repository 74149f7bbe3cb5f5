// One place for what goes wrong: a message in plain words, and what to do about it.

import { setKey } from "./api.js";
import { ApiError } from "./error.js";
import { h } from "./dom.js";

const BUSY = [429, 503];
const WAIT = 2; // seconds, where the server names none

function words(error) {
  if (!(error instanceof ApiError)) return "The server does not answer. Is “unistep serve” still running?";
  if (error.status === 401) return "This server needs its key.";
  if (error.status === 429) return "The server is busy.";
  if (error.status === 503) return "The server is still getting ready.";
  return error.message;
}

export class Notice {
  constructor(element) {
    this.element = element;
    element.setAttribute("role", "status");
    this.clear();
  }

  /** Takes the message away; that of a failure which another `owner` has stays where one is given. */
  clear(owner = null) {
    if (owner && this.owner && this.owner !== owner) return;
    this.owner = null;
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  /** Shows a message, with buttons `[[label, act], ...]`. */
  show(message, buttons = [], ...more) {
    const actions = buttons.map(([label, act]) => h("button", { type: "button", onclick: act }, label));
    this.element.replaceChildren(h("p", {}, message), ...more, ...actions);
    this.element.hidden = false;
    this.owner = null;
  }

  /**
   * Shows what failed, and resolves with whether to try again: by itself after a while where the server is busy, with
   * the button or a key elsewhere; false once `signal` aborts. `owner` is whose work it was.
   */
  failed(error, signal, owner = {}) {
    if (!(error instanceof ApiError)) console.error(error); // the network, or a mistake of the page's own
    return new Promise((resolve) => {
      let timer = 0;
      const done = (again) => {
        clearInterval(timer);
        if (again) this.clear(owner);
        resolve(again);
      };
      signal?.addEventListener("abort", () => done(false), { once: true });
      const retry = ["Try again", () => done(true)];
      if (error instanceof ApiError && error.status === 401) {
        this.askKey(() => done(true));
      } else if (error instanceof ApiError && BUSY.includes(error.status)) {
        let left = Math.ceil(error.retryAfter ?? WAIT);
        const count = h("span", { "aria-hidden": "true", class: "soft" });
        const tick = () => {
          if (left <= 0) return done(true);
          count.textContent = `Trying again in ${left} s`;
          left -= 1;
          return undefined;
        };
        this.show(words(error), [["Try now", () => done(true)]], count);
        timer = setInterval(tick, 1000);
        tick();
      } else {
        this.show(words(error), [retry]);
      }
      this.owner = owner;
    });
  }

  askKey(done) {
    const input = h("input", { type: "password", id: "api-key", autocomplete: "off", required: true });
    const form = h("form", { class: "inline" }, h("label", { for: "api-key" }, "Key"), input, h("button", { type: "submit" }, "Use it"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      setKey(input.value.trim());
      done();
    });
    this.show("This server needs its key.", [], form);
  }
}
