// Latencies as they were measured on this page: the median and the 95th percentile of the last hundred.

const LAST = 100;
const EVERY = 200; // ms between two looks of the figures, which would otherwise cost more than some frames

/** The q-quantile of numbers (nearest rank), or null of none. */
export function quantile(values, q) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))];
}

const short = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));
export const inMs = (value) => (value === null || value === undefined ? "–" : `${short(value)} ms`);

/** Shows p50 and p95 in an element, which also carries them as data for whoever measures from outside. */
export class Latency {
  constructor(element) {
    this.element = element;
    this.values = [];
    this.timer = 0;
    this.show();
  }

  add(ms) {
    this.values.push(ms);
    if (this.values.length > LAST) this.values.shift();
    this.timer ||= setTimeout(() => this.show(), EVERY);
  }

  clear() {
    this.values = [];
    this.show();
  }

  show() {
    clearTimeout(this.timer);
    this.timer = 0;
    const p50 = quantile(this.values, 0.5);
    const p95 = quantile(this.values, 0.95);
    this.element.textContent = this.values.length ? `${short(p50)} / ${short(p95)} ms` : "–";
    Object.assign(this.element.dataset, { p50: p50 ?? "", p95: p95 ?? "", count: this.values.length });
  }
}
