/**
 * The virtio 9P transport: a folder of the host under a mount tag.
 *
 * Spec: [virtio §5.9] is reserved for it; the configuration structure is a tag and its length. One queue; each chain holds a
 * request and room for its reply. What is in them is the server's business.
 *
 * The queue is served in the thread of the server, without the machine lock.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice, RegisterTable } from "../../src/base/bus.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";

const F_MOUNT_TAG = 0;
const QUEUE_SIZE = 128;
/** What one message may hold: as much as a driver with that many descriptors can send. */
export const P9_MAX_MESSAGE_BYTES = 512 * 1024;
export const P9_MAX_TAG_BYTES = 31;

/** Answers 9P messages. */
export interface P9Responder {
  /** Puts the reply to `request` into `reply`, and returns its size; 0 if there is no room for one. */
  respond(request: Uint8Array, reply: Uint8Array): number;
}

export interface VirtioP9Parts extends VirtioParts {
  /** There are requests: wake whoever answers them. */
  readonly notify: () => void;
  /** The driver has let go of the device. */
  readonly onReset?: () => void;
}

/** The device configuration structure: tag_len, then the tag a byte each. */
function configOf(tag: Uint8Array): RegisterTable {
  const bytes = Array.from(tag, (_, i) => [`tag${i}`, { at: 2 + i, width: 1, access: "ro" }] as const);
  return { tag_len: { at: 0, width: 2, access: "ro" }, ...Object.fromEntries(bytes) };
}

export class VirtioP9 extends VirtioPci {
  // Of the thread that answers only: others never come to need them.
  #request: Uint8Array | null = null;
  #reply: Uint8Array | null = null;

  constructor(arena: Arena, id: string, private readonly p9Parts: VirtioP9Parts, mountTag: string) {
    super(arena, id, p9Parts, {
      type: 9,
      classCode: 0x018000,
      features: [F_MOUNT_TAG],
      queues: 1,
      queueSize: QUEUE_SIZE,
    });
    const tag = new TextEncoder().encode(mountTag);
    const config: RegisterDevice = {
      registers: configOf(tag),
      readRegister: (reg) => reg === "tag_len" ? tag.length : tag[Number(reg.slice(3))] ?? 0,
      writeRegister: () => {},
    };
    this.showConfig(config);
  }

  protected override notified(): void {
    this.p9Parts.notify();
  }

  protected override wasReset(): void {
    this.p9Parts.onReset?.();
  }

  /** Lets `server` answer what waits, at most as much as the queue has entries. True: call again, more is waiting. */
  process(server: P9Responder): boolean {
    const q = this.acquire(0);
    if (!q) return false;
    this.#request ??= new Uint8Array(P9_MAX_MESSAGE_BYTES);
    this.#reply ??= new Uint8Array(P9_MAX_MESSAGE_BYTES);
    while (q.pop()) {
      const { chain } = q;
      // A request that is too long comes to the server cut, and it sees that.
      const n = chain.read(0, this.#request);
      const room = Math.min(chain.writableBytes, P9_MAX_MESSAGE_BYTES);
      const size = server.respond(this.#request.subarray(0, n), this.#reply.subarray(0, room));
      q.push(chain.head, chain.write(0, this.#reply.subarray(0, size)));
    }
    this.signalUsed(0);
    return this.release(0);
  }
}
