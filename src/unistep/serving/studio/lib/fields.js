// Controls for the fields that a model declares: its text, classes and numbers, whatever they are called.

import { h } from "./dom.js";
import { choice, select, slider } from "./sliders.js";

const MOST_CHIPS = 12;
const ANY = "";
const capital = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

function labelControl(name, field, changed) {
  const values = field.names.length ? field.names : field.numbers.map(String);
  const choices = [[ANY, "any"], ...values.map((each) => [each, each])];
  const build = choices.length <= MOST_CHIPS ? choice : select;
  let value = ANY;
  const { element } = build({
    label: capital(name),
    choices,
    value,
    change: (next, event) => {
      value = next;
      changed(event);
    },
  });
  return { element, value: () => value || undefined };
}

function scalarControl(name, field, changed) {
  const span = field.high - field.low;
  const step = span > 20 ? 1 : span / 60;
  const value = field.default ?? (field.low + field.high) / 2;
  const control = slider({
    label: capital(name),
    min: field.low,
    max: field.high,
    step,
    value,
    format: (each) => (step === 1 ? String(Math.round(each)) : each.toFixed(2)),
    change: (_, event) => changed(event),
  });
  return { element: control.element, value: () => control.value };
}

function vectorControl(name, field, changed) {
  const parts = field.names.map((part, index) =>
    slider({
      label: capital(part),
      min: field.low[index],
      max: field.high[index],
      step: (field.high[index] - field.low[index]) / 20,
      value: Math.max(0, field.low[index]),
      format: (each) => each.toFixed(2),
      change: (_, event) => changed(event),
    }),
  );
  const element = h("fieldset", { class: "control" }, h("legend", {}, capital(name)), ...parts.map((part) => part.element));
  return { element, value: () => parts.map((part) => part.value) };
}

function textControl(name, changed) {
  const input = h("input", { type: "text", id: `field-${name}`, autocomplete: "off", spellcheck: false });
  input.addEventListener("input", changed);
  return { element: h("div", { class: "control" }, h("label", { for: input.id }, capital(name)), input), value: () => input.value.trim() || undefined };
}

/** Whether a model takes text, and in which field. */
export const textField = (model) => Object.keys(model.unistep.fields).find((name) => model.unistep.fields[name].kind === "text");

/** The controls of a model's fields, except those named in `without`: `{elements, condition()}`. */
export function fieldControls(model, changed, without = []) {
  const controls = {};
  for (const [name, field] of Object.entries(model.unistep.fields)) {
    if (without.includes(name)) continue;
    if (field.kind === "label") controls[name] = labelControl(name, field, changed);
    if (field.kind === "scalar") controls[name] = scalarControl(name, field, changed);
    if (field.kind === "vector" || field.kind === "action") controls[name] = vectorControl(name, field, changed);
    if (field.kind === "text") controls[name] = textControl(name, changed);
  }
  return {
    elements: Object.values(controls).map((control) => control.element),
    condition: () => {
      const values = Object.entries(controls).map(([name, control]) => [name, control.value()]);
      return Object.fromEntries(values.filter(([, value]) => value !== undefined));
    },
  };
}
