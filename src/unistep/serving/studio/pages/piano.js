// Piano and drums: each note is made when it is struck, or was made for the same strike before.

import { audio, damp, deviceLatency, play, setVolume } from "../lib/audio.js";
import { Bank, banded } from "../lib/bank.js";
import { byId, download, h, typing } from "../lib/dom.js";
import { fieldControls } from "../lib/fields.js";
import { keyboard, rowNumber, strikeable } from "../lib/keyboard.js";
import { Latency, inMs } from "../lib/latency.js";
import { marked } from "../lib/marks.js";
import { connectMidi, hasMidi, noteNumber } from "../lib/midi.js";
import { allModels, chooseModel, playsHits, playsNotes } from "../lib/models.js";
import { Recorder, recordButton } from "../lib/record.js";
import { shell } from "../lib/shell.js";
import { checkbox, seedSlider, slider } from "../lib/sliders.js";

const NEIGHBOURS = 4; // semitones on each side that are made beforehand
const page = shell();
const bank = new Bank();
const recorder = new Recorder();
const toSound = new Latency(byId("latency-key"));
const toNew = new Latency(byId("latency-new"));
const sounding = new Map();
const piano = { model: null, fields: null, keys: {}, names: {} };
const drums = { model: null, pads: [], names: [], field: "" };
let octave = 60;

const seed = seedSlider({ value: 0, change: () => prepare() });
const velocity = slider({ label: "Velocity", min: 1, max: 127, value: 96, change: () => prepare() });
const volume = slider({ label: "Volume", min: 0, max: 1, step: 0.01, value: 0.8, format: (value) => `${Math.round(100 * value)} %`, change: setVolume });
const fresh = checkbox({ label: "Always make new sounds", hint: "A new seed for each strike, nothing from before", change: () => prepare() });
const ring = checkbox({ label: "Let notes ring", checked: true, hint: "Otherwise they end with the key" });

const seedNow = () => (fresh.input.checked ? Math.floor(Math.random() * 2 ** 31) : seed.value);

function noteBody(number, strength) {
  const field = piano.model.unistep.fields.velocity;
  const condition = { ...piano.fields.condition(), pitch: piano.names[number] };
  if (field) condition.velocity = banded(Math.min(field.high, Math.max(field.low, strength)), field);
  return { model: piano.model.id, seed: seedNow(), condition };
}

const hitBody = (index) => ({ model: drums.model.id, seed: seedNow(), condition: { [drums.field]: drums.names[index] } });

/** Plays what a request makes; the latency is from the key's event to the sound's start in the audio graph. */
async function sound(name, body, level, event) {
  const since = event.timeStamp ?? performance.now();
  const always = fresh.input.checked;
  audio();
  const held = { playing: null, released: false };
  sounding.set(name, held);
  const known = !always && bank.has(body);
  try {
    const made = await (always ? Bank.make(body) : bank.get(body));
    held.playing = play(made.buffer, 0, level);
    held.entry = recorder.add(made.samples, made.rate, held.playing.at, level);
    const passed = performance.now() - since;
    toSound.add(passed);
    if (!known) toNew.add(passed);
    byId("latency-device").textContent = inMs(1000 * deviceLatency());
    page.notice.clear();
    if (held.released) quieten(held);
  } catch (error) {
    if (await page.notice.failed(error)) prepare();
  }
}

function quieten(held) {
  held.released = true;
  if (ring.input.checked || !held.playing) return;
  damp(held.playing);
  held.entry.end = audio().currentTime;
}

function light(button, on) {
  button?.classList.toggle("struck", on);
}

function strike(number, event, strength = velocity.value) {
  if (!piano.keys[number]) return;
  light(piano.keys[number], true);
  sound(`note ${number}`, noteBody(number, strength), 1, event);
  if (!fresh.input.checked) prepare(bodiesOf(range(number - NEIGHBOURS, 2 * NEIGHBOURS + 1), strength));
}

function release(number) {
  light(piano.keys[number], false);
  const held = sounding.get(`note ${number}`);
  if (held && !held.released) quieten(held);
}

function hit(index, event) {
  if (!drums.pads[index]) return;
  light(drums.pads[index], true);
  sound(`hit ${index}`, hitBody(index), velocity.value / 127, event);
}

/** The requests of notes, those that the model has. */
const bodiesOf = (numbers, strength) => numbers.filter((each) => each in piano.keys).map((each) => noteBody(each, strength));
const range = (from, count) => Array.from({ length: count }, (_, index) => from + index);

/** Makes sounds beforehand, first those that are given, then those under the computer's keys, and the drums; says what is ready. */
function prepare(first = []) {
  const about = byId("about-cache");
  if (fresh.input.checked) {
    bank.prefetch([]);
    about.textContent = "Every strike makes a new sound with a seed of its own.";
    return;
  }
  const row = piano.model ? bodiesOf(range(octave, 16), velocity.value) : [];
  bank.prefetch([...first, ...row, ...drums.names.map((_, index) => hitBody(index))], (ready, of) => {
    about.textContent = `A note of the same pitch, seed and velocity (in bands of 12) sounds the same, so it is made once and kept; notes near the last are made beforehand: ${ready} of ${of} ready.`;
    Object.assign(about.dataset, { ready, of });
  });
}

function usePiano(model) {
  piano.model = model;
  const { names } = model.unistep.fields.pitch;
  piano.names = Object.fromEntries(names.map((name) => [noteNumber(name), name]));
  piano.keys = keyboard(byId("piano"), names, strike, release);
  byId("piano").hidden = byId("octaves").hidden = false;
  piano.fields = fieldControls(model, () => prepare(), ["pitch", "velocity"]);
  byId("piano-fields").replaceChildren(...piano.fields.elements);
  const first = byId("piano-fields").querySelectorAll("input[type=radio]")[1]; // a named instrument rather than any
  if (first) first.click();
  mark();
  prepare();
}

function useDrums(model) {
  drums.model = model;
  const [field, { names }] = Object.entries(model.unistep.fields).find(([, each]) => each.kind === "label") ?? ["", { names: [] }];
  Object.assign(drums, { field, names });
  drums.pads = names.map((name, index) => {
    const pad = h("button", { type: "button" }, name, h("small", { "aria-hidden": "true" }, index < 9 ? String(index + 1) : ""));
    strikeable(pad, (event) => hit(index, event), () => light(pad, false));
    return pad;
  });
  byId("pads").replaceChildren(...drums.pads);
  byId("pads").hidden = false;
  prepare();
}

/** Marks the keys that the computer's keyboard plays. */
function mark() {
  for (const [number, button] of Object.entries(piano.keys)) button.classList.toggle("near", number >= octave && number <= octave + 15);
  const first = piano.keys[octave];
  if (first) byId("piano").scrollLeft = first.offsetLeft - 1;
}

const pressed = new Map(); // the note that each of the computer's keys holds, also once the octave is another one

function onKeyDown(event) {
  if (typing(event) || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const digit = /^Digit([1-9])$/.exec(event.code);
  const number = rowNumber(event.code, octave);
  if (digit) hit(digit[1] - 1, event);
  else if (number !== null) {
    pressed.set(event.code, number);
    strike(number, event);
  } else if (event.code === "KeyZ" || event.code === "KeyX") shift(event.code === "KeyZ" ? -12 : 12);
}

/** Lets go what a key holds, whatever else is pressed by then. */
function onKeyUp({ code }) {
  const digit = /^Digit([1-9])$/.exec(code);
  if (digit) light(drums.pads[digit[1] - 1], false);
  if (pressed.has(code)) release(pressed.get(code));
  pressed.delete(code);
}

/** Moves the computer's keys by an octave, where the model has one. */
function shift(by) {
  if (!(octave + by in piano.keys)) return;
  octave += by;
  mark();
  prepare();
  page.say(`Octave from ${piano.names[octave]}.`);
}
byId("octave-down").addEventListener("click", () => shift(-12));
byId("octave-up").addEventListener("click", () => shift(12));
document.addEventListener("keydown", onKeyDown);
document.addEventListener("keyup", onKeyUp);
window.addEventListener("blur", () => {
  for (const code of [...pressed.keys()]) onKeyUp({ code }); // another window gets the key's end
  for (const pad of drums.pads) light(pad, false);
});

const save = async (file) => {
  const model = [piano.model, drums.model].filter(Boolean).map(({ id }) => id).join(", ");
  download(await marked(file, { model }), "unistep-piano.wav");
};
const record = h("button", { type: "button", id: "record" }, "Record");
recordButton(record, recorder, () => audio().currentTime, save, page.say);
const midi = h("button", { type: "button", id: "midi", hidden: !hasMidi() }, "Connect MIDI");
midi.addEventListener("click", () =>
  connectMidi({
    on: (number, strength, timeStamp) => strike(number, { timeStamp }, strength),
    off: release,
    changed: (names) => (midi.textContent = names.length ? `MIDI: ${names.join(", ")}` : "MIDI: no keyboard yet"),
  }).catch(() => page.notice.show("The browser does not allow MIDI here.")),
);

byId("settings").append(
  h("div", { id: "piano-model" }),
  h("div", { id: "piano-fields", class: "group" }),
  ...[velocity, seed, volume, fresh, ring].map((control) => control.element),
  h("div", { class: "buttons" }, record, midi),
);
const found = await allModels(page.notice);
if (found.some(playsNotes) || !found.some(playsHits)) {
  const notes = chooseModel(found, { notice: page.notice, suits: playsNotes, use: usePiano, name: "piano", example: "notes" });
  if (notes.models.length > 1) byId("piano-model").append(notes.element);
}
if (found.some(playsHits)) {
  const hits = chooseModel(found, { suits: playsHits, use: useDrums, name: "drums", example: "drums", label: "Drums" });
  if (hits.models.length > 1) byId("piano-model").append(hits.element);
}
document.body.dataset.ready = "";
