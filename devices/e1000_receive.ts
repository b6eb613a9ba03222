/**
 * Receiving by the 82545EM: which frames are for this station, and how they lie in the driver's buffers.
 *
 * Spec: [e1000 §3.2] descriptors and filters, [e1000 §13.4.22] RCTL.
 */
import type { GuestRam } from "../src/base/ram.ts";
import type { View } from "../src/base/record.ts";
import { CTRL, type E1000Record, RAH_AV, RCTL, type RegisterFile, RXCSUM } from "./e1000_registers.ts";
import { sum16 } from "./internet_checksum.ts";

const DESCRIPTOR_BYTES = 16;
const CRC_BYTES = 4;
const LEAST_FRAME_BYTES = 60;
const MOST_STANDARD_BYTES = 1522; // with its FCS and a VLAN tag
const MOST_LONG_BYTES = 16384;
const STATUS = { DD: 1, EOP: 2, IXSM: 4, VP: 8, TCPCS: 0x20, IPCS: 0x40, PIF: 0x80 } as const;
const ERROR = { TCPE: 0x20, IPE: 0x40 } as const;
/** Which bits of a group's address are its hash, by RCTL.MO. */
const HASH_SHIFT = [4, 3, 2, 0] as const;
const IPV4 = 0x0800, TCP = 6, UDP = 17;

export type Filtered = "unicast" | "multicast" | "broadcast" | null;

export class ReceiveRing {
  readonly #padded = new Uint8Array(MOST_LONG_BYTES + CRC_BYTES);

  constructor(
    private readonly s: View<typeof E1000Record>,
    private readonly file: RegisterFile,
    private readonly ram: GuestRam,
    /** The address that the first receive address register has after a reset. */
    private readonly mac: Uint8Array,
  ) {}

  /** What lets the frame in; null: it is for others. */
  filter(frame: Uint8Array): Filtered {
    const rctl = this.file.get("RCTL");
    if (!this.#vlanLetsIn(frame, rctl)) return null;
    if (!(frame[0]! & 1)) return rctl & RCTL.UPE || this.#isOwn(frame) ? "unicast" : null;
    if (frame.subarray(0, 6).every((b) => b === 0xff)) return rctl & (RCTL.BAM | RCTL.MPE) ? "broadcast" : null;
    if (rctl & RCTL.MPE || this.#isOwn(frame)) return "multicast";
    const high = frame[4]! | (frame[5]! << 8);
    const hash = (high >>> HASH_SHIFT[(rctl >>> RCTL.MO) & 3]!) & 0xfff;
    return this.s.mta[hash >>> 5]! & (1 << (hash & 31)) ? "multicast" : null;
  }

  #isOwn(frame: Uint8Array): boolean {
    const low = (frame[0]! | (frame[1]! << 8) | (frame[2]! << 16) | (frame[3]! << 24)) >>> 0;
    const high = frame[4]! | (frame[5]! << 8);
    for (let i = 0; i < 16; i++) {
      const upper = this.address(2 * i + 1);
      if (upper & RAH_AV && (upper & 0xffff) === high && this.address(2 * i) === low) return true;
    }
    return false;
  }

  /** RAL (even) and RAH (odd). */
  address(index: number): number {
    return (this.s.receiveAddresses[index]! ^ this.#first(index)) >>> 0;
  }

  setAddress(index: number, value: number): void {
    this.s.receiveAddresses[index] = value ^ this.#first(index);
  }

  #first(index: number): number {
    const m = this.mac;
    if (index === 0) return m[0]! | (m[1]! << 8) | (m[2]! << 16) | (m[3]! << 24);
    return index === 1 ? (m[4]! | (m[5]! << 8)) + RAH_AV : 0;
  }

  #vlanLetsIn(frame: Uint8Array, rctl: number): boolean {
    if (!(rctl & RCTL.VFE) || !this.#tagged(frame)) return true;
    const id = ((frame[14]! << 8) | frame[15]!) & 0xfff;
    return (this.s.vfta[id >>> 5]! & (1 << (id & 31))) !== 0;
  }

  #tagged(frame: Uint8Array): boolean {
    return frame.length >= 18 && ((frame[12]! << 8) | frame[13]!) === this.file.get("VET");
  }

  /** Whether a frame of this size is not thrown away for it. */
  takes(frame: Uint8Array): boolean {
    const size = frame.length + CRC_BYTES;
    if (this.file.get("RCTL") & RCTL.LPE) return size <= MOST_LONG_BYTES;
    return size <= MOST_STANDARD_BYTES;
  }

  get #count(): number {
    return this.file.get("RDLEN") / DESCRIPTOR_BYTES;
  }

  get #free(): number {
    const count = this.#count, head = this.file.get("RDH"), tail = this.file.get("RDT");
    if (head >= count || tail >= count) return 0;
    return tail >= head ? tail - head : count - head + tail;
  }

  /** Fewer descriptors are left than RCTL.RDMTS wants to be told of. */
  get low(): boolean {
    const part = 2 << ((this.file.get("RCTL") >>> RCTL.RDMTS) & 3);
    return this.#free <= this.#count / part;
  }

  get #bufferBytes(): number {
    const rctl = this.file.get("RCTL"), n = (rctl >>> RCTL.BSIZE) & 3;
    if (rctl & RCTL.BSEX) return n === 0 ? 2048 : 32768 >>> n;
    return 2048 >>> n;
  }

  /** Puts a frame into as many buffers as it takes; false if there are not enough. */
  put(frame: Uint8Array, kind: Exclude<Filtered, null>): boolean {
    const { file, ram } = this;
    const strips = (file.get("CTRL") & CTRL.VME) !== 0 && this.#tagged(frame);
    const bytes = this.#prepare(frame, strips);
    const most = this.#bufferBytes, pieces = Math.ceil(bytes.length / most);
    if (pieces > this.#free) return false;
    const count = this.#count, base = file.get("RDBAL") + file.get("RDBAH") * 0x1_0000_0000;
    const sums = this.#checkSums(frame);
    let head = file.get("RDH");
    for (let i = 0; i < pieces; i++) {
      const gpa = base + DESCRIPTOR_BYTES * head, last = i === pieces - 1;
      const part = bytes.subarray(i * most, Math.min((i + 1) * most, bytes.length));
      ram.copyIn(ram.read64(gpa), part);
      const status = STATUS.DD | (last ? STATUS.EOP | sums.status : 0) | (last && strips ? STATUS.VP : 0) |
        (last && kind === "multicast" ? STATUS.PIF : 0);
      ram.write(gpa + 8, 4, part.length | (last ? this.#packetSum(frame) << 16 : 0));
      ram.write(gpa + 14, 2, last && strips ? (frame[14]! << 8) | frame[15]! : 0);
      ram.write(gpa + 12, 2, status | (last ? sums.errors << 8 : 0));
      head = head + 1 === count ? 0 : head + 1;
    }
    file.set("RDH", head);
    return true;
  }

  /** The frame as it arrives: padded, without a tag that goes into the descriptor, with its FCS if it is wanted. */
  #prepare(frame: Uint8Array, strips: boolean): Uint8Array {
    const out = this.#padded;
    let size = frame.length;
    if (strips) {
      out.set(frame.subarray(0, 12));
      out.set(frame.subarray(16), 12);
      size -= 4;
    } else out.set(frame);
    if (size < LEAST_FRAME_BYTES) {
      out.fill(0, size, LEAST_FRAME_BYTES);
      size = LEAST_FRAME_BYTES;
    }
    if (this.file.get("RCTL") & RCTL.SECRC) return out.subarray(0, size);
    const crc = crc32(out, size);
    for (let i = 0; i < CRC_BYTES; i++) out[size + i] = crc >>> (8 * i);
    return out.subarray(0, size + CRC_BYTES);
  }

  /** The sum over the frame from RXCSUM.PCSS on [e1000 §3.2.4]. */
  #packetSum(frame: Uint8Array): number {
    const sum = sum16(frame, this.file.get("RXCSUM") & 0xff, frame.length);
    return (sum >>> 8) | ((sum & 0xff) << 8);
  }

  /** Checks IPv4, and TCP and UDP over it, as RXCSUM asks [e1000 §3.2.9]. */
  #checkSums(frame: Uint8Array): { status: number; errors: number } {
    const rxcsum = this.file.get("RXCSUM");
    const nothing = { status: STATUS.IXSM, errors: 0 };
    if (!(rxcsum & (RXCSUM.IPOFLD | RXCSUM.TUOFLD))) return nothing;
    const at = 14;
    if (((frame[12]! << 8) | frame[13]!) !== IPV4 || frame.length < at + 20 || frame[at]! >> 4 !== 4) return nothing;
    const headerBytes = (frame[at]! & 15) * 4, total = (frame[at + 2]! << 8) | frame[at + 3]!;
    if (headerBytes < 20 || total < headerBytes || at + total > frame.length) return nothing;
    let status = 0, errors = 0;
    if (rxcsum & RXCSUM.IPOFLD) {
      status |= STATUS.IPCS;
      if (sum16(frame, at, at + headerBytes) !== 0xffff) errors |= ERROR.IPE;
    }
    const fragment = ((frame[at + 6]! << 8) | frame[at + 7]!) & 0x3fff, protocol = frame[at + 9]!;
    const size = total - headerBytes, from = at + headerBytes;
    if (!(rxcsum & RXCSUM.TUOFLD) || fragment !== 0 || (protocol !== TCP && protocol !== UDP) || size < 8) {
      return { status, errors };
    }
    if (protocol === UDP && frame[from + 6] === 0 && frame[from + 7] === 0) return { status, errors };
    status |= STATUS.TCPCS;
    const pseudo = sum16(frame, at + 12, at + 20, protocol + size);
    if (sum16(frame, from, from + size, pseudo) !== 0xffff) errors |= ERROR.TCPE;
    return { status, errors };
  }
}

/** The remainders of each byte, followed by none to seven bytes of zeros. */
const CRC_TABLES: readonly Uint32Array[] = (() => {
  const first = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb8_8320 : n >>> 1;
    return n >>> 0;
  });
  const tables = [first];
  for (let k = 1; k < 8; k++) tables.push(tables[k - 1]!.map((n) => first[n & 0xff]! ^ (n >>> 8)));
  return tables;
})();
const [T0, T1, T2, T3, T4, T5, T6, T7] = CRC_TABLES as [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
];

/** The frame check sequence [ieee8023 §3.2.9]. Eight bytes a step: of a frame, 0.9 µs in place of 4. */
export function crc32(bytes: Uint8Array, end: number): number {
  let crc = -1, i = 0;
  for (; i + 8 <= end; i += 8) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc = T7[crc & 0xff]! ^ T6[(crc >>> 8) & 0xff]! ^ T5[(crc >>> 16) & 0xff]! ^ T4[crc >>> 24]! ^
      T3[bytes[i + 4]!]! ^ T2[bytes[i + 5]!]! ^ T1[bytes[i + 6]!]! ^ T0[bytes[i + 7]!]!;
  }
  for (; i < end; i++) crc = T0[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}
