// A keyboard of real buttons: white keys beside each other, black ones above their gaps.

import { h } from "./dom.js";
import { noteNumber } from "./midi.js";

const ROW = ["KeyA", "KeyW", "KeyS", "KeyE", "KeyD", "KeyF", "KeyT", "KeyG", "KeyY", "KeyH", "KeyU", "KeyJ", "KeyK", "KeyO", "KeyL", "KeyP"];
const BLACK = [1, 3, 6, 8, 10];

/** The note number of a computer's key, counted from the C of an octave, or null. */
export const rowNumber = (code, from) => (ROW.includes(code) ? from + ROW.indexOf(code) : null);

/** A button that is struck and released by mouse, finger, Space and Enter. */
export function strikeable(button, strike, release) {
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.releasePointerCapture?.(event.pointerId); // so that a finger may slide to the next key
    strike(event);
  });
  button.addEventListener("pointerenter", (event) => event.buttons === 1 && event.pointerType !== "mouse" && strike(event));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(end, release);
  const mine = (event) => event.code === "Space" || event.code === "Enter";
  button.addEventListener("keydown", (event) => {
    if (mine(event)) event.preventDefault();
    if (mine(event) && !event.repeat) strike(event);
  });
  button.addEventListener("keyup", (event) => mine(event) && release(event));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

/** The keys of a model's notes, `{number: button}`; `names` are such as `C#4`. */
export function keyboard(element, names, strike, release) {
  const keys = {};
  const numbers = names.map(noteNumber);
  const lowest = Math.min(...numbers);
  const white = (number) => !BLACK.includes(((number % 12) + 12) % 12);
  const whitesBelow = (number) => Array.from({ length: number - lowest }, (_, index) => lowest + index).filter(white).length;
  const whites = whitesBelow(Math.max(...numbers) + 1);
  element.style.setProperty("--whites", whites);
  element.replaceChildren();
  names.forEach((name, index) => {
    const number = numbers[index];
    const button = h("button", { type: "button", class: white(number) ? "white" : "black", "aria-label": name.replace("#", " sharp ") });
    button.style.setProperty("--at", whitesBelow(number));
    if (name.startsWith("C") && white(number)) button.append(h("span", { "aria-hidden": "true" }, name));
    strikeable(button, (event) => strike(number, event), () => release(number));
    keys[number] = button;
    element.append(button);
  });
  // One stop for Tab; the arrows go from key to key.
  element.querySelectorAll("button").forEach((button, index) => (button.tabIndex = index ? -1 : 0));
  element.addEventListener("keydown", (event) => move(element, event));
  return keys;
}

function move(element, event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const buttons = [...element.querySelectorAll("button")];
  const next = buttons[buttons.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  document.activeElement.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
