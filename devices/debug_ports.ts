/**
 * Ports through which firmware and test kernels speak: the POST code, the debug console, the debug exit.
 *
 * Spec: [isa §I/O map] port 80h, the POST code of the AT; [debugcon] and [isa-debug-exit], as emulators have agreed on them.
 * Emulated: port 80h as a latch; port 402h, which takes characters and reads as E9h; a port that ends the machine.
 * Absent: the DMA page registers that share ports 81h to 8Fh.
 */
import { type Region, registerBank } from "../src/base/bus.ts";
import { record, type View } from "../src/base/record.ts";
import type { ByteSink } from "../src/base/ring.ts";

export const POST_PORT = 0x80;
export const DEBUG_CONSOLE_PORT = 0x402;
export const DEBUG_EXIT_PORT = 0xf4;

export const POST_REGISTERS = { POST: { at: 0, width: 1, access: "rw" } } as const;
export const DEBUG_CONSOLE_REGISTERS = { CONSOLE: { at: 0, width: 1, access: "rw" } } as const;
/** Four bytes wide, so that a value of any size comes whole. */
export const DEBUG_EXIT_BYTES = 4;

const CONSOLE_PRESENT = 0xe9;

export const PostCodeRecord = record("post-code", 1, { code: "u8" });

export class PostCode {
  readonly region: Region;

  constructor(s: View<typeof PostCodeRecord>) {
    this.region = registerBank<typeof POST_REGISTERS>({
      registers: POST_REGISTERS,
      readRegister: () => s.code,
      writeRegister: (_name, value) => {
        s.code = value;
      },
    });
  }
}

export const DebugConsoleRecord = record("debug-console", 1, {
  /** Characters that found no room. */
  lost: "u32",
});

/** Unlike a serial port it cannot ask the guest to wait: what finds no room is counted and lost. */
export class DebugConsole {
  readonly region: Region;

  constructor(s: View<typeof DebugConsoleRecord>, parts: { readonly tx: ByteSink }) {
    this.region = registerBank<typeof DEBUG_CONSOLE_REGISTERS>({
      registers: DEBUG_CONSOLE_REGISTERS,
      readRegister: () => CONSOLE_PRESENT,
      writeRegister: (_name, value) => {
        if (!parts.tx.put(value)) s.lost++;
      },
    });
  }
}

/** Has no state, and so no record. */
export class DebugExit {
  readonly region: Region;

  constructor(parts: { readonly onExit: (value: number) => void }) {
    this.region = {
      read: () => 0,
      write: (offset, _size, value) => {
        if (offset === 0) parts.onExit(value);
      },
    };
  }
}
