// A WebSocket that comes back by itself. Knows nothing of the page.
//
// States: `idle` (never opened), `connecting`, `open`, `closing` (told to, the server has not answered), `waiting` (for the
// next attempt, at `until`), `closed`. Those after an end have its `code` and `reason`, whether it had been `opened`,
// and whether what was tried was `givenUp`.

/** The first pause and the longest one, in milliseconds; each is twice the one before. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** How long a connection has to hold until the pauses begin anew: a server that closes at once is not hammered. */
const STABLE = 5_000;

/** How long a handshake may take, and the answer to a close. */
const HANDSHAKE = 15_000;
const FAREWELL = 3_000;

/** What may wait in the browser to be sent, in bytes. */
const UNSENT = 8 * 1024 * 1024;

export class Connection {
  #socket = null;
  #url = "";
  #reconnect = true;
  #attempt = 0;
  #timer = 0;
  #state = { name: "idle" };
  #onState;
  #onMessage;

  /** `onState` is called with each new state, `onMessage` with what comes: a string, or an `ArrayBuffer`. */
  constructor(onState, onMessage) {
    this.#onState = onState;
    this.#onMessage = onMessage;
    addEventListener("online", () => this.retry());
  }

  get state() {
    return this.#state;
  }

  /** Whether it comes back after an end that nobody here asked for. */
  set reconnect(value) {
    this.#reconnect = value;
    if (!value && this.#state.name === "waiting") this.#rest(this.#state, true);
  }

  /** Connects. Throws where the URL can't be one of a WebSocket. */
  open(url) {
    this.#drop();
    this.#url = url;
    this.#attempt = 0;
    this.#connect();
  }

  /** Ends the connection, or the waiting for one. */
  close() {
    if (this.#state.name === "open") {
      this.#set({ name: "closing" });
      this.#socket.close(1000);
      this.#after(FAREWELL, () => {
        this.#drop();
        this.#rest({ code: 1006, reason: "", opened: true });
      });
    } else if (this.#state.name === "connecting") {
      this.#drop();
      this.#rest({}, true);
    } else if (this.#state.name === "waiting") {
      this.#rest(this.#state, true);
    }
  }

  /** Doesn't wait any longer for the next attempt. */
  retry() {
    if (this.#state.name === "waiting") this.#connect();
  }

  /** Sends a text as one message. False where there is no open connection, or too much is waiting in it. */
  send(text) {
    if (this.#state.name !== "open" || this.#socket.bufferedAmount > UNSENT) return false;
    this.#socket.send(text);
    return true;
  }

  #connect() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#set({ name: "open" });
      this.#after(STABLE, () => (this.#attempt = 0));
    };
    socket.onmessage = (event) => this.#onMessage(event.data);
    socket.onclose = (event) => this.#ended(event.code, event.reason);
    this.#set({ name: "connecting" });
    this.#after(HANDSHAKE, () => {
      this.#drop();
      this.#ended(1006, "");
    });
  }

  #ended(code, reason) {
    this.#socket = null;
    const opened = this.#state.name !== "connecting";
    if (this.#state.name === "closing" || !this.#reconnect) {
      this.#rest({ code, reason, opened });
      return;
    }
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 10);
    // Between a half and the whole of it, so that pages that were cut off together don't come back together.
    const wait = pause * (0.5 + Math.random() / 2);
    this.#after(wait, () => this.#connect());
    this.#set({ name: "waiting", until: Date.now() + wait, code, reason, opened });
  }

  #rest({ code, reason, opened }, givenUp = false) {
    clearTimeout(this.#timer);
    this.#set({ name: "closed", code, reason, opened, givenUp });
  }

  /** Lets go of the socket; whatever it still says isn't heard. */
  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #after(milliseconds, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, milliseconds);
  }

  #set(state) {
    this.#state = state;
    this.#onState(state);
  }
}
