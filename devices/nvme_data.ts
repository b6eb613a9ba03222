/** What the NVMe controller tells of itself: Identify data and log pages. Spec: [nvme §5.15.2], [nvme §5.14.1]. */
import type { View } from "../src/base/record.ts";
import { ADMIN, LOG, MAX_EVENTS, MDTS, NVM, type NvmeRecord, PAGE_BYTES, VS } from "./nvme_registers.ts";

export interface NvmeIdentity {
  readonly sectors: number;
  readonly readonly: boolean;
  /** At most 20 characters of ASCII. */
  readonly serial: string;
  readonly discard: boolean;
}

export const PCI_VENDOR = 0xfb5d;

/** The value of CNS in Identify [nvme §5.15.1]. */
export const CNS = { NAMESPACE: 0, CONTROLLER: 1, ACTIVE_NAMESPACES: 2, DESCRIPTORS: 3 } as const;

function text(bytes: Uint8Array, at: number, length: number, words: string): void {
  for (let i = 0; i < length; i++) bytes[at + i] = i < words.length ? words.charCodeAt(i) & 0x7f : 0x20;
}

/** A 64-bit identifier from a serial number. */
function eui64(serial: string): Uint8Array {
  const id = Uint8Array.of(0x02, 0x74, 0x72, 0x6b, 0, 0, 0, 0); // locally administered
  let hash = 0x811c_9dc5;
  for (const c of serial) hash = Math.imul(hash ^ c.charCodeAt(0), 0x0100_0193) >>> 0;
  new DataView(id.buffer).setUint32(4, hash);
  return id;
}

export function identifyController({ serial, discard, readonly }: NvmeIdentity): Uint8Array {
  const bytes = new Uint8Array(PAGE_BYTES), view = new DataView(bytes.buffer);
  view.setUint16(0, PCI_VENDOR, true); // VID
  view.setUint16(2, PCI_VENDOR, true); // SSVID
  text(bytes, 4, 20, serial); // SN
  text(bytes, 24, 40, "trike disk"); // MN
  text(bytes, 64, 8, "1.0"); // FR
  bytes[77] = MDTS;
  view.setUint32(80, VS, true); // VER
  bytes[111] = 1; // CNTRLTYPE: an I/O controller
  bytes[258] = 3; // ACL
  bytes[259] = MAX_EVENTS - 1; // AERL
  bytes[260] = 3; // FRMW: one slot, read-only
  bytes[261] = 2; // LPA: the effects log
  view.setUint16(266, 353, true); // WCTEMP, kelvin
  view.setUint16(268, 373, true); // CCTEMP
  bytes[512] = 0x66; // SQES: 64 bytes
  bytes[513] = 0x44; // CQES: 16 bytes
  view.setUint32(516, 1, true); // NN
  const writes = readonly ? 0 : (1 << 3) | (discard ? 1 << 2 : 0); // Write Zeroes, Dataset Management
  view.setUint16(520, writes, true); // ONCS
  bytes[525] = 1; // VWC: there is a volatile write cache
  text(bytes, 768, 0, "");
  const nqn = `nqn.2014-08.org.nvmexpress:trike:${serial}`;
  for (let i = 0; i < nqn.length; i++) bytes[768 + i] = nqn.charCodeAt(i); // SUBNQN
  view.setUint16(2048, 2500, true); // PSD0: 25 W
  return bytes;
}

export function identifyNamespace({ sectors, serial, discard, readonly }: NvmeIdentity): Uint8Array {
  const bytes = new Uint8Array(PAGE_BYTES), view = new DataView(bytes.buffer);
  for (const at of [0, 8, 16]) { // NSZE, NCAP, NUSE
    view.setUint32(at, sectors >>> 0, true);
    view.setUint32(at + 4, Math.floor(sectors / 0x1_0000_0000), true);
  }
  bytes[24] = discard && !readonly ? 1 : 0; // NSFEAT: thin
  bytes[33] = discard && !readonly ? 1 << 3 : 0; // DLFEAT: Write Zeroes may deallocate
  bytes[99] = readonly ? 1 : 0; // NSATTR: write protected
  bytes.set(eui64(serial), 120);
  bytes[128 + 2] = 9; // LBAF0: 512 bytes
  return bytes;
}

export function activeNamespaces(after: number): Uint8Array {
  const bytes = new Uint8Array(PAGE_BYTES);
  if (after < 1) bytes[0] = 1;
  return bytes;
}

export function namespaceDescriptors({ serial }: NvmeIdentity): Uint8Array {
  const bytes = new Uint8Array(PAGE_BYTES);
  bytes[0] = 1; // an EUI-64
  bytes[1] = 8;
  bytes.set(eui64(serial), 4);
  return bytes;
}

/** A log page as a whole; null if there is none of that number. */
export function logPage(id: number, s: View<typeof NvmeRecord>): Uint8Array | null {
  switch (id) {
    case LOG.ERRORS: // no command has left an entry
      return new Uint8Array(64);
    case LOG.SMART: {
      const bytes = new Uint8Array(512), view = new DataView(bytes.buffer);
      view.setUint16(1, 310, true); // kelvin
      bytes[3] = 100; // spare, percent
      bytes[4] = 10; // its threshold
      const count = (at: number, n: number) => {
        view.setUint32(at, n >>> 0, true);
        view.setUint32(at + 4, Math.floor(n / 0x1_0000_0000), true);
      };
      count(32, Math.ceil(s.sectorsRead / 1000)); // in thousands of 512 bytes
      count(48, Math.ceil(s.sectorsWritten / 1000));
      count(64, s.reads);
      count(80, s.writes);
      return bytes;
    }
    case LOG.FIRMWARE: {
      const bytes = new Uint8Array(512);
      bytes[0] = 1;
      text(bytes, 8, 8, "1.0");
      return bytes;
    }
    case LOG.EFFECTS: {
      const bytes = new Uint8Array(4096);
      for (const code of Object.values(ADMIN)) bytes[4 * code] = 1;
      const changes: readonly number[] = [NVM.WRITE, NVM.WRITE_ZEROES, NVM.DATASET_MANAGEMENT];
      for (const code of Object.values(NVM)) bytes[1024 + 4 * code] = changes.includes(code) ? 3 : 1;
      return bytes;
    }
    default:
      return null;
  }
}
