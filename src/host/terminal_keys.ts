/** The keys trike keeps for itself on a raw terminal: those after Ctrl-A. */

export const ESCAPE = 0x01; // Ctrl-A

export const KEYS_HELP = "\r\nCtrl-A x       stop the machine at once and leave\r\n" +
  "Ctrl-A s       save the machine, and go on\r\n" +
  "Ctrl-A h       list these keys\r\n" +
  "Ctrl-A Ctrl-A  send one Ctrl-A to the guest\r\n";

export type Key = "leave" | "save" | "help";

/** Takes the escapes out of a stream of typed bytes, however it is cut into pieces. */
export class KeyFilter {
  #armed = false;

  constructor(private readonly onKey: (key: Key) => void) {}

  /** The bytes for the guest. An unknown key after Ctrl-A is dropped with it. */
  filter(bytes: Uint8Array): Uint8Array {
    if (!this.#armed && !bytes.includes(ESCAPE)) return bytes;
    const kept = new Uint8Array(bytes.length);
    let n = 0;
    for (const byte of bytes) {
      if (this.#armed) {
        this.#armed = false;
        if (byte === ESCAPE) kept[n++] = ESCAPE;
        else if (byte === 0x78 || byte === 0x58) this.onKey("leave"); // x, X
        else if (byte === 0x73 || byte === 0x53) this.onKey("save"); // s, S
        else if (byte === 0x68 || byte === 0x48 || byte === 0x3f) this.onKey("help"); // h, H, ?
      } else if (byte === ESCAPE) this.#armed = true;
      else kept[n++] = byte;
    }
    return kept.subarray(0, n);
  }
}

const CR = 0x0d;
const LF = 0x0a;
const VT = 0x0b;

/**
 * Output for a terminal whose driver turns LF into CR LF (OPOST with ONLCR, which Deno's raw mode leaves on). A guest's LF means
 * down, in the same column; terminals do the same at a VT, which the driver lets pass. CR LF is the same either way and stays.
 */
export class LineFeedFilter {
  #last = 0;

  /** May change `bytes` in place. */
  filter(bytes: Uint8Array): Uint8Array {
    for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) {
      if ((at > 0 ? bytes[at - 1] : this.#last) !== CR) bytes[at] = VT;
    }
    if (bytes.length > 0) this.#last = bytes[bytes.length - 1]!;
    return bytes;
  }
}
