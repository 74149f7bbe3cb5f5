// A stream of a local model with the face of a web socket to a server.

import { stream } from "./client.js";

export class LocalSocket {
  constructor() {
    this.readyState = WebSocket.CONNECTING;
    this.stream = stream((message) => this.received(message));
    queueMicrotask(() => {
      if (this.readyState !== WebSocket.CONNECTING) return; // closed at once
      this.readyState = WebSocket.OPEN;
      this.onopen?.();
    });
  }

  received({ about, bytes }) {
    if (this.readyState !== WebSocket.OPEN) return;
    this.onmessage?.({ data: JSON.stringify(about) });
    if (bytes) this.onmessage?.({ data: bytes });
    if (about.type === "error") this.ended(1008);
  }

  send(text) {
    this.stream.send(JSON.parse(text));
  }

  ended(code) {
    if (this.readyState === WebSocket.CLOSED) return;
    this.readyState = WebSocket.CLOSED;
    this.stream.close();
    this.onclose?.({ code });
  }

  close() {
    this.ended(1000);
  }
}
