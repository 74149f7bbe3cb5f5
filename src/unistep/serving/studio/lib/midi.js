// MIDI keyboards, where the browser has them: secure pages, which localhost is, in Chromium and Firefox.

const NOTE_ON = 0x90;
const NOTE_OFF = 0x80;

export const hasMidi = () => typeof navigator.requestMIDIAccess === "function";

/** Asks for MIDI keyboards: `on(number, velocity)` and `off(number)` for their keys, `changed(names)` as they come and go. */
export async function connectMidi({ on, off, changed }) {
  const access = await navigator.requestMIDIAccess();
  const listen = () => {
    const inputs = [...access.inputs.values()];
    for (const input of inputs) input.onmidimessage = ({ data: [status, number, velocity], timeStamp }) => {
      const kind = status & 0xf0;
      if (kind === NOTE_ON && velocity > 0) on(number, velocity, timeStamp);
      else if (kind === NOTE_ON || kind === NOTE_OFF) off(number);
    };
    changed(inputs.map((input) => input.name ?? "keyboard"));
  };
  access.onstatechange = listen;
  listen();
}

const STEPS = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };

/** The MIDI number of a note's name: 60 for C4. */
export function noteNumber(name) {
  const match = /^([A-G])([#b]?)(-?\d+)$/.exec(name);
  if (!match) return null;
  const [, letter, accidental, octave] = match;
  return 12 * (Number(octave) + 1) + STEPS[letter] + { "#": 1, b: -1, "": 0 }[accidental];
}
