/** Option ROMs: images one after the other, each with the identifiers of the device that it is for. Spec: [pcifw §5.1]. */
import { cannotLoad, type Named, readInto, withFile } from "./host_file.ts";

const PAGE_BYTES = 4096;
const MAX_OPTION_ROM_BYTES = 512 * 1024;
const BLOCK_BYTES = 512;
/** [pcifw §5.1.1] An image starts with this; an image of code for a BIOS then has its length, in blocks, and its entry. */
const SIGNATURE = 0xaa55;
const BLOCKS_AT = 2, ENTRY_AT = 3, PCIR_AT = 0x18;
/** [pcifw §5.1.2] The PCI data structure that PCIR_AT leads to. */
const PCIR = {
  SIGNATURE: 0,
  VENDOR_ID: 4,
  DEVICE_ID: 6,
  IMAGE_BLOCKS: 0x10,
  CODE_TYPE: 0x14,
  INDICATOR: 0x15,
  BYTES: 0x18,
};
const PCIR_SIGNATURE = 0x52494350;
const CODE_TYPE_BIOS = 0;
const LAST_IMAGE = 0x80;

/** Reads an expansion ROM; what is given is a power of two long, as its BAR is. */
export function readOptionRom(name: Named): Uint8Array {
  const bytes = withFile(name, (file, sizeBytes) => {
    if (sizeBytes > MAX_OPTION_ROM_BYTES) throw cannotLoad(name, `${sizeBytes} bytes is too large for an option ROM`);
    const all = new Uint8Array(sizeBytes);
    readInto(name, file, all);
    return all;
  });
  if (bytes.length < 3 || (bytes[0]! | (bytes[1]! << 8)) !== SIGNATURE) {
    throw cannotLoad(name, "it is not an option ROM: the first two bytes were expected to be 55h and AAh");
  }
  const padded = new Uint8Array(2 ** Math.ceil(Math.log2(Math.max(PAGE_BYTES, bytes.length))));
  padded.set(bytes);
  return padded;
}

/**
 * Makes every image one for this device: a ROM whose driver knows a card under several numbers names one of them, and firmware
 * leaves alone what is for another. The sum of a BIOS's image stays what it was.
 */
export function dedicate(rom: Uint8Array, vendor: number, device: number): void {
  const view = new DataView(rom.buffer, rom.byteOffset, rom.length);
  for (let at = 0; at + PCIR_AT + 2 <= rom.length && view.getUint16(at, true) === SIGNATURE;) {
    const data = at + view.getUint16(at + PCIR_AT, true);
    if (data + PCIR.BYTES > rom.length || view.getUint32(data + PCIR.SIGNATURE, true) !== PCIR_SIGNATURE) return;
    const before = sum(rom, data + PCIR.VENDOR_ID, 4);
    const spare = rom[data + PCIR.CODE_TYPE] === CODE_TYPE_BIOS ? spareByte(rom, at) : data;
    // Without a byte to make up for it, other identifiers would spoil the sum.
    if (spare >= 0) {
      view.setUint16(data + PCIR.VENDOR_ID, vendor, true);
      view.setUint16(data + PCIR.DEVICE_ID, device, true);
      if (spare !== data) rom[spare]! -= sum(rom, data + PCIR.VENDOR_ID, 4) - before;
    }
    const bytes = view.getUint16(data + PCIR.IMAGE_BLOCKS, true) * BLOCK_BYTES;
    if (bytes === 0 || rom[data + PCIR.INDICATOR]! & LAST_IMAGE) return;
    at += bytes;
  }
}

/** A byte that nothing reads: behind a jump at the entry and before the words of the header. -1 if the entry is no jump. */
function spareByte(rom: Uint8Array, at: number): number {
  const jump = rom[at + ENTRY_AT];
  const end = at + rom[at + BLOCKS_AT]! * BLOCK_BYTES;
  return (jump === 0xe9 || jump === 0xeb) && end <= rom.length ? at + ENTRY_AT + 3 : -1;
}

function sum(bytes: Uint8Array, at: number, length: number): number {
  return bytes.subarray(at, at + length).reduce((a, b) => a + b, 0);
}
