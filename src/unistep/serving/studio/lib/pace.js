// Even steps: a frame is shown no sooner after the one before than its period, on the repaints that the screen has. One
// that comes late moves those after it, which then have that much time in hand; what is never needed is given back.

const EARLY = 5; // ms before its time that a repaint may be
const REPAINT = 18; // ms from one repaint to the next, of most screens, and a little more
const WATCHED = 60; // frames

export class Pace {
  constructor() {
    this.shown = -Infinity;
    this.hand = []; // how long each of the last frames waited
  }

  /** Whether a frame that came at `arrived` may be shown at the repaint `now`; if so, it is. */
  allows(now, arrived, period) {
    const due = this.shown + period - EARLY;
    const spare = this.hand.length === WATCHED && Math.min(...this.hand) > REPAINT;
    if (now < due && !spare) return false;
    this.hand = spare ? [] : [...this.hand.slice(1 - WATCHED), now - arrived];
    this.shown = now;
    return true;
  }
}
