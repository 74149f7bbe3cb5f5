// Undo and redo: states of a document, of which the oldest are let go.

const MOST = 40;

export class History {
  /** `restore(state)` shows a state; `changed()` is called when what can be undone or redone changes. */
  constructor(restore, changed) {
    Object.assign(this, { restore, changed, states: [], at: -1 });
  }

  /** Begins anew with one state, which cannot be undone. */
  begin(state) {
    this.states = [state];
    this.at = 0;
    this.changed();
  }

  push(state) {
    this.states = [...this.states.slice(0, this.at + 1), state].slice(-MOST);
    this.at = this.states.length - 1;
    this.changed();
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.states.length - 1;
  }

  go(by) {
    const next = this.at + by;
    if (next < 0 || next >= this.states.length) return;
    this.at = next;
    this.restore(this.states[next]);
    this.changed();
  }
}
