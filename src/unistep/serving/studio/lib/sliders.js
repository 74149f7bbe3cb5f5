// Sliders and switches with their labels and values.

import { h } from "./dom.js";

let count = 0;
const fresh = (name) => `${name}-${(count += 1)}`;

/** A labelled range with its value beside it: `{element, input, value}`; `change(value)` is called while it moves. */
export function slider({ label, min, max, step = 1, value, format = String, change = () => {}, hint = "" }) {
  const id = fresh("slider");
  const output = h("output", { for: id }, format(value));
  const input = h("input", { type: "range", id, min, max, step });
  input.value = value;
  const said = () => {
    output.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", format(Number(input.value)));
  };
  input.addEventListener("input", (event) => {
    said();
    change(Number(input.value), event);
  });
  said();
  const top = h("div", { class: "row" }, h("label", { for: id }, label), output);
  const element = h("div", { class: "control" }, top, input, hint ? h("p", { class: "hint" }, hint) : null);
  element.hidden = min === max; // nothing to choose
  return {
    element,
    input,
    get value() {
      return Number(input.value);
    },
    set value(next) {
      input.value = next;
      said();
    },
  };
}

/** A seed: a slider over the first thousand, a number for any other, and a button for a new one. */
export function seedSlider({ label = "Seed", value = 0, change = () => {} }) {
  const id = fresh("seed");
  const exact = h("input", { type: "number", id, min: 0, max: 2 ** 31 - 1, step: 1, class: "seed" });
  const range = h("input", { type: "range", min: 0, max: 999, step: 1, "aria-label": `${label}, slider` });
  const dice = h("button", { type: "button", class: "small", "aria-label": `New ${label.toLowerCase()}` }, "New");
  let current = value;
  const set = (next) => {
    current = Math.min(2 ** 31 - 1, Math.max(0, Math.floor(next) || 0));
    range.value = current;
    if (Number(exact.value) !== current || exact.value === "") exact.value = current;
  };
  const moved = (next, event) => {
    set(next);
    change(current, event);
  };
  range.addEventListener("input", (event) => moved(Number(range.value), event));
  exact.addEventListener("input", (event) => exact.value !== "" && moved(Number(exact.value), event));
  dice.addEventListener("click", (event) => moved(Math.random() * 1000, event));
  set(value);
  const top = h("div", { class: "row" }, h("label", { for: id }, label), h("span", { class: "pair" }, exact, dice));
  return {
    element: h("div", { class: "control" }, top, range),
    get value() {
      return current;
    },
    set value(next) {
      set(next);
    },
  };
}

/** A check box with its label: `{element, input}`. */
export function checkbox({ label, checked = false, change = () => {}, hint = "" }) {
  const input = h("input", { type: "checkbox", checked });
  input.addEventListener("change", (event) => change(input.checked, event));
  const element = h("label", { class: "check" }, input, h("span", {}, label, hint ? h("small", {}, hint) : null));
  return { element, input };
}

/** One of several, as a row of radio buttons: `choices` are `[value, label]`. */
export function choice({ label, choices, value, change = () => {} }) {
  const name = fresh("choice");
  let current = value;
  const chips = choices.map(([each, text]) => {
    const input = h("input", { type: "radio", name, value: String(each), checked: each === value });
    input.addEventListener("change", (event) => {
      current = each;
      change(each, event);
    });
    return h("label", { class: "chip" }, input, h("span", {}, text));
  });
  return {
    element: h("fieldset", { class: "control" }, h("legend", {}, label), h("div", { class: "chips" }, ...chips)),
    get value() {
      return current;
    },
  };
}

/** A list to choose from: `choices` are `[value, label]`. */
export function select({ label, choices, value, change = () => {} }) {
  const id = fresh("select");
  const input = h("select", { id }, ...choices.map(([each, text]) => h("option", { value: each, selected: each === value }, text)));
  input.addEventListener("change", (event) => change(input.value, event));
  const element = h("div", { class: "control" }, h("label", { for: id }, label), input);
  return { element, input };
}
