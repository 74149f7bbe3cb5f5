// The schedule of a stream as a picture: chunks along a clock, with what they play and what they took.

import { fitted, ink } from "./chart.js";

const SHARE = 0.375; // of the width that is past
const SECOND = 150; // pixels of a second, at least


/** Draws chunks `{due, seconds, label, took}`, whose `took` is in milliseconds, around the time `now`. */
export function drawSchedule(canvas, chunks, now) {
  const { context, width, height } = fitted(canvas);
  const second = Math.max(SECOND, width / 4);
  const x = (time) => (time - now) * second + SHARE * width;
  const [top, body] = [28, height - 64];
  context.textBaseline = "middle";
  for (const { due, seconds, label, took } of chunks) {
    const [left, right] = [x(due), x(due + seconds)];
    if (right < 0 || left > width) continue;
    const over = due + seconds < now;
    context.fillStyle = ink(over ? "line" : "accent");
    context.fillRect(left + 1, top, right - left - 2, body);
    context.fillStyle = ink("strong-line");
    context.fillRect(left + 1, top + body + 6, Math.min(1, took / 1000 / seconds) * (right - left - 2), 5);
    context.save();
    context.beginPath();
    context.rect(left, top, right - left - 6, body);
    context.clip();
    context.fillStyle = ink(over ? "soft" : "on-accent");
    context.font = "600 14px system-ui, sans-serif";
    context.fillText(label, left + 10, top + body / 2);
    context.restore();
    context.fillStyle = ink("soft");
    context.font = "11px system-ui, sans-serif";
    if (right - left > 44) context.fillText(`${Math.round(took)} ms`, left + 2, top + body + 22);
  }
  context.fillStyle = ink("ink");
  context.fillRect(Math.round(x(now)) - 1, 10, 2, height - 16);
  context.font = "11px system-ui, sans-serif";
  context.fillText("now", x(now) + 6, 14);
}
