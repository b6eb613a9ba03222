/**
 * The vmnet back end: a network of macOS's own, behind its NAT, of the host alone, or bridged to an interface. Several packets go
 * in one call, both ways.
 */
import { NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { interface_event_t, iovec, vmnet_mode_t, vmnet_return_t, vmpktdesc } from "../../../ffi/vmnet.ts";
import { addressOf, Block, cString, openVmnet, refusal, type VmnetLibrary } from "./vmnet_library.ts";
import type { NetBackend, Wire } from "./wire.ts";

const MODES = {
  shared: vmnet_mode_t.VMNET_SHARED_MODE,
  host: vmnet_mode_t.VMNET_HOST_MODE,
  bridged: vmnet_mode_t.VMNET_BRIDGED_MODE,
} as const;
/** In one call, unless the framework wants less. */
const MAX_PACKETS = 64;
const DEFAULT_PACKET_BYTES = 1514;
const { VMNET_SUCCESS } = vmnet_return_t;
/** Time for calls that are on their way back, before what they call goes. */
const LAST_CALLS_MS = 100;

export interface VmnetOptions {
  readonly mode: keyof typeof MODES;
  /** The interface to bridge to. */
  readonly interface: string | null;
}

/** Buffers for several packets, with the descriptors that name them. */
class Batch {
  readonly buffers: Uint8Array[];
  readonly descriptors: Uint8Array<ArrayBuffer>;
  readonly count = new Int32Array(1);
  // SAFETY: the descriptors point into these, which live as long as the batch.
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #iovecs: Uint8Array<ArrayBuffer>;
  readonly #descriptorView: DataView;
  readonly #iovecView: DataView;

  constructor(readonly packets: number, readonly packetBytes: number) {
    this.#bytes = new Uint8Array(packets * packetBytes);
    this.buffers = Array.from(
      { length: packets },
      (_, i) => this.#bytes.subarray(i * packetBytes, (i + 1) * packetBytes),
    );
    this.#iovecs = new Uint8Array(packets * iovec.SIZEOF);
    this.descriptors = new Uint8Array(packets * vmpktdesc.SIZEOF);
    this.#iovecView = new DataView(this.#iovecs.buffer);
    this.#descriptorView = new DataView(this.descriptors.buffer);
    const bytesAt = addressOf(Deno.UnsafePointer.of(this.#bytes));
    const iovecsAt = addressOf(Deno.UnsafePointer.of(this.#iovecs));
    for (let i = 0; i < packets; i++) {
      const at = i * vmpktdesc.SIZEOF;
      this.#iovecView.setBigUint64(i * iovec.SIZEOF + iovec.iov_base, bytesAt + BigInt(i * packetBytes), true);
      this.#descriptorView.setBigUint64(at + vmpktdesc.vm_pkt_iov, iovecsAt + BigInt(i * iovec.SIZEOF), true);
      this.#descriptorView.setUint32(at + vmpktdesc.vm_pkt_iovcnt, 1, true);
    }
  }

  sizeOf(i: number): number {
    return Number(this.#descriptorView.getBigUint64(i * vmpktdesc.SIZEOF + vmpktdesc.vm_pkt_size, true));
  }

  setSize(i: number, bytes: number): void {
    this.#descriptorView.setBigUint64(i * vmpktdesc.SIZEOF + vmpktdesc.vm_pkt_size, BigInt(bytes), true);
    this.#iovecView.setBigUint64(i * iovec.SIZEOF + iovec.iov_len, BigInt(bytes), true);
  }
}

export class VmnetNet implements NetBackend {
  #library: VmnetLibrary | null = null;
  #handle: Deno.PointerValue = null;
  #queue: Deno.PointerValue = null;
  #events: Block<["u32", "pointer"]> | null = null;
  #in = new Batch(1, DEFAULT_PACKET_BYTES);
  #out = this.#in;
  /** Frames in #out. */
  #waiting = 0;
  /** Packets in #in that the guest has no room for yet: from here up to there. */
  #next = 0;
  #end = 0;
  #closed = false;

  constructor(private readonly wire: Wire, private readonly options: VmnetOptions) {}

  /** Starts the interface. Rejects with HostError. */
  async open(): Promise<void> {
    const library = this.#library = openVmnet();
    const { vmnet, system } = library;
    const queue = this.#queue = system.dispatch_queue_create(cString("trike.net"), null);
    const wish = system.xpc_dictionary_create(null, null, 0n);
    system.xpc_dictionary_set_uint64(wish, cString("vmnet_operation_mode"), BigInt(MODES[this.options.mode]));
    if (this.options.interface !== null) {
      system.xpc_dictionary_set_string(wish, cString("vmnet_shared_interface_name"), cString(this.options.interface));
    }
    const done = Promise.withResolvers<{ status: number; packetBytes: number; reads: number; writes: number }>();
    const started = new Block(system, ["u32", "pointer"], (status, found) => {
      // The dictionary is good during the call only.
      const get = (key: string) => found === null ? 0 : Number(system.xpc_dictionary_get_uint64(found, cString(key)));
      done.resolve({
        status,
        packetBytes: get("vmnet_max_packet_size") || DEFAULT_PACKET_BYTES,
        reads: get("vmnet_read_max_packets") || MAX_PACKETS,
        writes: get("vmnet_write_max_packets") || MAX_PACKETS,
      });
    });
    const handle = vmnet.vmnet_start_interface(wish, queue, started.pointer);
    system.xpc_release(wish);
    if (handle === null) throw refusal("vmnet_start_interface", vmnet_return_t.VMNET_FAILURE);
    const { status, packetBytes, reads, writes } = await done.promise;
    setTimeout(() => started.release(), LAST_CALLS_MS);
    if (status !== VMNET_SUCCESS) throw refusal("vmnet_start_interface", status);
    this.#handle = handle;
    this.#in = new Batch(Math.min(MAX_PACKETS, reads), packetBytes);
    this.#out = new Batch(Math.min(MAX_PACKETS, writes), packetBytes);
    this.#events = new Block(system, ["u32", "pointer"], () => this.#read());
    const mask = interface_event_t.VMNET_INTERFACE_PACKETS_AVAILABLE;
    const heard = vmnet.vmnet_interface_set_event_callback(handle, mask, queue, this.#events.pointer);
    if (heard !== VMNET_SUCCESS) throw refusal("vmnet_interface_set_event_callback", heard);
    this.#read();
  }

  /** Takes packets until there are none, or the guest has no room. */
  #read(): void {
    const batch = this.#in;
    while (!this.#closed && this.#handle !== null) {
      for (; this.#next < this.#end; this.#next++) {
        const size = Math.min(batch.packetBytes, batch.sizeOf(this.#next));
        if (!this.wire.send(batch.buffers[this.#next]!.subarray(0, size), NO_OFFLOAD)) return;
      }
      this.#next = this.#end = 0;
      // Each call overwrites the sizes.
      for (let i = 0; i < batch.packets; i++) batch.setSize(i, batch.packetBytes);
      batch.count[0] = batch.packets;
      const status = this.#library!.vmnet.vmnet_read(this.#handle, batch.descriptors, batch.count);
      if (status !== VMNET_SUCCESS || batch.count[0]! <= 0) return;
      this.#end = Math.min(batch.packets, batch.count[0]!);
    }
  }

  receive(frame: Uint8Array): void {
    const batch = this.#out;
    // The framework refuses a whole call for one packet that is too large.
    if (this.#handle === null || frame.length > batch.packetBytes) return;
    batch.buffers[this.#waiting]!.set(frame);
    batch.setSize(this.#waiting++, frame.length);
    if (this.#waiting === batch.packets) this.endOfBurst();
  }

  endOfBurst(): void {
    if (this.#waiting === 0 || this.#handle === null) return;
    this.#out.count[0] = this.#waiting;
    this.#waiting = 0;
    // What it has no room for is lost, as on any cable.
    this.#library!.vmnet.vmnet_write(this.#handle, this.#out.descriptors, this.#out.count);
  }

  room(): void {
    this.#read();
  }

  guestReset(): void {
    this.#next = this.#end = 0;
    this.#read();
  }

  tick(): number {
    return Infinity;
  }

  close(): void {
    this.#closed = true;
    const handle = this.#handle, library = this.#library, queue = this.#queue;
    if (handle === null || library === null) return;
    this.#handle = null;
    const { vmnet, system } = library;
    vmnet.vmnet_interface_set_event_callback(handle, 0, null, null);
    const stopped: Block<["u32"]> = new Block(system, ["u32"], () => {
      setTimeout(() => {
        stopped.release();
        this.#events?.release();
        system.dispatch_release(queue);
      }, LAST_CALLS_MS);
    });
    vmnet.vmnet_stop_interface(handle, queue, stopped.pointer);
  }
}
