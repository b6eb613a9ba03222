/** A disk whose master boot record speaks through the BIOS only: boot_sector.asm, assembled. */
const SECTOR = 512;

export const SECOND_SECTOR = "sector one, read by INT 13h; RAM up to ";

/** A disk image of `sectors` sectors. */
export function bootableDisk(sectors = 2048): Uint8Array {
  const disk = new Uint8Array(sectors * SECTOR);
  disk.set(Uint8Array.from(PROGRAM.match(/[0-9a-f]{2}/g)!, (x) => parseInt(x, 16)));
  disk[510] = 0x55;
  disk[511] = 0xaa;
  disk.fill(0x5a, SECTOR, 2 * SECTOR);
  disk.set(new TextEncoder().encode(SECOND_SECTOR + "\0"), SECTOR);
  return disk;
}

const PROGRAM = `
31c08ed88ec08ed0bc007c8816347dbedf7ce8bb00be387db4428a16347dcd130f829400be0080e8a600b80102b90200b6008a16347dbb0090cd
13727bbe0080bf0090b90001f3a7756e6631db66b820e8000066ba50414d5366b918000000bf0060cd15725266813e00600000100074076685db
75d7eb4066a1086066050000100066c1e814bf337d6631d266b90a00000066f7f180c2304f88156685c075e989fee82b00e81900bef67ce82200
e81000ba0406b80034efbe167de81200f4ebf7b400cd1a89d3b400cd1a39da74f8c3ac84c07409b40ebb0700cd10ebf2c30d0a626f6f74207365
63746f723a2068656c6c6f0d0a00204d69420d0a626f6f7420736563746f723a2074696d65206d6f7665730d0a000d0a626f6f7420736563746f
723a206661696c65640d0a0000000000000000909090100001000080000001`;
