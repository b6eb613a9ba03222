/** The functions about interfaces: start, events, read, write, stop, port forwarding. */
import { interface_event_t, vmnet_mode_t, vmnet_return_t as R } from "../../../ffi/vmnet.ts";
import { viewOf } from "../host.ts";
import { at, put32, put8 } from "../out.ts";
import type { Functions } from "../thread.ts";
import { blockFault, callBlock, callBlockWith } from "./blocks.ts";
import { STATE, type Switch, VIRTIO_HEADER } from "./switch.ts";
import { TYPE, Xpc } from "./xpc.ts";

const MAX_PACKETS = 256, ETHERNET = 14;
const AF_INET = 2, AF_INET6 = 30, TCP = 6, UDP = 17;
const IOV_BYTES = 16, DESCRIPTOR_BYTES = 24;

export interface Rule {
  readonly protocol: number;
  readonly external: number;
  readonly family: number;
  readonly address: Uint8Array;
  readonly internal: number;
}

export interface Surroundings {
  /** The address of _NSConcreteGlobalBlock. */
  readonly globalClass: bigint;
  /** What starting an interface ends with: VMNET_SUCCESS, or what a process without rights gets. */
  readonly startStatus: number;
}

/** A description that a start accepts, or null. */
function describe(desc: bigint) {
  if (!Xpc.isDictionary(desc)) return null;
  const mode = Number(Xpc.uint64(desc, "vmnet_operation_mode"));
  if (!Object.values(vmnet_mode_t).includes(mode as never)) return null;
  const has = (key: string, type: number) => Xpc.value(desc, key, type) !== 0n;
  const flag = (key: string) => {
    const address = Xpc.value(desc, key, TYPE.BOOL);
    return address !== 0n && at(address, 1).getUint8(0) !== 0;
  };
  const bridged = mode === vmnet_mode_t.VMNET_BRIDGED_MODE;
  if (bridged && !has("vmnet_shared_interface_name", TYPE.STRING)) return null;
  // Together or not at all; private addresses only.
  const range = ["vmnet_start_address", "vmnet_end_address", "vmnet_subnet_mask"];
  const given = range.filter((key) => has(key, TYPE.STRING)).length;
  if (given !== 0 && given !== range.length) return null;
  const start = Xpc.string(desc, range[0]!);
  if (start !== undefined && !/^(10|192\.168|172\.(1[6-9]|2\d|3[01]))\./.test(start)) return null;
  const mtu = Xpc.uint64(desc, "vmnet_mtu");
  if (mtu !== 0n && (bridged || mtu < 1280n || mtu > 9000n)) return null;
  const virtio = flag("vmnet_enable_virtio_header");
  if (virtio && flag("vmnet_enable_checksum_offload")) return null;
  const networkId = Xpc.value(desc, "vmnet_network_identifier", TYPE.UUID);
  if (networkId !== 0n && mode !== vmnet_mode_t.VMNET_HOST_MODE) return null;
  return {
    mode,
    mtu: mtu === 0n ? 1500 : Number(mtu),
    tso: flag("vmnet_enable_tso"),
    isolated: flag("vmnet_enable_isolation"),
    virtio,
    network: networkId === 0n ? 0n : at(networkId, 8).getBigUint64(0, true),
    start: start ?? "192.168.64.1",
    end: Xpc.string(desc, range[1]!) ?? "192.168.64.254",
    mask: Xpc.string(desc, range[2]!) ?? "255.255.255.0",
    allocatesMac: !has("vmnet_allocate_mac_address", TYPE.BOOL) || flag("vmnet_allocate_mac_address"),
  };
}

export class Interfaces {
  readonly rules = new Map<number, Rule[]>();

  constructor(readonly net: Switch, readonly around: Surroundings) {}

  #isBlock(block: bigint): boolean {
    const fault = blockFault(block, this.around.globalClass);
    if (fault !== null) console.error(`double: a block that would end the process on a Mac: ${fault}`);
    return fault === null;
  }

  /** `network`: of an object, whose configuration the interface has; else of the description. */
  start(desc: bigint, queue: bigint, block: bigint, network = 0n): bigint {
    if (desc === 0n || !Xpc.isQueue(queue) || !this.#isBlock(block)) return 0n;
    const wanted = describe(desc), refused = this.around.startStatus !== R.VMNET_SUCCESS;
    const largest = wanted?.tso ? 65_550 : (wanted?.mtu ?? 1500) + ETHERNET;
    const id = network === 0n ? wanted?.network ?? 0n : network;
    const i = this.net.claim(wanted?.mode ?? 0, id, largest, wanted?.isolated ?? false, wanted?.virtio ?? false);
    if (i < 0) return 0n;
    const status = wanted === null ? R.VMNET_INVALID_ARGUMENT : refused ? this.around.startStatus : R.VMNET_SUCCESS;
    if (status !== R.VMNET_SUCCESS) {
      callBlock(block, status, 0n).then(() => this.net.setState(i, STATE.FREE));
      return this.net.handle(i);
    }
    const mac = `52:54:00:00:00:${(i + 1).toString(16).padStart(2, "0")}`;
    const param = Xpc.dictionary({
      ...(wanted!.allocatesMac ? { vmnet_mac_address: mac } : {}),
      vmnet_mtu: BigInt(wanted!.mtu),
      vmnet_max_packet_size: BigInt(largest),
      vmnet_interface_id: crypto.getRandomValues(new Uint8Array(16)),
      vmnet_start_address: wanted!.start,
      vmnet_end_address: wanted!.end,
      vmnet_subnet_mask: wanted!.mask,
      vmnet_read_max_packets: BigInt(MAX_PACKETS),
      vmnet_write_max_packets: BigInt(MAX_PACKETS),
    });
    // Usable once the block is called, and that is later.
    setTimeout(() => {
      this.net.setState(i, STATE.STARTED);
      callBlock(block, status, param).then(() => Xpc.release(param));
    }, 0);
    return this.net.handle(i);
  }

  setEvents(handle: bigint, mask: number, queue: bigint, block: bigint): number {
    const i = this.net.find(handle);
    if (i < 0 || mask & ~interface_event_t.VMNET_INTERFACE_PACKETS_AVAILABLE) return R.VMNET_INVALID_ARGUMENT;
    if ((queue === 0n) !== (block === 0n)) return R.VMNET_INVALID_ARGUMENT;
    if (block !== 0n && (!Xpc.isQueue(queue) || !this.#isBlock(block))) return R.VMNET_INVALID_ARGUMENT;
    this.net.setEvents(i, block === 0n ? 0 : mask, block);
    this.#tell(i);
    return R.VMNET_SUCCESS;
  }

  /** Calls the event block while frames wait. */
  #tell(i: number): void {
    const block = this.net.takeEvent(i);
    if (block === 0n) return;
    const event = Xpc.dictionary({ vmnet_estimated_packets_available: BigInt(this.net.waiting(i)) });
    callBlock(block, interface_event_t.VMNET_INTERFACE_PACKETS_AVAILABLE, event).then(() => {
      Xpc.release(event);
      this.net.called(i);
    });
  }

  /** The packets of a call: their descriptors and the places they name; a number is what is wrong. */
  #packets(handle: bigint, packets: bigint, count: bigint): { i: number; list: DataView[] } | number {
    const i = this.net.find(handle);
    if (i < 0 || packets === 0n || count === 0n) return R.VMNET_INVALID_ARGUMENT;
    if (this.net.state(i) === STATE.STARTING) return R.VMNET_SETUP_INCOMPLETE;
    if (this.net.state(i) !== STATE.STARTED) return R.VMNET_INVALID_ACCESS;
    const n = at(count, 4).getInt32(0, true);
    if (n < 1) return R.VMNET_INVALID_ARGUMENT;
    if (n > MAX_PACKETS) return R.VMNET_TOO_MANY_PACKETS;
    const list = Array.from({ length: n }, (_, k) => at(packets + BigInt(k * DESCRIPTOR_BYTES), DESCRIPTOR_BYTES));
    for (const d of list) {
      if (d.getBigUint64(8, true) === 0n || d.getUint32(16, true) === 0) return R.VMNET_INVALID_ARGUMENT;
    }
    return { i, list };
  }

  #pieces(descriptor: DataView): Uint8Array[] {
    const iov = descriptor.getBigUint64(8, true), n = descriptor.getUint32(16, true), table = at(iov, n * IOV_BYTES);
    return Array.from({ length: n }, (_, k) => {
      const base = table.getBigUint64(k * IOV_BYTES, true),
        length = Number(table.getBigUint64(k * IOV_BYTES + 8, true));
      return length === 0 ? new Uint8Array(0) : new Uint8Array(viewOf(base, length));
    });
  }

  read(handle: bigint, packets: bigint, count: bigint): number {
    const call = this.#packets(handle, packets, count);
    if (typeof call === "number") return call;
    const { i, list } = call;
    let done = 0;
    for (const descriptor of list) {
      const frame = this.net.receive(i);
      if (frame === null) break;
      const header = this.net.hasHeader(i) ? VIRTIO_HEADER : 0;
      const bytes = new Uint8Array(header + frame.length);
      bytes.set(frame, header);
      const room = Number(descriptor.getBigUint64(0, true));
      let left = bytes.subarray(0, room);
      // What does not fit is cut off.
      for (const piece of this.#pieces(descriptor)) {
        const part = left.subarray(0, piece.length);
        piece.set(part);
        left = left.subarray(part.length);
      }
      descriptor.setBigUint64(0, BigInt(Math.min(room, bytes.length) - left.length), true);
      descriptor.setUint32(20, 0, true);
      done++;
    }
    put32(count, done);
    return R.VMNET_SUCCESS;
  }

  /** All of them, or none. */
  write(handle: bigint, packets: bigint, count: bigint): number {
    const call = this.#packets(handle, packets, count);
    if (typeof call === "number") return call;
    const { i, list } = call, header = this.net.hasHeader(i) ? VIRTIO_HEADER : 0;
    const frames: Uint8Array[] = [];
    for (const descriptor of list) {
      const size = Number(descriptor.getBigUint64(0, true)), pieces = this.#pieces(descriptor);
      if (size > this.net.largest(i) + header) return R.VMNET_PACKET_TOO_BIG;
      if (size < ETHERNET + header || pieces.reduce((sum, p) => sum + p.length, 0) < size) {
        return R.VMNET_INVALID_ARGUMENT;
      }
      const frame = new Uint8Array(size);
      let at = 0;
      for (const piece of pieces) {
        frame.set(piece.subarray(0, size - at), at);
        at = Math.min(size, at + piece.length);
      }
      frames.push(frame.subarray(header));
    }
    const reached = new Set(frames.flatMap((frame) => this.net.send(i, frame)));
    for (const other of reached) this.#tell(other);
    return R.VMNET_SUCCESS;
  }

  stop(handle: bigint, queue: bigint, block: bigint): number {
    const i = this.net.find(handle);
    if (i < 0 || !Xpc.isQueue(queue) || !this.#isBlock(block)) return R.VMNET_INVALID_ARGUMENT;
    if (this.net.state(i) !== STATE.STARTED) return R.VMNET_INVALID_ACCESS;
    this.net.setState(i, STATE.STOPPED);
    this.rules.delete(i);
    callBlock(block, R.VMNET_SUCCESS, null).then(() => this.net.setState(i, STATE.FREE));
    return R.VMNET_SUCCESS;
  }

  /** Calls a rule's block, if there is one. */
  #ruled(block: bigint, status: number): number {
    if (block !== 0n) callBlock(block, status, null);
    return status;
  }

  addRule(handle: bigint, rule: Rule, block: bigint): number {
    const i = this.net.find(handle);
    const known = [TCP, UDP].includes(rule.protocol) && [AF_INET, AF_INET6].includes(rule.family);
    if (i < 0 || !known || rule.external === 0 || rule.internal === 0) return R.VMNET_INVALID_ARGUMENT;
    if (this.net.mode(i) !== vmnet_mode_t.VMNET_SHARED_MODE) return R.VMNET_INVALID_ARGUMENT;
    const list = this.rules.get(i) ?? [];
    const same = (other: Rule) => other.protocol === rule.protocol && other.external === rule.external;
    if (list.some((other) => same(other) && other.family === rule.family)) return R.VMNET_INVALID_ARGUMENT;
    this.rules.set(i, [...list, rule]);
    return this.#ruled(block, R.VMNET_SUCCESS);
  }

  removeRule(handle: bigint, protocol: number, external: number, family: number, block: bigint): number {
    const i = this.net.find(handle), list = this.rules.get(i) ?? [];
    const rest = list.filter((r) => r.protocol !== protocol || r.external !== external || r.family !== family);
    if (i < 0 || rest.length === list.length) return R.VMNET_INVALID_ARGUMENT;
    this.rules.set(i, rest);
    return this.#ruled(block, R.VMNET_SUCCESS);
  }

  getRules(handle: bigint, family: number, block: bigint): number {
    const i = this.net.find(handle);
    if (i < 0 || !this.#isBlock(block)) return R.VMNET_INVALID_ARGUMENT;
    const rules = (this.rules.get(i) ?? []).filter((rule) => rule.family === family).map(encodeRule);
    const array = rules.length === 0 ? 0n : Xpc.array(rules);
    callBlockWith(block, array).then(() => Xpc.release(array));
    return R.VMNET_SUCCESS;
  }
}

/** A rule as the string that an item of the array holds. */
function encodeRule(rule: Rule): string {
  return [rule.protocol, rule.external, rule.family, rule.internal, ...rule.address].join(" ");
}

export function interfaceFunctions(interfaces: Interfaces): Functions {
  const bytesOf = (address: bigint, family: number) =>
    new Uint8Array(viewOf(address, family === AF_INET ? 4 : 16)).slice();
  return {
    vmnet_start_interface: (desc: bigint, queue: bigint, block: bigint) => interfaces.start(desc, queue, block),
    vmnet_interface_set_event_callback: (handle: bigint, mask: number, queue: bigint, block: bigint) =>
      interfaces.setEvents(handle, mask, queue, block),
    vmnet_read: (handle: bigint, packets: bigint, count: bigint) => interfaces.read(handle, packets, count),
    vmnet_write: (handle: bigint, packets: bigint, count: bigint) => interfaces.write(handle, packets, count),
    vmnet_stop_interface: (handle: bigint, queue: bigint, block: bigint) => interfaces.stop(handle, queue, block),
    vmnet_copy_shared_interface_list: () => Xpc.array(["en0", "en1"]),
    vmnet_interface_add_ip_port_forwarding_rule: (
      handle: bigint,
      protocol: number,
      external: number,
      family: number,
      address: bigint,
      internal: number,
      block: bigint,
    ) => {
      if (address === 0n) return R.VMNET_INVALID_ARGUMENT;
      const rule = { protocol, external, family, address: bytesOf(address, family), internal };
      return interfaces.addRule(handle, rule, block);
    },
    vmnet_interface_remove_ip_port_forwarding_rule: (
      handle: bigint,
      protocol: number,
      external: number,
      family: number,
      block: bigint,
    ) => interfaces.removeRule(handle, protocol, external, family, block),
    vmnet_interface_get_ip_port_forwarding_rules: (handle: bigint, family: number, block: bigint) =>
      interfaces.getRules(handle, family, block),
    /** The rule: an item of the array, by its address. */
    vmnet_ip_port_forwarding_rule_get_details: (
      rule: bigint,
      protocol: bigint,
      external: bigint,
      family: number,
      address: bigint,
      internal: bigint,
    ) => {
      if (rule === 0n) return R.VMNET_INVALID_ARGUMENT;
      const words = Deno.UnsafePointerView.getCString(Deno.UnsafePointer.create(rule)!).split(" ").map(Number);
      if (words.length < 8 || words[2] !== family) return R.VMNET_INVALID_ARGUMENT;
      put8(protocol, words[0]!);
      at(external, 2).setUint16(0, words[1]!, true);
      at(internal, 2).setUint16(0, words[3]!, true);
      const bytes = words.slice(4);
      new Uint8Array(viewOf(address, bytes.length)).set(bytes);
      return R.VMNET_SUCCESS;
    },
  };
}
