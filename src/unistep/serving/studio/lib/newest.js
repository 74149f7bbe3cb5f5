// The newest input wins: what is on its way for older input is aborted, or at most one of it is let finish.

const OVERDUE = 1000; // ms after which what is on its way is aborted for something newer, or three times the usual

export class Newest {
  /** `changed()` is called when work begins to wait for another try after a failure, and when it no longer does. */
  constructor(notice, changed = () => {}) {
    Object.assign(this, { notice, changed, controller: null, running: null, waiting: null, failing: false, took: 0 });
  }

  /** Aborts what runs, drops what waits, and takes away what was said of it. */
  stop() {
    this.drop();
    this.controller?.abort();
    if (this.notice.owner === this) this.notice.clear();
  }

  fails(now) {
    this.failing = now;
    this.changed();
  }

  get busy() {
    return this.running !== null;
  }

  /**
   * Runs `work(signal)` and aborts what ran; resolves with the result, or with undefined where newer work took its place.
   * Failures are shown, and tried again as the notice says.
   */
  async run(work) {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    const { signal } = controller;
    for (;;) {
      try {
        const result = await work(signal);
        if (signal.aborted) return undefined;
        this.notice.clear(this);
        return result;
      } catch (error) {
        if (signal.aborted || this.waiting) return undefined; // newer work may fare better
        this.fails(true);
        const again = await this.notice.failed(error, signal, this);
        this.fails(false);
        if (!again) return undefined;
      }
    }
  }

  /**
   * As `run` for input that comes faster than answers: what is in the model already is let finish and shown, since it
   * could not be taken back, and of what comes meanwhile only the newest is kept. Else nothing would be seen until
   * the input pauses.
   */
  latest(work) {
    this.drop();
    if (this.busy && !this.failing && performance.now() - this.running.since < Math.max(OVERDUE, 3 * this.took)) {
      return new Promise((resolve) => (this.waiting = { work, resolve }));
    }
    return this.follow(work);
  }

  async follow(work) {
    const mine = { since: performance.now() };
    this.running = mine;
    const result = await this.run(work);
    if (this.running === mine) {
      this.running = null;
      this.took = performance.now() - mine.since;
      const next = this.waiting;
      this.waiting = null;
      if (next) this.follow(next.work).then(next.resolve);
    }
    return result;
  }

  drop() {
    this.waiting?.resolve(undefined);
    this.waiting = null;
  }
}
