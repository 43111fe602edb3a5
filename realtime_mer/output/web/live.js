// The connection to the session: one WebSocket, opened again whenever it ends. Pictures come as
// binary messages, the rest as JSON.

const RETRY_MS = 500;
const LONGEST_RETRY_MS = 8000;
// The server sends a status twice a second: after this silence, what is shown is no longer the
// present, and after the second one the connection is lost.
const SILENCE_MS = 1500;
const LOST_MS = 5000;
const WATCH_MS = 250;
// WebSocket close code of a server that has no place left.
const TRY_AGAIN_LATER = 1013;

// What a connection can be.
export const CONNECTING = "connecting", OPEN = "open", SILENT = "silent", LOST = "lost", FULL = "full";

export class Live {
  #handlers;
  #address;
  #socket = null;
  #state = CONNECTING;
  #retryMs = RETRY_MS;
  #lastHeard = 0;
  #received = 0;
  #drawn = 0;
  // Confirmations held back while the page is hidden: without them, the server sends no pictures.
  #heldBack = [];

  // Handlers: `message(message, isPast)`, where records from before we came are past;
  // `state(state)`; and `picture(bitmap)`, without which no pictures are asked for.
  constructor(handlers) {
    this.#handlers = handlers;
    this.#address = new URL("live", location.href);
    this.#address.protocol = this.#address.protocol.replace("http", "ws");
    if (!handlers.picture) this.#address.searchParams.set("pictures", "0");
    document.addEventListener("visibilitychange", () => this.#confirmHeldBack());
    this.#connect();
  }

  // Sends a command; returns whether it left.
  send(command) {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(command));
    return true;
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#handlers.state(state);
  }

  #connect() {
    const socket = this.#socket = new WebSocket(this.#address);
    socket.binaryType = "arraybuffer";
    let last = 0;
    let lookedAt = this.#lastHeard = performance.now();
    let patientUntil = 0;
    const watch = setInterval(() => {
      const time = performance.now();
      // While we stood still ourselves, messages may have come that wait to be read.
      if (time - lookedAt > SILENCE_MS) patientUntil = time + LOST_MS;
      lookedAt = time;
      const silence = time - this.#lastHeard;
      if (silence > LOST_MS && time > patientUntil) socket.close();
      else if (silence > SILENCE_MS && this.#state === OPEN) this.#enter(SILENT);
    }, WATCH_MS);
    socket.onmessage = ({ data }) => {
      this.#lastHeard = performance.now();
      this.#retryMs = RETRY_MS;
      this.#enter(OPEN);
      if (typeof data !== "string") {
        this.#show(data, socket);
        return;
      }
      const message = JSON.parse(data);
      if (message.type === "hello") last = message.last;
      this.#handlers.message(message, message.n <= last);
    };
    socket.onclose = ({ code }) => {
      clearInterval(watch);
      this.#heldBack = [];
      this.#enter(code === TRY_AGAIN_LATER ? FULL : LOST);
      setTimeout(() => this.#connect(), this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
    };
  }

  async #show(data, socket) {
    const number = (this.#received += 1);
    const confirm = () => socket.readyState === WebSocket.OPEN && socket.send("shown");
    try {
      const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
      if (number > this.#drawn) this.#handlers.picture(bitmap);
      this.#drawn = Math.max(this.#drawn, number);
      bitmap.close();
    } finally {
      if (document.hidden) this.#heldBack.push(confirm);
      else confirm();
    }
  }

  #confirmHeldBack() {
    if (document.hidden) return;
    for (const confirm of this.#heldBack) confirm();
    this.#heldBack = [];
  }
}
