// Held keys of a game: the keyboard, and buttons for fingers, mouse and screen readers.

import { h, typing } from "./dom.js";

const CODES = {
  left: ["ArrowLeft", "KeyA"],
  right: ["ArrowRight", "KeyD"],
  gas: ["ArrowUp", "KeyW"],
  up: ["ArrowUp", "KeyW"],
  forward: ["ArrowUp", "KeyW"],
  brake: ["ArrowDown", "KeyS"],
  down: ["ArrowDown", "KeyS"],
  back: ["ArrowDown", "KeyS"],
};
const SIGNS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

/** Which keyboard codes press which key: the usual ones, and digits for names that have none. */
export function codesOf(names) {
  let digit = 0;
  const codes = names.map((name) => [name, CODES[name] ?? [`Digit${(digit = (digit % 9) + 1)}`]]);
  return Object.fromEntries(codes);
}

export class HeldKeys {
  /** `changed(names, event)` is called whenever what is held changes, while `active()`. */
  constructor(names, changed, active) {
    Object.assign(this, { names, changed, active, held: new Map() });
    this.codes = codesOf(names);
    this.abort = new AbortController();
    const { signal } = this.abort;
    document.addEventListener("keydown", (event) => this.key(event, true), { signal });
    document.addEventListener("keyup", (event) => this.key(event, false), { signal });
    window.addEventListener("blur", (event) => this.release(event), { signal });
  }

  /** Stops listening. */
  end() {
    this.abort.abort();
  }

  key(event, down) {
    const taken = !this.active() || typing(event) || event.ctrlKey || event.metaKey || event.altKey;
    const name = this.names.find((each) => this.codes[each].includes(event.code));
    // What is held is let go whatever else is pressed by then.
    if (!name || (down ? taken : !this.held.get(name)?.has(event.code))) return;
    event.preventDefault(); // arrows would scroll the page
    if (!event.repeat) this.set(name, event.code, down, event);
  }

  /** A key may be held from several sides at once; it is up when none holds it. */
  set(name, source, down, event) {
    const sources = this.held.get(name) ?? new Set();
    const before = sources.size > 0;
    if (down) sources.add(source);
    else sources.delete(source);
    this.held.set(name, sources);
    if (before !== sources.size > 0) this.changed(this.down, event);
  }

  get down() {
    return this.names.filter((name) => this.held.get(name)?.size);
  }

  release(event) {
    const any = this.down.length > 0;
    this.held.clear();
    if (any) this.changed([], event);
  }

  /** Buttons that hold their key while they are pressed. */
  buttons() {
    return this.names.map((name) => {
      const sign = SIGNS[this.codes[name][0]] ?? this.codes[name][0].replace("Digit", "");
      const button = h("button", { type: "button", class: "key", dataset: { key: name } }, h("span", { "aria-hidden": "true" }, sign), h("small", {}, name));
      const press = (down) => (event) => (!down || this.active()) && this.set(name, "button", down, event);
      button.addEventListener("pointerdown", (event) => {
        button.setPointerCapture(event.pointerId);
        press(true)(event);
      });
      for (const end of ["pointerup", "pointercancel", "blur"]) button.addEventListener(end, press(false));
      const mine = (event) => event.code === "Space" || event.code === "Enter";
      button.addEventListener("keydown", (event) => mine(event) && !event.repeat && press(true)(event));
      button.addEventListener("keyup", (event) => mine(event) && press(false)(event));
      button.addEventListener("contextmenu", (event) => event.preventDefault());
      return button;
    });
  }
}
