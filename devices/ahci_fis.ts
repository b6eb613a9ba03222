/** The FISes that a device sends. Spec: [sata §10.5]. */
import type { AtaRequest } from "./ahci_ata.ts";
import { FIS } from "./ahci_registers.ts";

/** A Register FIS or a PIO Setup FIS, of 20 bytes, with what is to be said of a command. */
export function fillFis(fis: Uint8Array, type: number, r: AtaRequest, interrupt: boolean): void {
  fis.fill(0);
  fis[0] = type;
  fis[1] = interrupt ? 0x40 : 0;
  fis[2] = r.status;
  fis[3] = r.error;
  const lo = r.lba % 0x100_0000, hi = Math.floor(r.lba / 0x100_0000);
  for (let i = 0; i < 3; i++) {
    fis[4 + i] = lo >>> (8 * i);
    fis[8 + i] = hi >>> (8 * i);
  }
  fis[7] = r.device;
  fis[12] = r.count;
  fis[13] = r.count >>> 8;
  if (type !== FIS.PIO_SETUP) return;
  fis[1]! |= 0x20; // to the host
  fis[15] = r.status;
  fis[16] = r.moved;
  fis[17] = r.moved >>> 8;
}

/** A Set Device Bits FIS, of 8 bytes: the queued commands that are done, as bits. */
export function fillSetDeviceBits(fis: Uint8Array, r: AtaRequest, done: number): void {
  fis.fill(0);
  fis[0] = FIS.SDB;
  fis[1] = 0x40;
  fis[2] = r.status & 0x77;
  fis[3] = r.error;
  for (let i = 0; i < 4; i++) fis[4 + i] = done >>> (8 * i);
}
