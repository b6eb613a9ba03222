/**
 * The pvpanic device: a guest kernel tells that it has crashed.
 *
 * Spec: [pvpanic] one byte, at port 505h when on the ISA bus: reading tells which events are understood, writing reports.
 * Emulated: panicked, crash kernel loaded. Absent: the shutdown event.
 */
import { type Region, registerBank } from "../src/base/bus.ts";

export const PVPANIC_PORT = 0x505;
export const PVPANIC = { EVENTS: { at: 0, width: 1, access: "rw" } } as const;

const EVENT = { PANICKED: 1 << 0, CRASHLOADED: 1 << 1 } as const;

export type PanicEvent = "panicked" | "crashloaded";

/** Has no state, and so no record. */
export class PvPanic {
  readonly region: Region;

  constructor(parts: { readonly onPanic: (event: PanicEvent) => void }) {
    this.region = registerBank<typeof PVPANIC>({
      registers: PVPANIC,
      readRegister: () => EVENT.PANICKED | EVENT.CRASHLOADED,
      writeRegister: (_name, value) => {
        if (value & EVENT.PANICKED) parts.onPanic("panicked");
        if (value & EVENT.CRASHLOADED) parts.onPanic("crashloaded");
      },
    });
  }
}
