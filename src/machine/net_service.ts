/**
 * The network device on the host's side, in the one thread that serves its queues: frames go from the transmit queue to the
 * back end, and from the back end into the receive queue. The machine lock is free.
 */
import type { NetworkCard } from "../../devices/network_card.ts";
import type { FrameOffload } from "../../devices/virtio/net_header.ts";
import { ConfigError, messageOf } from "../base/errors.ts";
import { PcapFile } from "../host/net/pcap.ts";
import { UserNet } from "../host/net/user_net.ts";
import type { Wire } from "../host/net/wire.ts";
import { NetBell } from "./control.ts";
import { type BackendParts, makeBackend, type OpenableBackend } from "./net_backends.ts";
import { Steering } from "./net_steering.ts";
import type { Pc } from "./pc.ts";
import { MAX_NET_PAIRS, type NetSpec, type PublishSpec } from "./spec.ts";

/** The most that a deadline is late because a timer was already set for later. */
const TICK_MS = 20;

export class NetService {
  readonly #device: NetworkCard;
  readonly #steering = new Steering();
  #pcap: PcapFile | null;
  readonly #parts: BackendParts;
  #backend!: OpenableBackend; // since `open`
  #flushing = false;
  /** The other end of the cable is there, and so is this one. */
  #carrier = true;
  #plugged = true;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAtMs = Infinity;

  constructor(
    private readonly pc: Pc,
    private readonly net: NetSpec,
    private readonly trouble: (sentence: string) => void,
  ) {
    const device = this.#device = pc.net!;
    this.#pcap = net.pcap === null ? null : PcapFile.open(net.pcap);
    const wire: Wire = {
      get checksums() {
        return device.guestChecksums;
      },
      get segments() {
        return device.guestSegments;
      },
      get segments6() {
        return device.guestSegments6;
      },
      send: (frame, offload) => this.#send(frame, offload),
    };
    this.#parts = {
      wire,
      nowMs: () => this.#nowMs(),
      armed: () => this.#armed(),
      linkChanged: (up) => {
        this.#carrier = up;
        this.#showLink();
      },
      trouble,
    };
  }

  /** Rejects with HostError or ConfigError. */
  async open(): Promise<void> {
    this.#backend = await makeBackend(this.net, this.#parts);
    await this.#backend.open();
  }

  /** Lets clients of one more port of the host's in, or of one less. Rejects with HostError or ConfigError. */
  async addForward(one: PublishSpec): Promise<void> {
    await this.#user("add").addForward(one);
  }

  removeForward(one: Pick<PublishSpec, "protocol" | "address" | "port">): void {
    if (this.#user("remove").removeForward(one)) return;
    throw new ConfigError(
      `Cannot remove ${one.address}:${one.port}/${one.protocol}: expected a port that is published`,
    );
  }

  get forwards(): readonly PublishSpec[] {
    return this.#backend instanceof UserNet ? this.#backend.forwards : [];
  }

  /** Pulls the guest's cable, or puts it back. */
  plug(plugged: boolean): void {
    this.#plugged = plugged;
    this.#showLink();
  }

  get linkUp(): boolean {
    return this.#carrier && this.#plugged;
  }

  #showLink(): void {
    if (this.#device.linkUp !== this.linkUp) this.pc.lock.with(() => this.#device.setLink(this.linkUp));
  }

  #user(what: string): UserNet {
    if (this.#backend instanceof UserNet) return this.#backend;
    throw new ConfigError(`Cannot ${what} a published port: expected a machine with --net user`);
  }

  /** Serves until the machine says that it is enough. */
  async run(): Promise<void> {
    const { control } = this.pc, device = this.#device, backend = this.#backend;
    let pair = 0;
    const receive = (frame: Uint8Array, offload: Readonly<FrameOffload>) => {
      this.#capture(frame);
      if (device.activePairs > 1) this.#steering.sent(frame, pair);
      backend.receive(frame, offload);
    };
    for (;;) {
      // Read before the words it counts, so that a later ring ends the wait at once.
      const doorbell = control.netDoorbell;
      if (control.netQuit) break;
      if (control.netHold) {
        device.flush();
        control.netHeld();
      } else {
        const rung = control.takeNet();
        if (rung & NetBell.RESET) backend.guestReset();
        if (rung & NetBell.CONTROL && device.serveControl()) control.ringNet(NetBell.CONTROL);
        // Also after a reset, or a snapshot: cards then are as they were made, or were.
        this.#showLink();
        if (rung & NetBell.RECEIVE) backend.room();
        for (pair = 0; pair < MAX_NET_PAIRS; pair++) {
          const bell = NetBell.TRANSMIT << pair;
          if (!(rung & bell)) continue;
          if (device.transmit(pair, receive)) control.ringNet(bell);
          backend.endOfBurst();
        }
        device.flush();
        if (rung) this.#armed();
      }
      const wait = control.waitNet(doorbell);
      // Sockets have their turn even if the guest never pauses.
      await (wait ?? new Promise<void>((resolve) => setImmediate(resolve)));
    }
    backend.close();
    clearTimeout(this.#timer);
    this.#pcap?.close();
  }

  #nowMs(): number {
    return this.pc.clock.nowNs() / 1e6;
  }

  #send(frame: Uint8Array, offload: Readonly<FrameOffload>): boolean {
    if (this.pc.control.netHold) return false;
    const pairs = this.#device.activePairs;
    const delivery = this.#device.deliver(pairs > 1 ? this.#steering.pairOf(frame, pairs) : 0, frame, offload);
    if (delivery === "full") return false;
    if (delivery === "delivered") {
      this.#capture(frame);
      if (!this.#flushing) {
        this.#flushing = true;
        queueMicrotask(this.#flush);
      }
    }
    return true;
  }

  readonly #flush = () => {
    this.#flushing = false;
    this.#device.flush();
  };

  #capture(frame: Uint8Array): void {
    try {
      this.#pcap?.add(frame, performance.timeOrigin + performance.now());
    } catch (error) {
      this.#pcap?.close();
      this.#pcap = null;
      this.trouble(`${messageOf(error)}; it ends here`);
    }
  }

  #armed(): void {
    const atMs = performance.now() + TICK_MS;
    if (this.#timerAtMs <= atMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(this.#tick, TICK_MS);
  }

  readonly #tick = () => {
    this.#timerAtMs = Infinity;
    if (this.pc.control.netHold) return; // time stands still; it is looked at again when it goes on
    const waitMs = Math.max(TICK_MS, this.#backend.tick() - this.#nowMs());
    if (waitMs === Infinity) return;
    this.#timerAtMs = performance.now() + waitMs;
    this.#timer = setTimeout(this.#tick, waitMs);
  };
}
